// What Domain 0 sets and asks of the machine.
#include "toolstack.h"

#include "abi/platform.h"
#include "control/control.h"

namespace hearth::test {
namespace {

using abi::Hypercall;

class Platform : public testing::Test {
protected:
    Toolstack dom0;

    template <class T>
    int64_t operate(abi::PlatformOperation what, T& body) {
        abi::PlatformOp op{static_cast<uint32_t>(what), abi::platform_interface_version, {}};
        memcpy(op.body, &body, sizeof body);
        dom0.argument<abi::PlatformOp>() = op;
        auto const result = dom0.hypercall(Hypercall::platform_op, Guest::argument_address);
        memcpy(&body, dom0.argument<abi::PlatformOp>().body, sizeof body);
        return result.value_or(-1000);
    }
};

TEST_F(Platform, ANewTimeIsEverybodys) {
    Guest guest;
    DomainId const paused = dom0.make();
    abi::DomctlTimeOffset later{100};
    ASSERT_EQ(dom0.control(abi::DomctlOperation::settimeoffset, guest.domain.id, later), 0);
    auto const seconds = [](Domain const& d) {
        EXPECT_EQ(d.shared_info->wallclock_version % 2, 0u);
        return d.shared_info->wallclock_seconds;
    };
    WallClock const before = wall_clock_base();
    abi::SetTime64 time{1'700'000'000, 5, 0, 0};
    EXPECT_EQ(operate(abi::PlatformOperation::settime64, time), 0);
    EXPECT_EQ(seconds(dom0.domain), 1'700'000'000u);
    EXPECT_EQ(seconds(guest.domain), 1'700'000'100u);
    EXPECT_EQ(seconds(*find_domain(paused)), 1'700'000'000u);
    abi::SetTime32 earlier{1'600'000'000, 7, 0};
    EXPECT_EQ(operate(abi::PlatformOperation::settime32, earlier), 0);
    EXPECT_EQ(seconds(guest.domain), 1'600'000'100u);
    EXPECT_EQ(guest.domain.shared_info->wallclock_nanoseconds, 7u);
    set_wall_clock(before.seconds, before.nanoseconds, 0);
    EXPECT_EQ(dom0.end(paused), 0);
}

TEST_F(Platform, ACpuThatIsNotThereIsSaidNotToBe) {
    MachineFacts const before = machine_facts();
    set_machine_facts({.command_line = {}, .cpu_count = machine_cpus});
    abi::PhysicalCpuInfo info{machine_cpus - 1, 0, 0, 0, 0};
    EXPECT_EQ(operate(abi::PlatformOperation::get_cpuinfo, info), 0);
    EXPECT_EQ(info.max_present, machine_cpus - 1);
    EXPECT_EQ(info.flags, abi::cpu_online_flag);
    EXPECT_EQ(info.apic_id, machine_cpus - 1);
    info.xen_cpuid = machine_cpus;
    EXPECT_EQ(operate(abi::PlatformOperation::get_cpuinfo, info), 0);
    EXPECT_EQ(info.max_present, machine_cpus - 1);
    EXPECT_EQ(info.flags, abi::cpu_invalid_flag);
    set_machine_facts(before);
}

TEST_F(Platform, TheMemoryMapsLengthIsToldWithoutABuffer) {
    auto const ask = [&](uint32_t entries, uint64_t buffer) {
        dom0.argument<abi::MemoryMapRequest>() = {entries, 0, buffer};
        EXPECT_EQ(dom0.hypercall(Hypercall::memory_op,
                                 static_cast<uint64_t>(abi::MemoryOperation::machine_memory_map),
                                 Guest::argument_address),
                  0);
        return dom0.argument<abi::MemoryMapRequest>().entries;
    };
    uint32_t const before = ask(0, 0);
    add_machine_memory(0, 0x9f000, 1);
    add_machine_memory(0x100000, 0x700000, 1);
    EXPECT_EQ(ask(0, 0), before + 2);
    EXPECT_EQ(ask(1, 0), before + 2);
    EXPECT_EQ(ask(1, Guest::argument_address + 0x100), 1u);
    EXPECT_EQ(ask(100, Guest::argument_address + 0x100), before + 2);
}

} // namespace
} // namespace hearth::test
