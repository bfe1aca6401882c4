// IO-APICs as firmware describes them, rightly or not.
#include "fake_machine.h"

#include "irq/irq.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth::test {
namespace {

constexpr unsigned first_line = 96, pins = 24;
uint32_t io_apic[1024], nobody[1024];

class IoApics : public testing::Test {
protected:
    static constexpr uint64_t io_apic_at = 0xfec90000, nobody_at = 0xfeca0000;

    IoApics() {
        boot_machine();
        host::device_at = [](PhysicalAddress address) -> void* {
            return address.raw() == io_apic_at ? io_apic : nobody;
        };
        io_apic[4] = (pins - 1) << 16 | 0x11;
    }
    ~IoApics() override { host::device_at = nullptr; }
    static void initialise(IoApicDescription const& description,
                           std::span<IsaOverride const> overrides = {}) {
        irq_initialise({&description, 1}, overrides);
    }
};

TEST_F(IoApics, WhereNobodyAnswersThereIsNone) {
    unsigned const before = gsi_limit();
    for (uint32_t const version : {0u, ~0u}) {
        nobody[4] = version;
        host::serial_output().clear();
        set_log_thresholds(LogSource::hearth, {LogThreshold::warning, LogThreshold::warning});
        initialise({PhysicalAddress{nobody_at}, 0});
        set_log_thresholds(LogSource::hearth, {LogThreshold::error, LogThreshold::error});
        EXPECT_NE(host::serial_output().find("no IO-APIC at feca0000"), std::string::npos);
        EXPECT_EQ(gsi_limit(), before);
        EXPECT_EQ(nobody[4], version) << "written to";
    }
}

TEST_F(IoApics, NumbersBeyondOursAreNone) {
    unsigned const before = gsi_limit();
    for (uint32_t const first : {irq_limit / 2, ~0u}) {
        initialise({PhysicalAddress{io_apic_at}, first});
        EXPECT_EQ(gsi_limit(), before);
    }
}

TEST_F(IoApics, EveryPinIsMaskedAndThoseBeyondOursHaveNoNumber) {
    io_apic[4] = 0xff << 16 | 0x11; // as many as can be
    initialise({PhysicalAddress{io_apic_at}, first_line});
    EXPECT_EQ(io_apic[0], 0x10 + 2 * 0xffu);
    EXPECT_EQ(io_apic[4], 1u << 16);
    EXPECT_EQ(gsi_limit(), irq_limit / 2);
    EXPECT_EQ(irq_set_line_mode(irq_limit / 2, {}).error(), Errno::inval);
}

TEST_F(IoApics, OverridesLeadElsewhereIfThatExists) {
    IsaOverride const overrides[] = {{0, first_line + 2, false, false},
                                     {9, first_line + 9, true, true},
                                     {3, irq_limit, true, true},
                                     {16, first_line + 3, true, true},
                                     {255, first_line + 3, true, true}};
    initialise({PhysicalAddress{io_apic_at}, first_line}, overrides);
    EXPECT_EQ(gsi_of_isa(0), first_line + 2);
    EXPECT_EQ(gsi_of_isa(9), first_line + 9);
    EXPECT_EQ(gsi_of_isa(3), 3u);
    EXPECT_EQ(gsi_of_isa(16), 16u);
    EXPECT_FALSE(irq_needs_end(first_line + 2)) << "edges";
    ASSERT_TRUE(irq_bind(first_line + 9, [](void*, unsigned) {}, nullptr));
    EXPECT_EQ(io_apic[4] >> 13 & 0xf, 5u) << "level-triggered, active low, not masked";
    irq_unbind(first_line + 9);
}

TEST_F(IoApics, APinSendsNmisUntilItIsUnbound) {
    initialise({PhysicalAddress{io_apic_at}, first_line});
    constexpr unsigned pin = 5, line = first_line + pin;
    EXPECT_EQ(irq_send_as_nmi(irq_limit - 1).error(), Errno::inval);
    ASSERT_TRUE(irq_send_as_nmi(line));
    EXPECT_EQ(io_apic[0], 0x10 + 2 * pin);
    EXPECT_EQ(io_apic[4], 0x400u);
    EXPECT_EQ(irq_send_as_nmi(line).error(), Errno::busy);
    EXPECT_EQ(irq_bind(line, [](void*, unsigned) {}, nullptr).error(), Errno::busy);
    irq_unbind(line);
    EXPECT_TRUE(io_apic[4] & 1u << 16);
}

TEST_F(IoApics, LinesOfNobodyAreRefused) {
    initialise({PhysicalAddress{io_apic_at}, first_line});
    for (unsigned const number : {irq_limit - 1, irq_limit, ~0u}) {
        EXPECT_EQ(irq_bind(number, [](void*, unsigned) {}, nullptr).error(), Errno::inval);
        irq_unbind(number);
        irq_end(number);
        irq_free_message(number);
        EXPECT_FALSE(irq_is_bound(number));
        EXPECT_FALSE(irq_needs_end(number));
    }
}

TEST_F(IoApics, LegacyControllersAreMovedAndSilenced) {
    static uint32_t masks, vectors;
    masks = vectors = 0;
    host::write_port = [](uint16_t port, unsigned, uint32_t value) {
        if (port == 0x21 || port == 0xa1) {
            unsigned const shift = port == 0x21 ? 0 : 8;
            masks = (masks & ~(0xffu << shift)) | value << shift;
            if (value == 0x20 || value == 0x28)
                vectors |= value << shift;
        }
    };
    irq_silence_legacy_controllers();
    host::write_port = nullptr;
    EXPECT_EQ(vectors, 0x2820u) << "clear of the exceptions";
    EXPECT_EQ(masks, 0xffffu);
}

} // namespace
} // namespace hearth::test
