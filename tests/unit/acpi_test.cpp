#include "acpi/tables.h"

#include "test_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

namespace hearth::acpi {
namespace {

using test::TestMemory;

constexpr uint64_t root_at = 0xe1230, list_at = 0xf0000, tables_at = 0xf1000;

/// The low MiB with a root pointer, an RSDT or XSDT, and tables.
class Firmware {
public:
    TestMemory memory{0, 0x100000};

    explicit Firmware(bool extended = true) : extended_{extended} {
        memory.put_text(root_at, "RSD PTR ");
        memory.put<uint8_t>(root_at + 15, extended ? 2 : 0);
        memory.put<uint32_t>(root_at + 20, 36);
        if (extended)
            memory.put<uint64_t>(root_at + 24, list_at);
        else
            memory.put<uint32_t>(root_at + 16, list_at);
        finish_root();
        header(list_at, extended ? "XSDT" : "RSDT", 36, 1);
    }
    void finish_root() {
        memory.fix_checksum(root_at, 20, root_at + 8);
        memory.fix_checksum(root_at, 36, root_at + 32);
    }
    /// Adds a table of `size` bytes, filled by fill(address).
    template <class Fill>
    uint64_t add(std::string_view name, uint32_t size, uint8_t revision, Fill fill) {
        uint64_t at = next_;
        next_ += align_up(size, 16);
        header(at, name, size, revision);
        fill(at);
        memory.fix_checksum(at, size, at + 9);
        uint32_t width = extended_ ? 8 : 4;
        if (extended_)
            memory.put<uint64_t>(list_at + 36 + count_ * width, at);
        else
            memory.put<uint32_t>(list_at + 36 + count_ * width, static_cast<uint32_t>(at));
        ++count_;
        memory.put<uint32_t>(list_at + 4, 36 + count_ * width);
        memory.fix_checksum(list_at, 36 + count_ * width, list_at + 9);
        return at;
    }
    void bytes(uint64_t at, std::initializer_list<unsigned> values) {
        for (auto value : values)
            memory.put(at++, static_cast<uint8_t>(value));
    }
    std::unique_ptr<Tables> read(RootPointer const& root = {}) {
        auto tables = std::make_unique<Tables>();
        result = read_tables(memory, root, *tables);
        return tables;
    }
    Result<> result;

private:
    void header(uint64_t at, std::string_view name, uint32_t size, uint8_t revision) {
        memory.put_text(at, name);
        memory.put<uint32_t>(at + 4, size);
        memory.put<uint8_t>(at + 8, revision);
        memory.fix_checksum(at, size, at + 9);
    }
    bool extended_;
    uint64_t next_ = tables_at;
    uint32_t count_ = 0;
};

bool warned(Tables const& tables, std::string_view text) {
    return std::ranges::find(tables.warnings, text) != tables.warnings.end();
}

uint64_t add_madt(Firmware& f) {
    return f.add("APIC", 44 + 3 * 8 + 12 + 10 + 10 + 8 + 6 + 16 + 12 + 12, 3, [&](uint64_t at) {
        f.memory.put<uint32_t>(at + 36, 0xfee00000);
        f.memory.put<uint32_t>(at + 40, 1);
        f.bytes(at + 44, {0, 8,  0,    0,  1,  0, 0,    0, // CPU 0
                          0, 8,  1,    2,  2,  0, 0,    0, // can be plugged in
                          0, 8,  2,    4,  0,  0, 0,    0, // neither
                          1, 12, 7,    0,  0,  0, 0xc0, 0xfe, 24, 0, 0, 0, 2, 10,
                          0, 9,  9,    0,  0,  0, 0x0f, 0,           // low, level
                          2, 10, 0,    0,  2,  0, 0,    0,    0,  0, //
                          3, 8,  5,    0,  11, 0, 0,    0,           // high, edge
                          4, 6,  0xff, 5,  0,  1,                    //
                          9, 16, 0,    0,  0,  1, 0,    0,    1,  0, 0, 0, 3, 0,
                          0, 0,  10,   12, 0,  0, 3,    0,    0,  0, 1, 0, 0, 0,
                          5, 12, 0,    0,  0,  0, 0xe0, 0xfe, 1,  0, 0, 0});
    });
}

TEST(Acpi, FindsTheRootPointerInBothPlaces) {
    Firmware high;
    EXPECT_EQ(find_root_pointer(high.memory)->raw(), root_at);
    TestMemory low{0, 0x100000};
    EXPECT_FALSE(find_root_pointer(low));
    low.put<uint16_t>(0x40e, 0x9fc0);
    low.put_text(0x9fff0 - 0x200, "RSD PTR ");
    low.fix_checksum(0x9fff0 - 0x200, 20, 0x9fff0 - 0x200 + 8);
    EXPECT_EQ(find_root_pointer(low)->raw(), 0x9fff0u - 0x200);
    high.memory.put<uint8_t>(root_at + 9, 0x77); // wrong checksum
    EXPECT_FALSE(find_root_pointer(high.memory));
    high.read();
    EXPECT_EQ(high.result.error(), Errno::noent);
}

TEST(Acpi, MadtThroughEitherList) {
    for (bool extended : {true, false}) {
        Firmware f{extended};
        add_madt(f);
        auto t = f.read();
        ASSERT_TRUE(f.result);
        EXPECT_EQ(t->warnings.size(), 0u);
        EXPECT_TRUE(t->has_madt);
        EXPECT_TRUE(t->has_legacy_pics);
        EXPECT_EQ(t->local_apic_address.raw(), 0x1fee00000u); // the override
        ASSERT_EQ(t->cpus.size(), 3u);
        EXPECT_EQ(t->cpus[0], (LocalApic{0, 0, true, false}));
        EXPECT_EQ(t->cpus[1], (LocalApic{2, 1, false, true}));
        EXPECT_EQ(t->cpus[2], (LocalApic{0x100, 3, true, false}));
        ASSERT_EQ(t->io_apics.size(), 1u);
        EXPECT_EQ(t->io_apics[0].id, 7);
        EXPECT_EQ(t->io_apics[0].address.raw(), 0xfec00000u);
        EXPECT_EQ(t->io_apics[0].first_interrupt, 24u);
        ASSERT_EQ(t->overrides.size(), 2u);
        EXPECT_EQ(t->overrides[0].mode,
                  (InterruptMode{InterruptMode::Polarity::low, InterruptMode::Trigger::level}));
        EXPECT_EQ(t->overrides[1].interrupt, 2u);
        ASSERT_EQ(t->nmi_sources.size(), 1u);
        EXPECT_EQ(t->nmi_sources[0].interrupt, 11u);
        ASSERT_EQ(t->local_nmis.size(), 2u);
        EXPECT_EQ(t->local_nmis[0].processor_uid, LocalNmi::all_processors);
        EXPECT_EQ(t->local_nmis[1].pin, 1);
    }
}

TEST(Acpi, TheRootPointerMayBeGivenOrCopied) {
    Firmware f;
    add_madt(f);
    RootPointer given{.address = PhysicalAddress{root_at}};
    EXPECT_TRUE(f.read(given)->has_madt);
    RootPointer copied;
    copied.copy_size = 36;
    auto bytes = f.memory.view(PhysicalAddress{root_at}, 36);
    std::copy(bytes.begin(), bytes.end(), copied.copy.begin());
    f.memory.put<uint8_t>(root_at, 0); // only the copy is left
    EXPECT_TRUE(f.read(copied)->has_madt);
    f.read(given);
    EXPECT_EQ(f.result.error(), Errno::noent);
}

TEST(Acpi, MoreCpusThanFitAreCounted) {
    Firmware f;
    f.add("APIC", 44 + 70 * 16, 3, [&](uint64_t at) {
        for (uint32_t i = 0; i < 70; ++i) {
            f.bytes(at + 44 + i * 16, {9, 16});
            f.memory.put<uint32_t>(at + 44 + i * 16 + 4, i);
            f.memory.put<uint32_t>(at + 44 + i * 16 + 8, 1);
        }
    });
    auto t = f.read();
    EXPECT_EQ(t->cpus.size(), 64u);
    EXPECT_EQ(t->cpus.dropped(), 6u);
}

TEST(Acpi, Fadt) {
    Firmware f;
    auto at = f.add("FACP", 276, 6, [&](uint64_t a) {
        f.memory.put<uint32_t>(a + 36, 0x1000);
        f.memory.put<uint32_t>(a + 40, 0x2000);
        f.memory.put<uint16_t>(a + 46, 9);
        f.memory.put<uint32_t>(a + 56, 0x600);
        f.memory.put<uint32_t>(a + 64, 0x604);
        f.memory.put<uint32_t>(a + 76, 0x608);
        f.bytes(a + 88, {4, 2, 0, 4});
        f.memory.put<uint8_t>(a + 108, 0x32);
        f.memory.put<uint32_t>(a + 112, 1u << 8 | 1u << 10);
        f.bytes(a + 116, {1, 8, 0, 1, 0xf9, 0x0c});
        f.memory.put<uint8_t>(a + 128, 6);
        f.memory.put<uint64_t>(a + 140, 0x123456789000);
        f.bytes(a + 172, {0, 16, 0, 2, 0x00, 0x00, 0x00, 0xfe}); // in memory
    });
    auto t = f.read();
    ASSERT_TRUE(t->fixed.present);
    EXPECT_EQ(t->fixed.sci_interrupt, 9);
    EXPECT_EQ(t->fixed.pm1a_event.address, 0x600u);
    EXPECT_EQ(t->fixed.pm1a_event.width, 32);
    EXPECT_EQ(t->fixed.pm1a_control.space, RegisterAddress::Space::memory);
    EXPECT_EQ(t->fixed.pm1a_control.address, 0xfe000000u);
    EXPECT_EQ(t->fixed.pm1a_control.port(), 0u) << "it is none";
    EXPECT_EQ(t->fixed.pm1a_event.port(), 0x600u);
    EXPECT_FALSE(t->fixed.pm1b_control.present());
    EXPECT_EQ(t->fixed.pm_timer.address, 0x608u);
    EXPECT_TRUE(t->fixed.pm_timer_32_bits);
    ASSERT_TRUE(t->fixed.reset_register);
    EXPECT_EQ(t->fixed.reset_register->address, 0xcf9u);
    EXPECT_EQ(t->fixed.reset_value, 6);
    EXPECT_EQ(t->fixed.century_register, 0x32);
    EXPECT_EQ(t->fixed.dsdt.raw(), 0x123456789000u);
    EXPECT_EQ(t->fixed.facs.raw(), 0x1000u);
    // Without the flag the reset register does not count; without a length there is no timer.
    f.memory.put<uint32_t>(at + 112, 0);
    f.memory.put<uint8_t>(at + 91, 0);
    f.memory.fix_checksum(at, 276, at + 9);
    t = f.read();
    EXPECT_FALSE(t->fixed.reset_register);
    EXPECT_FALSE(t->fixed.pm_timer.present());
    EXPECT_FALSE(t->fixed.pm_timer_32_bits);
}

TEST(Acpi, AShortFadtOfVersion1) {
    Firmware f{false};
    f.add("FACP", 116, 1, [&](uint64_t a) {
        f.memory.put<uint32_t>(a + 40, 0x2000);
        f.memory.put<uint32_t>(a + 112, 1u << 10);
    });
    auto t = f.read();
    EXPECT_TRUE(t->fixed.present);
    EXPECT_EQ(t->fixed.dsdt.raw(), 0x2000u);
    EXPECT_FALSE(t->fixed.reset_register);
    Firmware shorter;
    shorter.add("FACP", 115, 1, [](uint64_t) {});
    t = shorter.read();
    EXPECT_FALSE(t->fixed.present);
    EXPECT_TRUE(warned(*t, "FADT: too short"));
}

TEST(Acpi, HpetMcfgSratAndPresence) {
    Firmware f;
    f.add("HPET", 56, 1, [&](uint64_t a) {
        f.memory.put<uint32_t>(a + 36, 0x8086a201);
        f.memory.put<uint64_t>(a + 44, 0xfed00000);
        f.memory.put<uint16_t>(a + 53, 100);
    });
    f.add("MCFG", 44 + 48, 1, [&](uint64_t a) {
        f.memory.put<uint64_t>(a + 44, 0xb0000000);
        f.memory.put<uint8_t>(a + 55, 255);
        f.memory.put<uint64_t>(a + 60, 0xc0000000);
        f.bytes(a + 70, {5, 4}); // ends before it starts
        f.memory.put<uint64_t>(a + 76, ~uint64_t{0});
    });
    f.add("SRAT", 48 + 16 + 24 + 40 + 40 + 16, 3, [&](uint64_t a) {
        f.bytes(a + 48, {0, 16, 3, 1, 1, 0, 0, 0, 0, 2});
        f.bytes(a + 64, {2, 24, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 1});
        f.bytes(a + 88, {1, 40, 7});
        f.memory.put<uint64_t>(a + 96, 0x100000);
        f.memory.put<uint64_t>(a + 104, 0x40000000);
        f.memory.put<uint32_t>(a + 116, 3);
        f.bytes(a + 128, {1, 40});
        f.memory.put<uint64_t>(a + 136, ~uint64_t{0});
        f.memory.put<uint64_t>(a + 144, 2);
        f.memory.put<uint32_t>(a + 156, 1);
        f.bytes(a + 168, {0, 16, 3, 9, 0}); // not enabled
    });
    f.add("DMAR", 48, 1, [](uint64_t) {});
    auto t = f.read();
    ASSERT_TRUE(t->hpet);
    EXPECT_EQ(t->hpet->address.raw(), 0xfed00000u);
    EXPECT_EQ(t->hpet->minimum_tick, 100);
    ASSERT_EQ(t->pci_segments.size(), 1u);
    EXPECT_EQ(t->pci_segments[0].last_bus, 255);
    EXPECT_TRUE(warned(*t, "MCFG: an entry makes no sense"));
    ASSERT_EQ(t->cpu_affinity.size(), 2u);
    EXPECT_EQ(t->cpu_affinity[0].apic_id, 1u);
    EXPECT_EQ(t->cpu_affinity[0].proximity_domain, 0x203u);
    EXPECT_EQ(t->cpu_affinity[1].apic_id, 0x100u);
    EXPECT_EQ(t->cpu_affinity[1].proximity_domain, 4u);
    ASSERT_EQ(t->memory_affinity.size(), 1u);
    EXPECT_EQ(t->memory_affinity[0].proximity_domain, 7u);
    EXPECT_TRUE(t->memory_affinity[0].hot_pluggable);
    EXPECT_TRUE(warned(*t, "SRAT: a memory range wraps around"));
    EXPECT_TRUE(t->has_dmar());
    EXPECT_FALSE(t->has_ivrs() || t->has_bgrt());
    ASSERT_NE(t->find(signature("DMAR")), nullptr);
    EXPECT_EQ(t->find(signature("DMAR"))->length, 48u);
}

TEST(Acpi, AWrongChecksumIsReportedAndALengthThatCannotBeSkipsTheTable) {
    Firmware f;
    auto madt = add_madt(f);
    f.add("HPET", 56, 1, [&](uint64_t a) { f.memory.put<uint64_t>(a + 44, 0xfed00000); });
    f.memory.put<uint8_t>(madt + 60, 0x5a);
    auto t = f.read();
    EXPECT_TRUE(f.result);
    EXPECT_TRUE(t->has_madt);
    EXPECT_TRUE(warned(*t, "MADT: wrong checksum, used all the same"));
    EXPECT_TRUE(t->hpet);
    for (uint32_t length : {0u, 35u, 0x7fffffffu, ~0u}) {
        f.memory.put<uint32_t>(madt + 4, length);
        t = f.read();
        EXPECT_FALSE(t->has_madt);
        EXPECT_TRUE(t->hpet);
        EXPECT_TRUE(warned(*t, "MADT: wrong length")) << length;
    }
}

TEST(Acpi, EntriesThatDoNotFitEndTheTable) {
    for (unsigned length : {0u, 1u, 9u, 255u}) {
        Firmware f;
        f.add("APIC", 44 + 16, 3, [&](uint64_t at) {
            f.bytes(at + 44, {0, 8, 0, 0, 1, 0, 0, 0, 0, length, 1, 1, 1, 0, 0, 0});
        });
        auto t = f.read();
        EXPECT_EQ(t->cpus.size(), 1u);
        EXPECT_TRUE(warned(*t, "MADT: an entry does not fit; it and the rest are ignored"));
        EXPECT_EQ(t->warnings.size(), 1u);
    }
    Firmware f;
    f.add("APIC", 44 + 4, 3, [&](uint64_t at) { f.bytes(at + 44, {0, 4, 0, 0}); });
    EXPECT_TRUE(warned(*f.read(), "MADT: an entry is too short"));
}

TEST(Acpi, ABrokenXsdtFallsBackToTheRsdt) {
    Firmware f{false};
    add_madt(f);
    f.memory.put<uint8_t>(root_at + 15, 2);
    f.memory.put<uint64_t>(root_at + 24, 0x50000); // nothing there
    f.finish_root();
    auto t = f.read();
    EXPECT_TRUE(f.result);
    EXPECT_TRUE(t->has_madt);
    EXPECT_TRUE(warned(*t, "XSDT: unreadable or wrong checksum"));
    f.memory.put<uint8_t>(root_at + 33, 1);
    t = f.read();
    EXPECT_TRUE(t->has_madt);
    EXPECT_TRUE(warned(*t, "RSDP: wrong extended checksum"));
    // The RSDT is the last resort: its checksum may be wrong, its name and length may not.
    f.memory.put<uint8_t>(list_at + 20, 0x55);
    t = f.read();
    EXPECT_TRUE(t->has_madt);
    EXPECT_TRUE(warned(*t, "RSDT: wrong checksum, used all the same"));
    f.memory.put<uint32_t>(list_at + 4, 35);
    f.read();
    EXPECT_EQ(f.result.error(), Errno::io);
}

TEST(Acpi, RandomDamage) {
    std::mt19937 random{3};
    for (int round = 0; round < 300; ++round) {
        Firmware f{round % 2 == 0};
        add_madt(f);
        f.add("SRAT", 120, 3, [&](uint64_t at) {
            for (uint64_t i = 48; i < 120; ++i)
                f.memory.put(at + i, static_cast<uint8_t>(random() % 48));
        });
        for (int i = 0; i < 3; ++i) {
            auto at = tables_at + random() % 0xb0;
            f.memory.put(at, static_cast<uint8_t>(random()));
        }
        f.memory.fix_checksum(tables_at, 44 + 118, tables_at + 9);
        f.read();
    }
}

} // namespace
} // namespace hearth::acpi
