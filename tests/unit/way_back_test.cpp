// What a vCPU meets on its way out of the hypervisor.
#include "fake_machine.h"

#include <gtest/gtest.h>

namespace hearth::test {
namespace {

constexpr uint64_t not_canonical = 0x0000800000000000;

/// A guest goes on at no address, and cannot be told of the fault: it dies, and its CPU goes on.
void expect_death(Guest& guest) {
    (void)guest.run([&] { guest.vcpu().registers().rip = not_canonical; });
    EXPECT_EQ(guest.domain.shutdown.load(), ShutdownState::shut_down);
    Guest other;
    EXPECT_EQ(other.hypercall(abi::Hypercall::xen_version, 0), 4 << 16 | 17);
}

TEST(WayBack, NoAddressAndNoHandler) {
    Guest guest;
    expect_death(guest);
}
TEST(WayBack, NoAddressAndNoStack) {
    Guest guest;
    for (auto& trap : guest.vcpu().traps)
        trap = {0x1000, 0xe033, 3};
    guest.vcpu().registers().rsp = not_canonical;
    expect_death(guest);
}

/// The toolstack may resume it, whatever it died of.
TEST(WayBack, NoAddressAfterAResume) {
    Guest guest;
    expect_death(guest);
    for (auto& trap : guest.vcpu().traps)
        trap = {0x1000, 0xe033, 3};
    guest.vcpu().registers().rsp = Guest::argument_address + 0xf00;
    Worker::run([&] {
        pause_domain(guest.domain);
        guest.domain.shutdown.store(ShutdownState::running);
        unpause_domain(guest.domain);
    });
    run_all_cpus();
    EXPECT_EQ(guest.domain.shutdown.load(), ShutdownState::running);
    EXPECT_EQ(guest.vcpu().registers().rip, 0x1000);
}

} // namespace
} // namespace hearth::test
