// What Domain 0 alone may do.
#include "toolstack.h"

#include "abi/machine_check.h"
#include "abi/platform.h"

namespace hearth::test {
namespace {

using abi::Hypercall;

TEST(Privilege, EverySuboperationOfDomain0sIsRefusedToOthers) {
    Toolstack toolstack;
    DomainId const victim = toolstack.make();
    Guest guest;
    constexpr uint64_t at = Guest::argument_address;
    for (uint32_t operation = 0; operation < 128; ++operation) {
        for (DomainId const target : {DomainId{0}, victim, guest.domain.id, domid_self}) {
            guest.argument<abi::Domctl>() = {
                operation, abi::domctl_interface_version, target, {}, {}};
            EXPECT_EQ(*guest.hypercall(Hypercall::domctl, at), perm) << operation;
        }
        guest.argument<abi::Sysctl>() = {operation, abi::sysctl_interface_version, {}};
        EXPECT_EQ(*guest.hypercall(Hypercall::sysctl, at), perm) << operation;
        guest.argument<abi::PlatformOp>() = {operation, abi::platform_interface_version, {}};
        EXPECT_EQ(*guest.hypercall(Hypercall::platform_op, at), perm) << operation;
        EXPECT_EQ(*guest.hypercall(Hypercall::console_io, operation, 1, at), perm) << operation;
        guest.argument<abi::McaOp>() = {operation, abi::mca_interface_version, {}};
        EXPECT_EQ(*guest.hypercall(Hypercall::mca, at), perm) << operation;
        // Also in a list, with a version or an argument that is wrong, and with more bits set.
        for (Hypercall const call :
             {Hypercall::domctl, Hypercall::sysctl, Hypercall::platform_op, Hypercall::mca}) {
            EXPECT_EQ(*guest.hypercall(call, 0), perm);
            abi::MulticallEntry entry{};
            entry.op = static_cast<uint64_t>(call);
            entry.arguments[0] = at;
            guest.argument<abi::MulticallEntry>(0x400) = entry;
            EXPECT_EQ(*guest.hypercall(Hypercall::multicall, at + 0x400, 1), 0);
            EXPECT_EQ(static_cast<int64_t>(guest.argument<abi::MulticallEntry>(0x400).result),
                      perm);
        }
    }
    for (uint64_t const operation : {10u, 13u, 24u, 28u}) // machine map, set map, claim, resource
        for (uint64_t const done : {0u, 1u << 6, ~0x3fu}) {
            EXPECT_EQ(*guest.hypercall(Hypercall::memory_op, operation | done, at), perm)
                << operation;
            EXPECT_EQ(*guest.hypercall(Hypercall::memory_op, operation | done, 0), perm)
                << operation;
        }
    constexpr auto remote_shutdown = static_cast<uint64_t>(abi::SchedOperation::remote_shutdown);
    EXPECT_EQ(*guest.hypercall(Hypercall::sched_op, remote_shutdown, at), perm);
    EXPECT_FALSE(toolstack.info(victim).flags & abi::info::shut_down);
    EXPECT_EQ(toolstack.end(victim), 0);
}

} // namespace
} // namespace hearth::test
