// Domains as a toolstack makes, changes and ends them, through the hypercalls.
#include "toolstack.h"

#include "abi/domctl.h"
#include "abi/event_channel.h"
#include "abi/grant_table.h"
#include "abi/operations.h"
#include "abi/sysctl.h"
#include "control/claims.h"
#include "control/domctl.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>

namespace hearth::test {
namespace {

using abi::DomctlOperation;

TEST(Domctl, ADomainIsMadeDescribedAndEnded) {
    Toolstack toolstack;
    uint64_t const free_before = free_frame_count();
    DomainId const id = toolstack.make(3);
    abi::DomctlInfo const info = toolstack.info(id);
    EXPECT_EQ(info.domain, id);
    EXPECT_EQ(info.flags, abi::info::paused | 0xffffu << abi::info::shutdown_reason_shift);
    EXPECT_EQ(info.max_vcpu_id, 2u);
    EXPECT_EQ(info.online_vcpus, 0u);
    EXPECT_EQ(info.max_pages, 1024u);
    EXPECT_EQ(info.total_pages, 0u);
    (void)toolstack.populate(id, 100);
    EXPECT_EQ(toolstack.info(id).total_pages, 100u);
    EXPECT_LT(free_frame_count() + 100, free_before);
    EXPECT_EQ(toolstack.end(id), 0);
    EXPECT_EQ(find_domain(id), nullptr);
    EXPECT_EQ(toolstack.end(id), srch);
    // The second time round nothing is left behind: what stays of the first are tables and the
    // small objects' frames.
    DomainId const again = toolstack.make(3);
    (void)toolstack.populate(again, 100);
    uint64_t const during = free_frame_count();
    EXPECT_EQ(toolstack.end(again), 0);
    DomainId const third = toolstack.make(3);
    (void)toolstack.populate(third, 100);
    EXPECT_EQ(free_frame_count(), during);
    EXPECT_EQ(toolstack.end(third), 0);
}

TEST(Domctl, BadCreationsAreRefused) {
    Toolstack toolstack;
    auto const refused = [&](auto change) {
        auto create = Toolstack::ordinary();
        change(create);
        return toolstack.control(DomctlOperation::createdomain, 0, create);
    };
    EXPECT_EQ(refused([](auto& c) { c.max_vcpus = 0; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.max_vcpus = max_domain_vcpus + 1; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.flags = abi::create_hvm; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.flags = abi::create_iommu; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.flags = 1u << 31; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.grant_options = 0; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.grant_options = 3; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.max_grant_frames = 0; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.max_grant_frames = 1 << 30; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.cpu_pool = 7; }), srch);
    EXPECT_EQ(refused([](auto& c) { c.arch.emulation_flags = 1; }), inval);
    EXPECT_EQ(refused([](auto& c) { c.trace_size = 4096; }), inval);
    auto create = Toolstack::ordinary();
    EXPECT_EQ(toolstack.control(DomctlOperation::createdomain, max_domains, create), inval);
    EXPECT_EQ(toolstack.control(DomctlOperation::createdomain, toolstack.domain.id, create), exist);
    EXPECT_EQ(toolstack.control(DomctlOperation::createdomain, 900, create), 0);
    EXPECT_EQ(toolstack.number, 900);
    EXPECT_EQ(toolstack.control(DomctlOperation::createdomain, 900, create), exist);
    create.max_vcpus = 0;
    EXPECT_EQ(toolstack.control(DomctlOperation::createdomain, 900, create), exist);
    EXPECT_EQ(toolstack.end(900), 0);
}

TEST(Domctl, OnlyThePrivilegedAndOnlyThisVersion) {
    Toolstack toolstack;
    DomainId const id = toolstack.make();
    Guest other;
    for (uint32_t command = 0; command < 100; ++command) {
        other.argument<abi::Domctl>() = {command, abi::domctl_interface_version, id, {}, {}};
        EXPECT_EQ(*other.hypercall(abi::Hypercall::domctl, Guest::argument_address), perm)
            << command;
        other.argument<abi::Domctl>().domain = domid_self;
        EXPECT_EQ(*other.hypercall(abi::Hypercall::domctl, Guest::argument_address), perm)
            << command;
        other.argument<abi::Sysctl>() = {command, abi::sysctl_interface_version, {}};
        EXPECT_EQ(*other.hypercall(abi::Hypercall::sysctl, Guest::argument_address), perm)
            << command;
        toolstack.argument<abi::Domctl>() = {command, 0x14, id, {}, {}};
        EXPECT_EQ(*toolstack.hypercall(abi::Hypercall::domctl, Guest::argument_address), denied);
    }
    EXPECT_EQ(*toolstack.hypercall(abi::Hypercall::domctl, 0xffff800000000000), fault);
    EXPECT_EQ(toolstack.control(static_cast<DomctlOperation>(4711), id), nosys);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST(Domctl, NothingThatIsNotThereIsFound) {
    Toolstack toolstack;
    for (uint32_t command = 2; command < 100; ++command) {
        if (command == static_cast<uint32_t>(DomctlOperation::getdomaininfo))
            continue;
        abi::DomctlCreate body{};
        EXPECT_EQ(toolstack.control(static_cast<DomctlOperation>(command), 1023, body), srch)
            << command;
    }
    abi::DomctlInfo info{};
    EXPECT_EQ(toolstack.control(DomctlOperation::getdomaininfo, 1023, info), srch);
    // A domain goes by its number here, the caller's own, too.
    for (uint32_t command = 2; command < 100; ++command) {
        abi::DomctlCreate body{};
        bool const info_of = command == static_cast<uint32_t>(DomctlOperation::getdomaininfo);
        EXPECT_EQ(toolstack.control(static_cast<DomctlOperation>(command), domid_self, body),
                  info_of ? inval : srch)
            << command;
    }
    EXPECT_EQ(toolstack.control(DomctlOperation::getdomaininfo, 0xffff, info), inval);
}

TEST(Domctl, InfoLeadsToTheNextDomain) {
    Toolstack toolstack;
    auto create = Toolstack::ordinary();
    ASSERT_EQ(toolstack.control(DomctlOperation::createdomain, 950, create), 0);
    abi::DomctlInfo info{};
    EXPECT_EQ(toolstack.control(DomctlOperation::getdomaininfo, 940, info), 0);
    EXPECT_EQ(toolstack.number, 950);
    EXPECT_EQ(info.domain, 950);
    EXPECT_EQ(info.max_vcpu_id, abi::info::no_vcpus);
    EXPECT_EQ(toolstack.end(950), 0);
}

TEST(Domctl, AToolstackDoesNotStopItself) {
    Toolstack toolstack;
    DomainId const self = toolstack.domain.id;
    for (auto const what :
         {DomctlOperation::pausedomain, DomctlOperation::unpausedomain,
          DomctlOperation::destroydomain, DomctlOperation::resumedomain,
          DomctlOperation::setdebugging, DomctlOperation::gettscinfo, DomctlOperation::settscinfo})
        EXPECT_EQ(toolstack.control(what, self), inval);
    abi::DomctlVcpuContext context{0, 0, Guest::argument_address};
    EXPECT_EQ(toolstack.control(DomctlOperation::getvcpucontext, self, context), inval);
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, self, context), inval);
}

TEST(Domctl, AVcpuThatThereIsNotIsNotFound) {
    Toolstack toolstack;
    DomainId const self = toolstack.domain.id, other = toolstack.make();
    for (auto const what :
         {DomctlOperation::get_ext_vcpucontext, DomctlOperation::set_ext_vcpucontext,
          DomctlOperation::getvcpuextstate, DomctlOperation::setvcpuextstate,
          DomctlOperation::get_vcpu_msrs, DomctlOperation::set_vcpu_msrs}) {
        bool const context = what == DomctlOperation::get_ext_vcpucontext ||
                             what == DomctlOperation::set_ext_vcpucontext;
        uint64_t body[4] = {1}; // the vCPU's number comes first
        EXPECT_EQ(toolstack.control(what, other, body), srch);
        EXPECT_EQ(toolstack.control(what, self, body), srch);
        body[0] = 0;
        EXPECT_EQ(toolstack.control(what, self, body), context ? srch : inval);
    }
    EXPECT_EQ(toolstack.end(other), 0);
}

TEST(Domctl, PausesAreCounted) {
    Toolstack toolstack;
    Guest guest;
    DomainId const id = guest.domain.id;
    EXPECT_EQ(toolstack.control(DomctlOperation::unpausedomain, id), inval);
    EXPECT_EQ(toolstack.control(DomctlOperation::pausedomain, id), 0);
    EXPECT_EQ(toolstack.control(DomctlOperation::pausedomain, id), 0);
    EXPECT_TRUE(is_parked(guest.vcpu()));
    EXPECT_FALSE(guest.run([] {}));
    EXPECT_TRUE(toolstack.info(id).flags & abi::info::paused);
    EXPECT_EQ(toolstack.control(DomctlOperation::unpausedomain, id), 0);
    EXPECT_FALSE(guest.run([] {}));
    EXPECT_EQ(toolstack.control(DomctlOperation::unpausedomain, id), 0);
    EXPECT_TRUE(guest.run([] {}));
    EXPECT_FALSE(toolstack.info(id).flags & abi::info::paused);
}

TEST(Domctl, APauseWaitsForASleeperToComeOut) {
    Toolstack toolstack;
    Guest guest;
    EXPECT_FALSE(guest.hypercall(abi::Hypercall::sched_op,
                                 static_cast<uint64_t>(abi::SchedOperation::block)));
    EXPECT_TRUE(toolstack.info(guest.domain.id).flags & abi::info::blocked);
    EXPECT_EQ(toolstack.control(DomctlOperation::pausedomain, guest.domain.id), 0);
    EXPECT_TRUE(is_parked(guest.vcpu()));
    EXPECT_EQ(guest.vcpu().registers().rax, 0u) << "the call that it slept in has returned";
    EXPECT_EQ(toolstack.control(DomctlOperation::unpausedomain, guest.domain.id), 0);
    EXPECT_TRUE(guest.run([] {}));
}

TEST(Domctl, AShutDownDomainIsReportedAndResumed) {
    Toolstack toolstack;
    Guest guest;
    guest.argument<abi::SchedShutdown>() = {static_cast<uint32_t>(abi::ShutdownReason::suspend)};
    (void)guest.hypercall(abi::Hypercall::sched_op,
                          static_cast<uint64_t>(abi::SchedOperation::shutdown),
                          Guest::argument_address);
    uint32_t const flags = toolstack.info(guest.domain.id).flags;
    EXPECT_TRUE(flags & abi::info::shut_down);
    EXPECT_EQ(flags >> abi::info::shutdown_reason_shift & 0xff, 2u);
    EXPECT_FALSE(guest.run([] {}));
    EXPECT_EQ(toolstack.control(DomctlOperation::resumedomain, guest.domain.id), 0);
    EXPECT_TRUE(guest.run([] {}));
    EXPECT_FALSE(toolstack.info(guest.domain.id).flags & abi::info::shut_down);
}

TEST(Domctl, ALatchedCodeIsWhatTheNextShutdownReports) {
    Toolstack toolstack;
    Guest guest;
    auto const ask = [&](abi::SchedOperation operation, uint32_t reason) {
        guest.argument<abi::SchedShutdown>() = {reason};
        return guest.hypercall(abi::Hypercall::sched_op, static_cast<uint64_t>(operation),
                               Guest::argument_address);
    };
    auto const reported = [&] {
        uint32_t const flags = toolstack.info(guest.domain.id).flags;
        return flags & abi::info::shut_down ? flags >> abi::info::shutdown_reason_shift & 0xff : 99;
    };
    constexpr auto crash = static_cast<uint32_t>(abi::ShutdownReason::crash);
    constexpr auto reboot = static_cast<uint32_t>(abi::ShutdownReason::reboot);
    EXPECT_EQ(ask(abi::SchedOperation::shutdown_code, crash), 0);
    EXPECT_EQ(ask(abi::SchedOperation::shutdown_code, reboot), 0) << "and changes nothing";
    EXPECT_EQ(ask(abi::SchedOperation::shutdown_code, 6), inval);
    EXPECT_EQ(reported(), 99u) << "it runs on";
    EXPECT_EQ(toolstack.info(guest.domain.id).flags >> abi::info::shutdown_reason_shift, crash);
    (void)ask(abi::SchedOperation::shutdown, reboot);
    EXPECT_EQ(reported(), crash);
    EXPECT_EQ(toolstack.control(DomctlOperation::resumedomain, guest.domain.id), 0);
    ASSERT_TRUE(guest.run([] {}));
    (void)ask(abi::SchedOperation::shutdown, reboot);
    EXPECT_EQ(reported(), reboot) << "once";
}

TEST(Domctl, AToolstacksReasonIsOneOfThose) {
    Toolstack toolstack;
    Guest guest;
    auto const shut_down = [&](uint32_t reason) {
        toolstack.argument<abi::SchedRemoteShutdown>() = {guest.domain.id, 0, reason};
        return toolstack.hypercall(abi::Hypercall::sched_op,
                                   static_cast<uint64_t>(abi::SchedOperation::remote_shutdown),
                                   Guest::argument_address);
    };
    EXPECT_EQ(shut_down(6), inval);
    EXPECT_EQ(shut_down(0x100), inval);
    EXPECT_FALSE(toolstack.info(guest.domain.id).flags & abi::info::shut_down);
    EXPECT_EQ(shut_down(5), 0);
    EXPECT_EQ(toolstack.info(guest.domain.id).flags >> abi::info::shutdown_reason_shift, 5u);
}

TEST(Domctl, AGuestReadsTheHandleThatItWasGiven) {
    Toolstack toolstack;
    Guest guest;
    struct Handle {
        uint8_t bytes[16];
    } handle{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    ASSERT_EQ(toolstack.control(DomctlOperation::setdomainhandle, guest.domain.id, handle), 0);
    EXPECT_EQ(guest.hypercall(abi::Hypercall::xen_version,
                              static_cast<uint64_t>(abi::VersionOperation::guest_handle),
                              Guest::argument_address),
              0);
    EXPECT_EQ(memcmp(&guest.argument<Handle>(), &handle, sizeof handle), 0);
}

TEST(Domctl, AContextGoesInAndComesOutTheSame) {
    Toolstack toolstack;
    Guest guest{1, 0};
    pv::PvVcpu& v = guest.vcpu();
    v.online.store(false);
    // Larger than the argument page: in frames of the toolstack's that lie one behind the other.
    static_assert(sizeof(abi::VcpuGuestContext) > page_size);
    Mfn const second = toolstack.new_frame();
    direct<Pte>(toolstack.l1)[table_index(Guest::argument_address + page_size, 1)] =
        Pte::make(second, Guest::table_flags);
    auto context = std::make_unique<abi::VcpuGuestContext>();
    std::mt19937_64 random{5};
    auto* const words = reinterpret_cast<uint64_t*>(&context->registers);
    for (unsigned i = 0; i < 15; ++i)
        words[i] = random();
    context->flags = abi::context_in_kernel | abi::context_online | abi::context_fpu_valid;
    context->registers.rip = 0xffffffff81000000;
    context->registers.cs = 0xe033;
    context->registers.ss = 0xe02b;
    context->registers.rsp = 0xffffffff82000000;
    context->registers.rflags = 0x1202;
    context->kernel_sp = 0x1234000;
    context->event_callback = 0xffffffff81001000;
    context->control[3] = address_of(guest.l4).raw();
    context->control[4] = ~uint64_t{0};
    context->fs_base = 0x7000;
    context->gs_base_kernel = 0xffff888000000000;
    context->gs_base_user = 0x8000;
    context->traps[0] = {14, 4, 0xe033, 0, 0xffffffff81002000};
    context->debug[6] = 0xffff0ff0;
    context->debug[7] = 0x400;
    memcpy(v.fpu, "not yet", 8);
    memcpy(context->fpu, "the guest's", 12);

    constexpr uint64_t at = Guest::argument_address + 0x200;
    auto const put = [&](abi::VcpuGuestContext const& c) {
        auto const* const bytes = reinterpret_cast<char const*>(&c);
        size_t const first = page_size - 0x200;
        memcpy(direct<char>(toolstack.argument_page) + 0x200, bytes, first);
        memcpy(direct<char>(second), bytes + first, sizeof c - first);
    };
    auto const take = [&](abi::VcpuGuestContext& c) {
        auto* const bytes = reinterpret_cast<char*>(&c);
        size_t const first = page_size - 0x200;
        memcpy(bytes, direct<char>(toolstack.argument_page) + 0x200, first);
        memcpy(bytes + first, direct<char>(second), sizeof c - first);
    };
    abi::DomctlVcpuContext request{0, 0, at};
    DomainId const id = guest.domain.id;
    EXPECT_EQ(toolstack.control(DomctlOperation::getvcpucontext, id, request), -61) << "none yet";
    context->registers.rip = 0x8000000000000000;
    put(*context);
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), inval);
    context->registers.rip = 0xffffffff81000000;
    context->control[3] = address_of(toolstack.l4).raw();
    put(*context);
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), inval)
        << "another's is no address space of its own";
    context->control[3] = address_of(guest.l4).raw();
    put(*context);
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), 0);
    EXPECT_TRUE(v.online.load());

    auto out = std::make_unique<abi::VcpuGuestContext>();
    EXPECT_EQ(toolstack.control(DomctlOperation::getvcpucontext, id, request), 0);
    take(*out);
    EXPECT_EQ(memcmp(&out->registers, &context->registers, 15 * 8), 0);
    EXPECT_EQ(out->registers.rip, context->registers.rip);
    EXPECT_EQ(out->registers.rflags & 0x3000, 0x1000u) << "the privilege for ports is there";
    EXPECT_EQ(out->registers.rsp, context->registers.rsp);
    EXPECT_EQ(out->kernel_sp, context->kernel_sp);
    EXPECT_EQ(out->control[3], context->control[3]);
    EXPECT_EQ(out->control[1], 0u);
    EXPECT_EQ(out->control[4], 0x66cu) << "of what it asks for: what a guest may have here";
    EXPECT_EQ(out->fs_base, context->fs_base);
    EXPECT_EQ(out->gs_base_kernel, context->gs_base_kernel);
    EXPECT_EQ(out->gs_base_user, context->gs_base_user);
    EXPECT_EQ(out->traps[14].address, 0xffffffff81002000u);
    EXPECT_EQ(out->event_callback, context->event_callback);
    EXPECT_EQ(out->flags & 0x3f, context->flags);
    EXPECT_EQ(memcmp(out->fpu, context->fpu, 12), 0);

    // Later, registers may change, the address space may not.
    out->registers.rax = 1;
    put(*out);
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), 0);
    EXPECT_EQ(v.registers().rax, 1u);
    out->control[3] = 0x1000;
    put(*out);
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), inval);
    request.vcpu = 1;
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), inval);
    request = {0, 0, 0xffff800000000000};
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpucontext, id, request), fault);
    EXPECT_EQ(toolstack.control(DomctlOperation::getvcpucontext, id, request), fault);
    direct<Pte>(toolstack.l1)[table_index(Guest::argument_address + page_size, 1)] = {};
}

TEST(Domctl, AffinityBindsAndIsReported) {
    Toolstack toolstack;
    DomainId const id = toolstack.make(2);
    constexpr uint64_t hard = Guest::argument_address + 0x800, soft = hard + 16;
    auto const bits = [&](uint64_t address) -> uint8_t& {
        return toolstack.argument<uint8_t>(address - Guest::argument_address);
    };
    abi::DomctlVcpuAffinity request{
        1, abi::affinity_hard | abi::affinity_soft, {hard, 8, 0}, {soft, 8, 0}};
    bits(hard) = 0xf4;
    bits(soft) = 0x02;
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpuaffinity, id, request), 0);
    EXPECT_EQ(bits(hard), 0x04) << "what there is of it";
    EXPECT_EQ(bits(soft), 0);
    EXPECT_EQ(find_domain(id)->vcpus[1]->hard_affinity.bits & 0xff, 0xf4u);
    EXPECT_EQ(find_domain(id)->vcpus[1]->affinity(), CpuMask::of(2));
    EXPECT_EQ(toolstack.control(DomctlOperation::getvcpuaffinity, id, request), 0);
    EXPECT_EQ(bits(hard), 0xf4);
    EXPECT_EQ(bits(soft), 0x02);
    bits(hard) = 0xf0;
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpuaffinity, id, request), inval)
        << "none of them is online";
    request.flags = 0;
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpuaffinity, id, request), inval);
    request = {2, abi::affinity_hard, {hard, 8, 0}, {}};
    EXPECT_EQ(toolstack.control(DomctlOperation::setvcpuaffinity, id, request), inval);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST(Domctl, WeightsAreKept) {
    Toolstack toolstack;
    DomainId const id = toolstack.make();
    abi::DomctlSchedulerOp request{abi::scheduler_credit2, abi::scheduler_put, 512, 0, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), 0);
    request = {abi::scheduler_credit2, abi::scheduler_get, 0, 0, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), 0);
    EXPECT_EQ(request.weight, 512);
    // 0 leaves the weight as it is.
    request = {abi::scheduler_credit2, abi::scheduler_put, 0, 100, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), 0);
    request = {abi::scheduler_credit2, abi::scheduler_put, 7, 101, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), inval)
        << "more than its one vCPU can use";
    request = {abi::scheduler_credit2, abi::scheduler_get, 0, 0, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), 0);
    EXPECT_EQ(request.weight, 512);
    EXPECT_EQ(request.cap, 100);
    auto create = Toolstack::ordinary();
    ASSERT_EQ(toolstack.control(DomctlOperation::createdomain, 0, create), 0);
    DomainId const without_vcpus = toolstack.number;
    request = {abi::scheduler_credit2, abi::scheduler_put, 7, 1, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, without_vcpus, request), inval);
    EXPECT_EQ(toolstack.end(without_vcpus), 0);
    request = {abi::scheduler_credit2, abi::scheduler_get, 0, 0, 0, 0};
    request.command = 9;
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), inval);
    request = {5, abi::scheduler_get, 0, 0, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), inval);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST(Domctl, ACapHoldsAGuestBackAndItsEndDoesNotWait) {
    Toolstack toolstack;
    Guest guest;
    DomainId const id = guest.domain.id;
    abi::DomctlSchedulerOp request{abi::scheduler_credit2, abi::scheduler_put, 0, 1, 0, 0};
    EXPECT_EQ(toolstack.control(DomctlOperation::scheduler_op, id, request), 0);
    // It burns a hundred periods' worth at once: its next turn is far away, its destruction is not.
    EXPECT_TRUE(guest.run([] { host::tsc += 10'000'000; }));
    EXPECT_FALSE(guest.run([] {}));
}

TEST(Domctl, ClaimsKeepMemoryFree) {
    Toolstack toolstack;
    DomainId const first = toolstack.make(), second = toolstack.make();
    auto const claim = [&](DomainId id, uint64_t pages) {
        toolstack.argument<abi::MemoryReservation>() = {0, pages, 0, 0, id, {}};
        return *toolstack.hypercall(abi::Hypercall::memory_op,
                                    static_cast<uint64_t>(abi::MemoryOperation::claim_pages),
                                    Guest::argument_address);
    };
    uint64_t const available = free_frame_count();
    abi::DomctlMaxMemory everything{available * 4};
    EXPECT_EQ(toolstack.control(DomctlOperation::max_mem, first, everything), 0);
    EXPECT_EQ(toolstack.control(DomctlOperation::max_mem, second, everything), 0);
    EXPECT_EQ(claim(first, available + 100), nomem);
    EXPECT_EQ(claim(first, available - 50), 0);
    EXPECT_EQ(claim(second, 100), nomem);
    EXPECT_EQ(toolstack.info(first).outstanding_pages, available - 50);
    auto const claimed = [&] {
        abi::SysctlPhysinfo machine{};
        EXPECT_EQ(toolstack.system(abi::SysctlOperation::physinfo, machine), 0);
        return machine.outstanding_pages;
    };
    EXPECT_EQ(claimed(), available - 50);
    toolstack.argument<uint64_t>(0x100) = 0;
    toolstack.argument<abi::MemoryReservation>() = {
        Guest::argument_address + 0x100, 1, 6, 0, second, {}};
    EXPECT_EQ(*toolstack.hypercall(abi::Hypercall::memory_op,
                                   static_cast<uint64_t>(abi::MemoryOperation::populate_physmap),
                                   Guest::argument_address),
              0)
        << "64 frames are more than are left";
    Domain& taker = *find_domain(second);
    EXPECT_EQ(allocate_beside_claims(taker, 6).error(), Errno::nomem);
    Mfn const some = *allocate_beside_claims(taker, 5);
    EXPECT_EQ(allocate_beside_claims(taker, 5).error(), Errno::nomem) << "18 are left";
    free_frames(some, 5);
    (void)toolstack.populate(first, 10);
    EXPECT_EQ(toolstack.info(first).outstanding_pages, available - 60);
    EXPECT_EQ(claim(first, 0), 0);
    EXPECT_EQ(claim(second, 100), 0);
    EXPECT_EQ(claimed(), 100u);
    EXPECT_EQ(toolstack.end(second), 0);
    EXPECT_EQ(claim(first, available - 200), 0) << "an end gives the claim back";
    EXPECT_EQ(toolstack.end(first), 0);
}

/// What somebody does to a domain at each preemption point from when its end has begun.
DomainId ending = 0;
template <void (*function)(Domain&)>
void meanwhile() {
    if (Domain* const d = find_domain(ending); d && d->dying.load())
        function(*d);
}

TEST(Domctl, NobodyClaimsForADomainThatEnds) {
    Toolstack toolstack;
    ending = toolstack.make();
    uint64_t const available = free_frame_count();
    abi::DomctlMaxMemory everything{available * 4};
    EXPECT_EQ(toolstack.control(DomctlOperation::max_mem, ending, everything), 0);
    host::interrupt_window = meanwhile<[](Domain& d) { (void)stake_claim(d, d.id + 1000u); }>;
    EXPECT_EQ(toolstack.end(ending), 0);
    host::interrupt_window = nullptr;
    EXPECT_EQ(find_domain(ending), nullptr);
    DomainId const next = toolstack.make();
    EXPECT_EQ(toolstack.control(DomctlOperation::max_mem, next, everything), 0);
    EXPECT_TRUE(stake_claim(*find_domain(next), free_frame_count()));
    EXPECT_EQ(toolstack.end(next), 0);
}

TEST(Domctl, ATimerThatExpiresAtTheEndIsNotSetAgain) {
    Toolstack toolstack;
    ending = toolstack.make();
    auto held = PageRef::get(Mfn{toolstack.populate(ending, 1)[0]}, ending); // keeps it in being
    ASSERT_TRUE(held);
    // Its function was about to set it when the end began.
    static bool expires;
    expires = true;
    host::interrupt_window = meanwhile<[](Domain& d) {
        if (d.vcpus[0]->period == 0 && std::exchange(expires, false))
            d.vcpus[0]->periodic.set(now_ns() + 1'000'000'000);
    }>;
    EXPECT_EQ(toolstack.end(ending), 0);
    host::interrupt_window = nullptr;
    EXPECT_FALSE(expires);
    ASSERT_NE(find_domain(ending), nullptr);
    EXPECT_FALSE(find_domain(ending)->vcpus[0]->periodic.active());
    held->reset();
    Toolstack::settle();
    EXPECT_EQ(find_domain(ending), nullptr);
}

/// What a guest has begun is not finished once somebody is about to end it: its lists may be as
/// long as it likes, and whoever ends it waits for its vCPUs.
class Doomed : public testing::Test {
protected:
    static constexpr uint64_t list = Guest::argument_address;
    static inline Domain* doomed = nullptr;
    Guest guest;

    Doomed() { doomed = &guest.domain; }
    /// A list as the argument page's contents.
    template <class T>
    std::span<T> fill(T const& entry) {
        std::span const all{&guest.argument<T>(), page_size / sizeof(T)};
        std::ranges::fill(all, entry);
        return all;
    }
    /// The end is announced at the first preemption point.
    void call(abi::Hypercall number, uint64_t a1, uint64_t a2, uint64_t a3 = 0, uint64_t a4 = 0) {
        host::interrupt_window = [] { doomed->doomed.store(true); };
        (void)guest.hypercall(number, a1, a2, a3, a4);
        host::interrupt_window = nullptr;
        EXPECT_TRUE(doomed->doomed.load());
    }
};

TEST_F(Doomed, HypercallsAreNotMadeAnyMore) {
    constexpr uint64_t unanswered = 12345;
    auto const calls = fill<abi::MulticallEntry>(
        {static_cast<uint64_t>(abi::Hypercall::xen_version), unanswered, {}});
    call(abi::Hypercall::multicall, list, calls.size());
    EXPECT_NE(calls.front().result, unanswered);
    EXPECT_EQ(calls.back().result, unanswered);
}

TEST_F(Doomed, TablesAreNotUpdatedAnyMore) {
    auto const updates =
        fill<abi::MmuUpdate>({guest.l1.raw() << page_shift | abi::mmu_machphys_update, 0});
    for (uint64_t i = 0; i < updates.size(); ++i)
        updates[i].value = i;
    call(abi::Hypercall::mmu_update, list, updates.size(), 0, domid_self);
    EXPECT_LT(get_m2p(guest.l1), updates.size() - 1);
}

TEST_F(Doomed, NoMoreIsFlushed) {
    auto const operations =
        fill<abi::MmuExtOp>({static_cast<uint32_t>(abi::MmuExtCommand::invlpg_local), 0, 0, 0});
    uint64_t& invalidated = host::cpu_state(guest.vcpu().cpu()).pages_invalidated;
    uint64_t const before = invalidated;
    call(abi::Hypercall::mmuext_op, list, operations.size(), 0, domid_self);
    EXPECT_LT(invalidated - before, operations.size());
}

TEST_F(Doomed, GrantsAreNotUsedAnyMore) {
    constexpr auto unanswered = static_cast<abi::GrantStatus>(12345);
    auto const check = [&](abi::GrantOperation what, auto const entry) {
        doomed->doomed.store(false);
        auto const all = fill(entry);
        call(abi::Hypercall::grant_table_op, static_cast<uint64_t>(what), list, all.size());
        EXPECT_NE(all.front().status, unanswered);
        EXPECT_EQ(all.back().status, unanswered) << static_cast<unsigned>(what);
    };
    abi::GrantMap map{};
    map.status = unanswered;
    check(abi::GrantOperation::map_grant_ref, map);
    abi::GrantUnmap unmap{};
    unmap.status = unanswered;
    check(abi::GrantOperation::unmap_grant_ref, unmap);
    abi::GrantCopy copy{};
    copy.status = unanswered;
    check(abi::GrantOperation::copy, copy);
    abi::GrantTransfer transfer{};
    transfer.status = unanswered;
    check(abi::GrantOperation::transfer, transfer);
    abi::GrantSwap swap{};
    swap.status = unanswered;
    check(abi::GrantOperation::swap_grant_ref, swap);
}

TEST_F(Doomed, NoMoreMemoryIsTaken) {
    for (unsigned i = 0; i < 300; ++i)
        guest.argument<uint64_t>(0x100 + i * 8) = i;
    guest.argument<abi::MemoryReservation>() = {list + 0x100, 300, 0, 0, domid_self, {}};
    uint64_t const before = guest.owned_frames().size();
    call(abi::Hypercall::memory_op, static_cast<uint64_t>(abi::MemoryOperation::populate_physmap),
         list);
    EXPECT_LT(guest.owned_frames().size(), before + 300);
}

/// Also while somebody else has the domain's `control`, and waits.
TEST(Domctl, AnEndIsAnnouncedAtOnce) {
    Toolstack toolstack;
    DomainId const id = toolstack.make();
    Domain& d = *find_domain(id);
    d.control.lock();
    abi::Domctl const op{static_cast<uint32_t>(DomctlOperation::destroydomain),
                         abi::domctl_interface_version,
                         id,
                         {},
                         {}};
    toolstack.argument<abi::Domctl>() = op;
    EXPECT_FALSE(toolstack.hypercall(abi::Hypercall::domctl, Guest::argument_address));
    EXPECT_TRUE(d.doomed.load());
    EXPECT_FALSE(d.dying.load());
    d.control.unlock();
    Toolstack::settle();
    Toolstack::settle();
    EXPECT_EQ(find_domain(id), nullptr);
}

TEST(Domctl, TheTypesOfFramesAreTold) {
    Toolstack toolstack;
    Guest guest;
    constexpr uint64_t list = 0x400;
    uint64_t const asked[] = {guest.l4.raw(), guest.l1.raw(), guest.argument_page.raw(),
                              toolstack.l1.raw(), ~uint64_t{0}};
    for (unsigned i = 0; i < 5; ++i)
        toolstack.argument<uint64_t>(list + i * 8) = asked[i];
    abi::DomctlPageInfo request{5, Guest::argument_address + list};
    ASSERT_EQ(toolstack.control(DomctlOperation::getpageframeinfo3, guest.domain.id, request), 0);
    uint64_t const expected[] = {4u << 28, 1u << 28, 0, 0xfu << 28, 0xfu << 28};
    for (unsigned i = 0; i < 5; ++i)
        EXPECT_EQ(toolstack.argument<uint64_t>(list + i * 8), expected[i]) << i;
    request.count = 1025;
    EXPECT_EQ(toolstack.control(DomctlOperation::getpageframeinfo3, guest.domain.id, request), -7);
}

TEST(Domctl, TheDeadAreHeardOf) {
    Toolstack toolstack;
    Domain& d = toolstack.domain;
    toolstack.argument<abi::BindVirq>() = {abi::virq_dom_exc, 0, 0};
    ASSERT_EQ(*toolstack.hypercall(abi::Hypercall::event_channel_op,
                                   static_cast<uint64_t>(abi::EventOperation::bind_virq),
                                   Guest::argument_address),
              0);
    uint32_t const port = toolstack.argument<abi::BindVirq>().port;
    abi::DomctlSetVirqHandler handler{abi::virq_dom_exc};
    EXPECT_EQ(toolstack.control(DomctlOperation::set_virq_handler, d.id, handler), 0);
    abi::DomctlSetVirqHandler timer{abi::virq_timer};
    EXPECT_EQ(toolstack.control(DomctlOperation::set_virq_handler, d.id, timer), inval);
    auto const heard = [&] {
        uint64_t const bit = uint64_t{1} << port;
        bool const pending = d.shared_info->event_pending[0] & bit;
        d.shared_info->event_pending[0] &= ~bit;
        return pending;
    };
    (void)heard();
    DomainId const id = toolstack.make();
    EXPECT_FALSE(heard());
    crash_domain(*find_domain(id), "a test");
    EXPECT_TRUE(heard());
    EXPECT_EQ(toolstack.info(id).flags >> 16 & 0xff, 3u);
    EXPECT_EQ(toolstack.end(id), 0);
    EXPECT_TRUE(heard());
}

TEST(Sysctl, DomainsAndCpusAreListed) {
    Toolstack toolstack;
    DomainId const id = toolstack.make();
    constexpr uint64_t out = 0x400;
    auto const ask = [&](abi::SysctlOperation what, auto& body) {
        abi::Sysctl op{static_cast<uint32_t>(what), abi::sysctl_interface_version, {}};
        memcpy(op.body, &body, sizeof body);
        toolstack.argument<abi::Sysctl>() = op;
        auto const r = toolstack.hypercall(abi::Hypercall::sysctl, Guest::argument_address);
        memcpy(&body, toolstack.argument<abi::Sysctl>().body, sizeof body);
        return r.value_or(-1000);
    };
    abi::SysctlDomainList list{id, 0, 3, Guest::argument_address + out, 0, 0};
    EXPECT_EQ(ask(abi::SysctlOperation::getdomaininfolist, list), 0);
    EXPECT_GE(list.count, 1u);
    EXPECT_EQ(toolstack.argument<abi::DomctlInfo>(out).domain, id);
    abi::SysctlSchedulerId scheduler{};
    EXPECT_EQ(ask(abi::SysctlOperation::sched_id, scheduler), 0);
    EXPECT_EQ(scheduler.scheduler, abi::scheduler_credit2);
    abi::SysctlCpuPoolOp pool{};
    pool.operation = abi::cpu_pool_info;
    pool.cpus = Guest::argument_address + out;
    pool.cpus_bit_count = 8;
    EXPECT_EQ(ask(abi::SysctlOperation::cpupool_op, pool), 0);
    EXPECT_EQ(toolstack.argument<uint8_t>(out), 0xf);
    pool.pool = 1;
    EXPECT_EQ(ask(abi::SysctlOperation::cpupool_op, pool), -2);
    abi::SysctlCpuFeatures features{2, 0, 0};
    EXPECT_EQ(ask(abi::SysctlOperation::get_cpu_featureset, features), 0);
    EXPECT_EQ(features.word_count, feature_words);
    features = {6, 0, 0};
    EXPECT_EQ(ask(abi::SysctlOperation::get_cpu_featureset, features), inval);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST(Domctl, AZombieIsSeenAndDestroyedAgain) {
    Toolstack toolstack;
    DomainId const id = toolstack.make();
    auto held = PageRef::get(Mfn{toolstack.populate(id, 1)[0]}, id); // as a mapping does
    ASSERT_TRUE(held);
    EXPECT_EQ(toolstack.end(id), 0);
    EXPECT_TRUE(toolstack.info(id).flags & abi::info::dying);
    EXPECT_EQ(toolstack.end(id), 0);
    EXPECT_EQ(toolstack.control(DomctlOperation::pausedomain, id), srch);
    held->reset();
    Toolstack::settle();
    EXPECT_EQ(find_domain(id), nullptr);
    EXPECT_EQ(toolstack.end(id), srch);
}

TEST(Sysctl, WhatThereIsNotIsSaid) {
    Toolstack toolstack;
    auto const refused = [&](abi::SysctlOperation what) {
        abi::SysctlCpuPoolOp nothing{};
        return toolstack.system(what, nothing);
    };
    for (auto const what : {abi::SysctlOperation::get_pmstat, abi::SysctlOperation::psr_cmt_op,
                            abi::SysctlOperation::psr_alloc})
        EXPECT_EQ(refused(what), nodev);
    EXPECT_EQ(refused(abi::SysctlOperation::coverage_op), opnotsupp);
    for (uint32_t const other : {0u, 2u, 5u, 11u, 12u, 13u, 14u, 15u, 24u, 27u, 28u, 30u, 127u})
        EXPECT_EQ(refused(static_cast<abi::SysctlOperation>(other)), nosys) << other;
    constexpr uint64_t list = Guest::argument_address + 0x800;
    abi::SysctlPciTopology devices{2, 0, list, list};
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::pcitopoinfo, devices), 0);
    EXPECT_EQ(devices.count, 2u);
    EXPECT_EQ(toolstack.argument<uint64_t>(0x800), ~uint64_t{0});
    devices.nodes = layout::start;
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::pcitopoinfo, devices), fault);
    devices = {~0u, 0, list, list};
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::pcitopoinfo, devices), fault)
        << "beyond what there is";
    devices.nodes = 0;
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::pcitopoinfo, devices), inval);
}

} // namespace
} // namespace hearth::test
