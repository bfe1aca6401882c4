// What a vCPU meets on its way out of the hypervisor.
#include "fake_machine.h"

#include <gtest/gtest.h>

namespace hearth::test {
namespace {

constexpr uint64_t not_canonical = 0x0000800000000000;

/// A guest goes on at no address, and cannot be told of the fault: it dies, and its CPU goes on.
void expect_death(Guest& guest) {
    (void)guest.run([&] { guest.vcpu().registers().rip = not_canonical; });
    EXPECT_TRUE(guest.domain.is_shut_down());
    Guest other;
    EXPECT_EQ(other.hypercall(abi::Hypercall::xen_version, 0), 4 << 16 | 17);
}

TEST(WayBack, NoAddressAndNoHandler) {
    Guest guest;
    expect_death(guest);
}
TEST(WayBack, NoAddressAndNoStack) {
    Guest guest;
    handle_all_traps(guest.vcpu(), 0x1000);
    guest.vcpu().registers().rsp = not_canonical;
    expect_death(guest);
}

/// The toolstack may resume it, whatever it died of.
TEST(WayBack, NoAddressAfterAResume) {
    Guest guest;
    expect_death(guest);
    handle_all_traps(guest.vcpu(), 0x1000);
    guest.vcpu().registers().rsp = Guest::argument_address + 0xf00;
    Worker::run([&] {
        pause_domain(guest.domain);
        guest.domain.shutdown.store(not_shut_down);
        unpause_domain(guest.domain);
    });
    run_all_cpus();
    EXPECT_FALSE(guest.domain.is_shut_down());
    EXPECT_EQ(guest.vcpu().registers().rip, 0x1000);
}

/// A guest may ask for its time where half of its vcpu_info is: it gets what it asked for.
TEST(WayBack, TimeOverTime) {
    Guest guest;
    constexpr uint32_t info = 0x800, area = info + offsetof(abi::VcpuInfo, time) + 8;
    auto const ask = [&](abi::VcpuOperation operation) {
        return guest.hypercall(abi::Hypercall::vcpu_op, static_cast<uint64_t>(operation), 0,
                               Guest::argument_address);
    };
    guest.argument<abi::RegisterVcpuInfo>() = {guest.argument_page.raw(), info, 0};
    ASSERT_EQ(ask(abi::VcpuOperation::register_vcpu_info), 0);
    guest.argument<abi::MemoryArea>() = {Guest::argument_address + area};
    ASSERT_EQ(ask(abi::VcpuOperation::register_vcpu_time_memory_area), 0);
    EXPECT_NE(guest.argument<abi::VcpuTimeInfo>(area).tsc_to_system_mul, 0u);
}

} // namespace
} // namespace hearth::test
