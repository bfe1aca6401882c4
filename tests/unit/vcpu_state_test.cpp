// vCPUs that a guest brings up itself, and the page that its hypercalls go through.
#include "toolstack.h"

#include "abi/event_channel.h"
#include "domain/guest_mode.h"

namespace hearth::test {
namespace {

using abi::Hypercall;
using abi::VcpuOperation;

class SecondVcpu : public testing::Test {
protected:
    Guest guest{2, 1};
    pv::PvVcpu& v = guest.vcpu(1);
    Mfn second_page = guest.new_frame();
    std::unique_ptr<abi::VcpuGuestContext> context = std::make_unique<abi::VcpuGuestContext>();

    SecondVcpu() {
        // A context is larger than the argument page.
        EXPECT_EQ(guest.hypercall(Hypercall::update_va_mapping, Guest::argument_address + page_size,
                                  address_of(second_page).raw() | Guest::table_flags, 0),
                  0);
        context->flags = abi::context_in_kernel;
        context->registers.rip = 0x5000;
        context->registers.rsp = 0x6000;
        context->registers.rax = 7;
        context->control[3] = address_of(guest.l4).raw();
    }
    int64_t ask(VcpuOperation operation, uint64_t vcpu = 1,
                uint64_t argument = Guest::argument_address) {
        return guest.hypercall(Hypercall::vcpu_op, static_cast<uint64_t>(operation), vcpu, argument)
            .value_or(-1000);
    }
    int64_t initialise() {
        auto const* const bytes = reinterpret_cast<char const*>(context.get());
        memcpy(direct<char>(guest.argument_page), bytes, page_size);
        memcpy(direct<char>(second_page), bytes + page_size, sizeof *context - page_size);
        return ask(VcpuOperation::initialise);
    }
    [[nodiscard]] uint64_t holds(Mfn mfn) { return page_at(mfn).type_word().count(); }
};

TEST_F(SecondVcpu, StartsAsItsContextSays) {
    uint64_t const before = holds(guest.l4);
    EXPECT_EQ(ask(VcpuOperation::up), inval) << "it has no context yet";
    EXPECT_EQ(ask(VcpuOperation::is_up), 0);
    ASSERT_EQ(initialise(), 0);
    EXPECT_EQ(initialise(), exist);
    EXPECT_EQ(holds(guest.l4), before + 1);
    EXPECT_EQ(ask(VcpuOperation::is_up), 0);
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    EXPECT_EQ(ask(VcpuOperation::is_up), 1);
    run_all_cpus();
    EXPECT_EQ(v.registers().rip, 0x5000u);
    EXPECT_EQ(v.registers().rsp, 0x6000u);
    EXPECT_EQ(v.registers().rax, 7u);
    ASSERT_EQ(ask(VcpuOperation::down), 0);
    EXPECT_EQ(ask(VcpuOperation::is_up), 0);
}

/// Its CPU may be another's meanwhile, who would be interrupted.
TEST_F(SecondVcpu, IsNotCalledWhereItDoesNotRun) {
    ASSERT_EQ(initialise(), 0);
    set_affinity(v, CpuMask::of(2));
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    run_all_cpus();
    ASSERT_EQ(ask(VcpuOperation::down), 0);
    Guest neighbour;
    set_affinity(neighbour.vcpu(), CpuMask::of(2));
    ASSERT_TRUE(neighbour.run([] {}));
    ASSERT_EQ(v.cpu(), 2u);
    size_t sent = 1;
    ASSERT_TRUE(guest.run([&] {
        ASSERT_NE(this_cpu_id(), 2u);
        (void)host::collect_interrupts(2);
        send_nmi(v);
        sent = host::collect_interrupts(2).size();
    }));
    EXPECT_EQ(sent, 0u);
}

TEST_F(SecondVcpu, TheLastOneThatGoesDownIsTheDomainsEnd) {
    ASSERT_EQ(initialise(), 0);
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    ASSERT_EQ(ask(VcpuOperation::down), 0);
    EXPECT_EQ(ask(VcpuOperation::down), 0) << "it is down already";
    EXPECT_FALSE(guest.domain.is_shut_down());
    (void)ask(VcpuOperation::down, 0);
    EXPECT_TRUE(guest.domain.is_shut_down());
    EXPECT_EQ(guest.domain.shutdown.load(), static_cast<uint32_t>(abi::ShutdownReason::poweroff));
    // The toolstack may resume it all the same, and then somebody has to go on.
    Toolstack toolstack;
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::resumedomain, guest.domain.id), 0);
    EXPECT_TRUE(guest.run([] {}));
    EXPECT_EQ(ask(VcpuOperation::is_up, 0), 1);
}

TEST_F(SecondVcpu, IsWokenByItsTimerAfterItWasDown) {
    ASSERT_EQ(initialise(), 0);
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    guest.argument<abi::BindVirq>() = {abi::virq_timer, 1, 0};
    ASSERT_EQ(guest.hypercall(Hypercall::event_channel_op,
                              static_cast<uint64_t>(abi::EventOperation::bind_virq),
                              Guest::argument_address),
              0);
    v.period = 0;
    v.periodic.stop();
    v.singleshot.set(now_ns() + 1'000'000);
    ASSERT_EQ(ask(VcpuOperation::down), 0);
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    v.info->upcall_pending = 0;
    host::tsc += 2'000'000;
    run_all_cpus();
    EXPECT_TRUE(v.upcall_pending());
}

TEST_F(SecondVcpu, HasNoTicksWhileItIsDown) {
    ASSERT_EQ(initialise(), 0);
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    EXPECT_TRUE(v.periodic.active());
    ASSERT_EQ(ask(VcpuOperation::down), 0);
    EXPECT_FALSE(v.periodic.active());
    // The handler had begun when the timer was stopped.
    v.periodic.set(now_ns() + 1);
    host::tsc += 1'000'000;
    run_all_cpus();
    EXPECT_FALSE(v.periodic.active());
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    EXPECT_TRUE(v.periodic.active());
    ASSERT_EQ(ask(VcpuOperation::down), 0);
}

TEST_F(SecondVcpu, IsFlushedWhereItComesBackTo) {
    ASSERT_EQ(initialise(), 0);
    ASSERT_EQ(ask(VcpuOperation::up), 0);
    set_affinity(guest.vcpu(), CpuMask::of(2));
    set_affinity(v, CpuMask::of(1));
    auto const goes_to_sleep = [&] { EXPECT_FALSE(guest.run([] { sleep_current(); }, 1)); };
    auto const comes_back = [&] {
        uint64_t const loads = host::cpu_state(1).cr3_loads;
        wake(v);
        for (unsigned round = 0; round < 4; ++round)
            run_all_cpus();
        return host::cpu_state(1).cr3_loads - loads;
    };
    goes_to_sleep();
    (void)comes_back();
    goes_to_sleep();
    ASSERT_EQ(comes_back(), 0u) << "its address space is still there";
    // Away and back while it sleeps.
    goes_to_sleep();
    set_affinity(v, CpuMask::of(3));
    ASSERT_EQ(v.cpu(), 3u);
    guest.argument<uint64_t>(0x100) = 2;
    guest.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(abi::MmuExtCommand::tlb_flush_multi),
                                       0, 0, Guest::argument_address + 0x100};
    EXPECT_EQ(guest.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self), 0);
    set_affinity(v, CpuMask::of(1));
    EXPECT_GT(comes_back(), 0u);
}

TEST_F(SecondVcpu, NmisComeWithoutAnArgument) { EXPECT_EQ(ask(VcpuOperation::send_nmi), inval); }

/// What is not mapped there may be later; until then nobody is told.
TEST_F(SecondVcpu, AreasAreWhereTheGuestSays) {
    for (auto const what : {VcpuOperation::register_runstate_memory_area,
                            VcpuOperation::register_vcpu_time_memory_area}) {
        guest.argument<abi::MemoryArea>() = {8};
        EXPECT_EQ(ask(what, 0), 0);
        EXPECT_TRUE(guest.run([] {}));
        for (uint64_t const nobodys :
             {uint64_t{0xffff800000000000}, uint64_t{0x800000000000}, ~uint64_t{0}}) {
            guest.argument<abi::MemoryArea>() = {nobodys};
            EXPECT_EQ(ask(what, 0), fault) << std::hex << nobodys;
        }
    }
}

TEST_F(SecondVcpu, HasAPlaceAmongTheMachinesOnlyIfItStaysThere) {
    EXPECT_EQ(ask(VcpuOperation::get_physid), inval);
    guest.domain.hardware = true;
    EXPECT_EQ(ask(VcpuOperation::get_physid), inval);
    set_affinity(v, CpuMask::of(v.cpu()));
    Cpu& cpu = cpu_block(v.cpu());
    uint32_t const before = std::exchange(cpu.acpi_id, 0x1234u);
    EXPECT_EQ(ask(VcpuOperation::get_physid), 0);
    EXPECT_EQ(guest.argument<abi::VcpuPhysicalId>().id, uint64_t{0x1234} << 32 | cpu.apic_id);
    cpu.acpi_id = before;
}

TEST_F(SecondVcpu, IsRefusedAContextThatIsNotItsOwn) {
    Guest other;
    struct Change {
        char const* what;
        std::function<void(abi::VcpuGuestContext&)> make;
        int64_t error;
    };
    Change const changes[] = {
        {"user mode", [](auto& c) { c.flags = 0; }, inval},
        {"an address that is not canonical", [](auto& c) { c.registers.rip = 1ull << 63; }, inval},
        {"too many descriptors", [](auto& c) { c.gdt_entries = 8192; }, inval},
        {"too many local descriptors", [](auto& c) { c.ldt_entries = 8193; }, inval},
        {"a descriptor table of another's",
         [&](auto& c) { c.gdt_entries = 512, c.gdt_frames[0] = other.argument_page.raw(); }, inval},
        {"a breakpoint on the hypervisor", [](auto& c) { c.debug[0] = 0xffff800000000000; }, perm},
        {"no root", [&](auto& c) { c.control[3] = address_of(guest.l1).raw(); }, inval},
        {"a root of another's", [&](auto& c) { c.control[3] = address_of(other.l4).raw(); }, inval},
        {"a user's root of another's", [&](auto& c) { c.control[1] = address_of(other.l4).raw(); },
         inval},
    };
    uint64_t const before = holds(guest.l4);
    abi::VcpuGuestContext const good = *context;
    for (auto const& [what, make, error] : changes) {
        *context = good;
        make(*context);
        EXPECT_EQ(initialise(), error) << what;
        EXPECT_EQ(holds(guest.l4), before) << what;
        EXPECT_EQ(ask(VcpuOperation::up), inval) << what;
    }
    EXPECT_EQ(ask(VcpuOperation::initialise, 1, 0xffff800000000000), fault);
    EXPECT_EQ(ask(VcpuOperation::initialise, 2), noent);
    *context = good;
    EXPECT_EQ(initialise(), 0) << "what was refused left nothing behind";
}

TEST_F(SecondVcpu, HoldsItsUsersAddressSpaceAndItsDescriptors) {
    Mfn const user = guest.new_frame(), table = guest.new_frame();
    memcpy(direct<char>(user), direct<char>(guest.l4), page_size);
    context->control[1] = address_of(user).raw();
    context->gdt_entries = 512;
    context->gdt_frames[0] = table.raw();
    ASSERT_EQ(initialise(), 0);
    EXPECT_EQ(v.user_table, user);
    EXPECT_EQ(page_at(user).type_word().type(), PageType::l4);
    EXPECT_EQ(page_at(table).type_word().type(), PageType::descriptors);
}

TEST(HypercallPage, EachSlotAsksForItsNumber) {
    Toolstack toolstack;
    DomainId const id = toolstack.make();
    uint64_t const frame = toolstack.populate(id, 1)[0];
    uint64_t request = frame;
    ASSERT_EQ(toolstack.control(abi::DomctlOperation::hypercall_init, id, request), 0);
    auto const* const page = direct<uint8_t>(Mfn{frame});
    for (unsigned n = 0; n < 128; ++n) {
        uint8_t const* const slot = page + 32 * n;
        unsigned const load = n == static_cast<unsigned>(Hypercall::iret) ? 4 : 3;
        EXPECT_EQ(slot[load], 0xb8) << n;
        EXPECT_EQ(slot[load + 1], n);
        EXPECT_EQ(slot[load + 5], 0x0f);
        EXPECT_EQ(slot[load + 6], 0x05);
        EXPECT_EQ(slot[31], 0xcc) << "nothing runs on into the next";
    }
    request = toolstack.argument_page.raw();
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::hypercall_init, id, request), inval)
        << "another's page";
    EXPECT_EQ(toolstack.end(id), 0);
}

} // namespace
} // namespace hearth::test
