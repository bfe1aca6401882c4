#include "boot/multiboot.h"

#include "boot/boot_text.h"
#include "boot/multiboot2.h"
#include "boot/pvh.h"
#include "test_memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

namespace hearth {
namespace {

using test::TestMemory;

constexpr uint64_t base = 0x10000;
using Read = BootResult<> (*)(PhysicalView&, PhysicalAddress, BootInfo&);

/// BootInfo is large for a stack.
struct Outcome {
    std::unique_ptr<BootInfo> info = std::make_unique<BootInfo>();
    std::string_view reason = "accepted";
};

Outcome outcome(Read read, TestMemory& memory, uint64_t at = base) {
    Outcome o;
    if (auto result = read(memory, PhysicalAddress{at}, *o.info); !result)
        o.reason = result.error().reason;
    return o;
}

TEST(BootText, OptionsStartAfterAFileName) {
    auto options = [](std::string_view line, bool name) {
        return line.substr(options_start(line, name));
    };
    EXPECT_EQ(options("./hearth a b", true), "a b");
    EXPECT_EQ(options("./hearth", true), "");
    EXPECT_EQ(options("  /x/hearth   a", true), "a");
    EXPECT_EQ(options("a b", false), "a b");
    EXPECT_EQ(options("placeholder a b", false), "a b");
    EXPECT_EQ(options("placeholders a", false), "placeholders a");
    EXPECT_EQ(options("", true), "");
    EXPECT_EQ(options("   ", false), "");
}

TEST(BootText, LongAndUnendingTexts) {
    TestMemory memory{base, 0x3000};
    for (uint64_t i = 0; i < 0x3000; ++i)
        memory.put(base + i, 'x');
    FixedString<2048> text;
    EXPECT_TRUE(read_text(memory, PhysicalAddress{base + 0xf00}, text)); // across pages
    EXPECT_EQ(text.view().size(), 2048u);
    EXPECT_TRUE(text.truncated());
    EXPECT_FALSE(read_text(memory, PhysicalAddress{base + 0x2f00}, text));
    EXPECT_FALSE(read_text(memory, PhysicalAddress{0}, text));
    memory.put(base + 0x2fff, '\0');
    EXPECT_TRUE(read_text(memory, PhysicalAddress{base + 0x2f00}, text));
    EXPECT_EQ(text.view().size(), 0xffu);
    EXPECT_FALSE(text.truncated());
}

TestMemory multiboot1() {
    TestMemory m{base, 0x2000};
    m.put<uint32_t>(base, 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9 | 1 << 12);
    m.put<uint32_t>(base + 4, 639);
    m.put<uint32_t>(base + 8, 1024);
    m.put<uint32_t>(base + 16, base + 0x100);
    m.put_text(base + 0x100, "hearth dom0_mem=1G console=com1");
    m.put<uint32_t>(base + 20, 2);
    m.put<uint32_t>(base + 24, base + 0x200);
    m.put<uint32_t>(base + 0x200, 0x400000);
    m.put<uint32_t>(base + 0x204, 0x500001);
    m.put<uint32_t>(base + 0x208, base + 0x240);
    m.put_text(base + 0x240, "vmlinuz console=hvc0");
    m.put<uint32_t>(base + 0x210, 0x600000);
    m.put<uint32_t>(base + 0x214, 0x600000);
    m.put<uint32_t>(base + 44, 24 + 28);
    m.put<uint32_t>(base + 48, base + 0x300);
    m.put<uint32_t>(base + 0x300, 20);
    m.put<uint64_t>(base + 0x304, 0);
    m.put<uint64_t>(base + 0x30c, 0x9f000);
    m.put<uint32_t>(base + 0x314, 1);
    m.put<uint32_t>(base + 0x318, 24); // an entry may be longer than we know
    m.put<uint64_t>(base + 0x31c, 0x100000);
    m.put<uint64_t>(base + 0x324, 0x7000000);
    m.put<uint32_t>(base + 0x32c, 3);
    m.put<uint32_t>(base + 64, base + 0x400);
    m.put_text(base + 0x400, "qemu");
    m.put<uint64_t>(base + 88, 0xfd000000);
    m.put<uint32_t>(base + 96, 4096);
    m.put<uint32_t>(base + 100, 1024);
    m.put<uint32_t>(base + 104, 768);
    m.put<uint8_t>(base + 108, 32);
    m.put<uint8_t>(base + 109, 1);
    m.put<uint8_t>(base + 110, 16);
    m.put<uint8_t>(base + 111, 8);
    return m;
}

TEST(Multiboot, ReadsEverything) {
    auto memory = multiboot1();
    auto o = outcome(read_multiboot, memory);
    ASSERT_EQ(o.reason, "accepted");
    EXPECT_EQ(o.info->protocol, BootProtocol::multiboot1);
    EXPECT_EQ(o.info->loader_name.view(), "qemu");
    EXPECT_EQ(o.info->command_line.view(), "dom0_mem=1G console=com1");
    ASSERT_EQ(o.info->modules().size(), 2u);
    EXPECT_EQ(o.info->modules()[0].start.raw(), 0x400000u);
    EXPECT_EQ(o.info->modules()[0].size, 0x100001u);
    EXPECT_EQ(o.info->modules()[0].command_line.view(), "console=hvc0");
    EXPECT_EQ(o.info->modules()[1].size, 0u);
    EXPECT_TRUE(o.info->modules()[1].command_line.empty());
    ASSERT_EQ(o.info->memory_map.size(), 2u);
    EXPECT_EQ(o.info->memory_map.regions()[1].type, MemoryType::acpi_reclaimable);
    ASSERT_TRUE(o.info->framebuffer);
    EXPECT_EQ(o.info->framebuffer->width, 1024u);
    EXPECT_EQ(o.info->framebuffer->red.position, 16);
}

TEST(Multiboot, Grub2HasCutTheFileName) {
    auto memory = multiboot1();
    memory.put_text(base + 0x400, "GRUB 2.06-13+deb12u2");
    auto o = outcome(read_multiboot, memory);
    EXPECT_EQ(o.info->command_line.view(), "hearth dom0_mem=1G console=com1");
    EXPECT_EQ(o.info->modules()[0].command_line.view(), "vmlinuz console=hvc0");
}

TEST(Multiboot, BasicMemoryWhenThereIsNoMap) {
    auto memory = multiboot1();
    memory.put<uint32_t>(base, 1);
    auto o = outcome(read_multiboot, memory);
    ASSERT_EQ(o.reason, "accepted");
    EXPECT_EQ(o.info->memory_map.usable_bytes(), 639_KiB + 1_MiB);
    EXPECT_TRUE(o.info->command_line.empty());
    memory.put<uint32_t>(base, 0);
    EXPECT_EQ(outcome(read_multiboot, memory).reason, "multiboot: no memory map");
}

TEST(Multiboot, HostileInformation) {
    auto with = [](uint64_t at, uint32_t value) {
        auto memory = multiboot1();
        memory.put(at, value);
        return outcome(read_multiboot, memory).reason;
    };
    EXPECT_EQ(with(base + 16, 5), "multiboot: the command line is not readable");
    EXPECT_EQ(with(base + 64, ~0u), "multiboot: the loader's name is not readable");
    EXPECT_EQ(with(base + 24, 5), "multiboot: the module list is not readable");
    EXPECT_EQ(with(base + 0x204, 0), "multiboot: a module ends before it starts");
    EXPECT_EQ(with(base + 0x208, 7), "multiboot: a module's command line is not readable");
    EXPECT_EQ(with(base + 48, 5), "multiboot: the memory map is not readable");
    EXPECT_EQ(with(base + 44, ~0u), "multiboot: the memory map is not readable");
    EXPECT_EQ(with(base + 44, 30), "multiboot: the memory map is malformed");
    EXPECT_EQ(with(base + 0x300, 0), "multiboot: the memory map is malformed");
    EXPECT_EQ(with(base + 0x300, ~0u), "multiboot: the memory map is malformed");
    EXPECT_EQ(with(base + 0x310, ~0u), "accepted"); // huge but not wrapping
    EXPECT_EQ(with(base + 0x328, ~0u), "accepted");
    auto memory = multiboot1();
    memory.put<uint64_t>(base + 0x324, ~uint64_t{0});
    EXPECT_EQ(outcome(read_multiboot, memory).reason,
              "multiboot: the memory map wraps around, or is too long");
    EXPECT_EQ(outcome(read_multiboot, memory, base + 0x1fff).reason,
              "multiboot: the information is not readable");
}

TEST(Multiboot, TooManyModulesAreCounted) {
    auto memory = multiboot1();
    memory.put<uint32_t>(base + 20, 100);
    memory.put<uint32_t>(base + 24, base + 0x1000); // all zero: empty modules
    auto o = outcome(read_multiboot, memory);
    EXPECT_EQ(o.reason, "accepted");
    EXPECT_EQ(o.info->modules().size(), BootInfo::maximum_modules);
    EXPECT_EQ(o.info->modules_dropped, 100 - BootInfo::maximum_modules);
}

/// Puts tags together.
class Tags {
    std::vector<std::byte> data_ = std::vector<std::byte>(8);

public:
    Tags& tag(uint32_t type, std::vector<std::byte> const& body) {
        size_t at = data_.size();
        data_.resize(at + 8);
        auto size = static_cast<uint32_t>(body.size() + 8);
        std::memcpy(&data_[at], &type, 4);
        std::memcpy(&data_[at + 4], &size, 4);
        data_.insert(data_.end(), body.begin(), body.end());
        data_.resize(align_up(data_.size(), 8));
        return *this;
    }
    template <class... T>
    Tags& numbers(uint32_t type, T... values) {
        std::vector<std::byte> body;
        (append(body, values), ...);
        return tag(type, body);
    }
    Tags& text(uint32_t type, std::string_view value) {
        std::vector<std::byte> body;
        append_text(body, value);
        return tag(type, body);
    }
    Tags& module(uint32_t start, uint32_t end, std::string_view line) {
        std::vector<std::byte> body;
        append(body, start);
        append(body, end);
        append_text(body, line);
        return tag(3, body);
    }
    TestMemory memory() {
        tag(0, {});
        auto size = static_cast<uint32_t>(data_.size());
        std::memcpy(data_.data(), &size, 4);
        return {base, data_};
    }

private:
    template <class T>
    static void append(std::vector<std::byte>& to, T value) {
        to.resize(to.size() + sizeof value);
        std::memcpy(to.data() + to.size() - sizeof value, &value, sizeof value);
    }
    static void append_text(std::vector<std::byte>& to, std::string_view text) {
        for (char c : text)
            append(to, c);
        append(to, '\0');
    }
};

Tags multiboot2() {
    Tags tags;
    tags.text(1, "placeholder dom0_mem=1G").text(2, "GRUB 2.06");
    tags.module(0x400000, 0x500000, "placeholder root=/dev/sda1 ro");
    tags.module(0x600000, 0x700000, "");
    tags.numbers(4, 639u, 1024u);
    tags.numbers(6, 24u, 0u, uint64_t{0}, uint64_t{0x9f000}, 1u, 0u, uint64_t{0x100000},
                 uint64_t{0x700000}, 4u, 0u);
    tags.numbers(8, uint64_t{0xfd000000}, 4096u, 1024u, 768u, uint8_t{32}, uint8_t{1}, uint16_t{0},
                 uint8_t{16}, uint8_t{8}, uint8_t{8}, uint8_t{8}, uint8_t{0}, uint8_t{8});
    tags.numbers(21, 0x200000u);
    tags.numbers(99, 1u); // unknown
    return tags;
}

TEST(Multiboot2, ReadsWhatABiosHas) {
    auto memory = multiboot2().memory();
    auto o = outcome(read_multiboot2, memory);
    ASSERT_EQ(o.reason, "accepted");
    EXPECT_EQ(o.info->command_line.view(), "dom0_mem=1G");
    EXPECT_EQ(o.info->loader_name.view(), "GRUB 2.06");
    ASSERT_EQ(o.info->modules().size(), 2u);
    EXPECT_EQ(o.info->modules()[0].command_line.view(), "root=/dev/sda1 ro");
    EXPECT_EQ(o.info->modules()[0].size, 0x100000u);
    ASSERT_EQ(o.info->memory_map.size(), 2u); // not the basic sizes
    EXPECT_EQ(o.info->memory_map.regions()[1].type, MemoryType::acpi_nvs);
    ASSERT_TRUE(o.info->framebuffer);
    EXPECT_EQ(o.info->framebuffer->pitch, 4096u);
    EXPECT_EQ(o.info->framebuffer->green.position, 8);
    EXPECT_EQ(o.info->load_base->raw(), 0x200000u);
    EXPECT_FALSE(o.info->efi.booted_by_efi);
}

TEST(Multiboot2, ReadsWhatEfiHas) {
    Tags tags;
    tags.numbers(12, uint64_t{0x7f000000});
    tags.numbers(20, uint64_t{0x7e000000});
    tags.numbers(17, 48u, 1u, 7u, 0u, uint64_t{0x100000}, uint64_t{0}, uint64_t{16}, uint64_t{8},
                 uint64_t{0});
    auto memory = tags.memory();
    auto o = outcome(read_multiboot2, memory);
    ASSERT_EQ(o.reason, "accepted");
    EXPECT_TRUE(o.info->efi.booted_by_efi);
    EXPECT_FALSE(o.info->efi.boot_services_active);
    EXPECT_EQ(o.info->efi.system_table->raw(), 0x7f000000u);
    EXPECT_EQ(o.info->efi.image_handle->raw(), 0x7e000000u);
    EXPECT_EQ(o.info->efi.descriptor_size, 48u);
    EXPECT_EQ(o.info->efi.memory_map_size, 48u);
    EXPECT_EQ(memory.view(o.info->efi.memory_map, 1)[0], std::byte{7});
    EXPECT_EQ(o.info->memory_map.usable_bytes(), 16 * page_size);
    auto active = Tags{}.tag(18, {}).memory();
    o = outcome(read_multiboot2, active);
    EXPECT_EQ(o.reason, "accepted"); // its map is for the firmware to give
    EXPECT_TRUE(o.info->efi.boot_services_active);
}

TEST(Multiboot2, TheNewRootPointerWinsInEitherOrder) {
    std::vector<std::byte> old_one(20, std::byte{1}), new_one(36, std::byte{2});
    for (bool new_first : {false, true}) {
        auto tags = multiboot2();
        tags.tag(new_first ? 15 : 14, new_first ? new_one : old_one);
        tags.tag(new_first ? 14 : 15, new_first ? old_one : new_one);
        auto memory = tags.memory();
        auto o = outcome(read_multiboot2, memory);
        ASSERT_EQ(o.info->root_pointer.copied().size(), 36u);
        EXPECT_EQ(o.info->root_pointer.copied()[19], std::byte{2});
    }
    auto cut = multiboot2().tag(14, old_one).tag(15, std::vector<std::byte>(35)).memory();
    EXPECT_EQ(outcome(read_multiboot2, cut).info->root_pointer.copied().size(), 20u);
}

TEST(Multiboot2, HostileTags) {
    auto reason = [](Tags tags) {
        auto memory = tags.memory();
        return outcome(read_multiboot2, memory).reason;
    };
    EXPECT_EQ(reason(Tags{}), "multiboot2: no memory map");
    EXPECT_EQ(reason(Tags{}.numbers(6, 23u, 0u, uint64_t{0})),
              "multiboot2: the memory map is malformed");
    EXPECT_EQ(reason(Tags{}.numbers(6, 24u, 0u, ~uint64_t{0}, ~uint64_t{0}, 1u, 0u)),
              "multiboot2: the memory map wraps around, or is too long");
    EXPECT_EQ(reason(Tags{}.numbers(17, 3u, 1u, uint64_t{0})),
              "multiboot2: the EFI memory map is malformed");
    EXPECT_EQ(reason(multiboot2().module(5, 4, "")), "multiboot2: a module is malformed");
    EXPECT_EQ(reason(multiboot2().tag(3, {})), "multiboot2: a module is malformed");
    for (uint32_t size : {0u, 7u, 0x1000u, 0xfffffff9u, 0xffffffffu}) {
        auto memory = multiboot2().memory();
        memory.put(base + 12, size); // of the first tag
        EXPECT_EQ(outcome(read_multiboot2, memory).reason, "multiboot2: a tag does not fit")
            << size;
    }
    for (uint32_t total : {0u, 7u, 0x100000u, 0xffffffffu}) {
        auto memory = multiboot2().memory();
        memory.put(base, total);
        EXPECT_EQ(outcome(read_multiboot2, memory).reason,
                  "multiboot2: the information is not readable");
    }
    auto unended = multiboot2().memory();
    unended.put(base, static_cast<uint32_t>(16));
    EXPECT_EQ(outcome(read_multiboot2, unended).reason, "multiboot2: a tag does not fit");
}

TestMemory pvh() {
    TestMemory m{base, 0x2000};
    m.put<uint32_t>(base, 0x336ec578);
    m.put<uint32_t>(base + 4, 1);
    m.put<uint32_t>(base + 12, 1);
    m.put<uint64_t>(base + 16, base + 0x100);
    m.put<uint64_t>(base + 24, base + 0x200);
    m.put<uint64_t>(base + 32, 0xf5000);
    m.put<uint64_t>(base + 40, base + 0x300);
    m.put<uint32_t>(base + 48, 1);
    m.put<uint64_t>(base + 0x100, 0x40000000);
    m.put<uint64_t>(base + 0x108, 0x1234);
    m.put<uint64_t>(base + 0x110, base + 0x280);
    m.put_text(base + 0x200, "console=com1 loglvl=all");
    m.put_text(base + 0x280, "root=x");
    m.put<uint64_t>(base + 0x300, 0x100000);
    m.put<uint64_t>(base + 0x308, 0x40000000);
    m.put<uint32_t>(base + 0x310, 1);
    return m;
}

TEST(Pvh, ReadsVersion1) {
    auto memory = pvh();
    auto o = outcome(read_pvh, memory);
    ASSERT_EQ(o.reason, "accepted");
    EXPECT_EQ(o.info->command_line.view(), "console=com1 loglvl=all");
    ASSERT_EQ(o.info->modules().size(), 1u);
    EXPECT_EQ(o.info->modules()[0].size, 0x1234u);
    EXPECT_EQ(o.info->modules()[0].command_line.view(), "root=x");
    EXPECT_EQ(o.info->root_pointer.address->raw(), 0xf5000u);
    EXPECT_EQ(o.info->memory_map.usable_bytes(), 1_GiB);
}

TEST(Pvh, HostileStartInfo) {
    auto with = [](uint64_t at, auto value) {
        auto memory = pvh();
        memory.put(at, value);
        return outcome(read_pvh, memory).reason;
    };
    EXPECT_EQ(with(base, 0u), "PVH: no start info");
    EXPECT_EQ(with(base + 4, 0u), "PVH: no readable memory map"); // version 0 has none
    EXPECT_EQ(with(base + 48, 0u), "PVH: no readable memory map");
    EXPECT_EQ(with(base + 48, ~0u), "PVH: no readable memory map");
    EXPECT_EQ(with(base + 24, ~uint64_t{0}), "PVH: the command line is not readable");
    EXPECT_EQ(with(base + 16, uint64_t{8}), "PVH: the module list is not readable");
    EXPECT_EQ(with(base + 0x108, ~uint64_t{0}),
              "PVH: a module wraps around the end of the address space");
    EXPECT_EQ(with(base + 0x308, ~uint64_t{0}), "PVH: the memory map wraps around, or is too long");
}

/// No outcome to expect, but none may crash.
TEST(BootProtocols, RandomDamage) {
    std::mt19937 random{7};
    for (int round = 0; round < 3000; ++round) {
        auto damage = [&](TestMemory memory, Read read) {
            for (int i = 0; i < 3; ++i)
                memory.put(base + random() % std::min<size_t>(memory.size(), 0x340),
                           static_cast<uint8_t>(random()));
            outcome(read, memory);
        };
        damage(multiboot1(), read_multiboot);
        damage(multiboot2().memory(), read_multiboot2);
        damage(pvh(), read_pvh);
    }
}

} // namespace
} // namespace hearth
