// Exceptions that Hearth's own code meets: which are a guest's making, and which its end.
#include "fake_machine.h"

#include "arch/descriptors.h"
#include "cpu/crash.h"
#include "irq/nmi.h"

#include <gtest/gtest.h>

extern "C" {
void hypervisor_exception(hearth::Registers& frame);
void paranoid_exception(hearth::Registers& frame);
hearth::Registers* move_to_entry_stack(hearth::Registers const& frame);
extern char const guest_iret[], airlock_iret[], guest_read[], guest_read_failed[], sysenter_entry[],
    sysenter_flags_off[];
}

namespace hearth::test {
namespace {

uint64_t address(char const* place) { return reinterpret_cast<uint64_t>(place); }

Registers met(Vector vector, uint64_t rip, uint32_t error_code = 0) {
    Registers frame{};
    frame.vector = static_cast<uint32_t>(vector);
    frame.rip = rip;
    frame.rsp = page_size; // a stack with no frames on it
    frame.error_code = error_code;
    frame.rflags = rflags::fixed | rflags::tf;
    return frame;
}

class Exceptions : public testing::Test {
protected:
    Guest guest;

    /// The guest's general registers were loaded already, and are in the fault's frame. It goes on
    /// in the guest from there.
    void fault_on_the_way_back(char const* instruction = guest_iret) {
        guest_steps()[&guest.vcpu().registers()] = [=](Registers& r) {
            r.rip = 0x5000;
            r.cs = 0xe033;
            r.ss = 0x1233;
            r.rsp = Guest::argument_address + page_size;
            r.rflags = rflags::fixed | rflags::interrupts;
            Registers frame = met(Vector::general_protection, address(instruction), 0x1230);
            frame.rax = 0xabcd;
            frame.rcx = 0xcccc;
            hypervisor_exception(frame);
            ADD_FAILURE() << "it came back";
        };
        run_all_cpus();
    }
};

/// By a watchpoint on what it hands over, or a single step into an entry point, a guest makes
/// Hearth's code fault anywhere.
TEST_F(Exceptions, AGuestsWatchpointChangesNothing) {
    for (uint64_t const rip : {address(guest_read), address(guest_iret), uint64_t{0x1234}}) {
        Registers frame = met(Vector::debug, rip);
        host::cpu_state(host::current_cpu()).dr6 = 0xffff0ff1;
        hypervisor_exception(frame);
        EXPECT_EQ(host::cpu_state(host::current_cpu()).dr6, arch::dr6::none);
        EXPECT_EQ(frame.rip, rip);
        EXPECT_EQ(frame.rflags, rflags::fixed) << "one step is enough";
    }
}

TEST_F(Exceptions, AStepThroughSysenterIsStillInItsFrame) {
    for (auto const& [rip, kept] : {std::pair{address(sysenter_entry), true},
                                    std::pair{address(sysenter_flags_off), false}}) {
        Registers frame = met(Vector::debug, rip);
        frame.rflags |= rflags::tf;
        hypervisor_exception(frame);
        EXPECT_EQ(frame.rflags & rflags::tf, kept ? rflags::tf : 0);
    }
}

TEST_F(Exceptions, GuestMemoryThatIsNotThereIsAnAnswer) {
    for (auto const& [vector, at] :
         {std::pair{Vector::page_fault, Guest::argument_address + page_size},
          std::pair{Vector::page_fault, layout::image},
          std::pair{Vector::general_protection, uint64_t{0x0000800000000000}}})
        ASSERT_TRUE(guest.run([&] {
            host::cpu_state(host::current_cpu()).cr2 = at;
            Registers frame = met(vector, address(guest_read));
            hypervisor_exception(frame);
            EXPECT_EQ(frame.rip, address(guest_read_failed)) << at;
        }));
}

TEST_F(Exceptions, AnythingElseIsTheEnd) {
    for (Vector const vector :
         {Vector::page_fault, Vector::general_protection, Vector::invalid_opcode}) {
        Registers frame = met(vector, address(guest_read) + 1);
        EXPECT_DEATH(hypervisor_exception(frame), "PANIC on CPU .: Hearth caused an exception");
    }
    Registers frame = met(Vector::double_fault, 0);
    EXPECT_DEATH(paranoid_exception(frame), "PANIC on CPU .: double fault");
    frame = met(Vector::machine_check, 0);
    EXPECT_DEATH(paranoid_exception(frame), "PANIC on CPU .: machine check");
}

TEST_F(Exceptions, AnNmiIsNone) {
    static unsigned ticks;
    ticks = 0;
    host::read_port = [](uint16_t, uint8_t) { return uint8_t{0}; };
    set_nmi_watchdog([](Registers const&) { ++ticks; });
    Registers frame = met(Vector::nmi, 0);
    paranoid_exception(frame);
    set_nmi_watchdog(nullptr);
    host::read_port = nullptr;
    EXPECT_EQ(ticks, 1u);
}

TEST_F(Exceptions, AFrameMovesToTheGuestsPlace) {
    alignas(16) Registers room[2]{};
    arch::set_entry_stack(this_cpu_id(), reinterpret_cast<uint64_t>(room + 2));
    Registers const frame = met(Vector::nmi, 0x1234);
    EXPECT_EQ(move_to_entry_stack(frame), room + 1);
    EXPECT_EQ(room[1].rip, 0x1234u);
    EXPECT_EQ(room[0].rip, 0u);
}

/// The way back to a guest faults at what the guest gave itself: a selector, say.
TEST_F(Exceptions, AWayBackThatFaultsIsTheGuestsFailsafe) {
    constexpr uint64_t failsafe = 0x40000;
    ASSERT_EQ(guest.hypercall(abi::Hypercall::set_callbacks, 0x30000, failsafe, 0x20000), 0);
    Registers& r = guest.vcpu().registers();
    for (char const* const instruction : {guest_iret, airlock_iret}) {
        fault_on_the_way_back(instruction);
        EXPECT_EQ(r.rip, failsafe);
        EXPECT_EQ(r.rax, 0xabcdu);
        auto const* const pushed =
            &guest.argument<uint64_t>(r.rsp - Guest::argument_address); // rcx, r11, ds, es, fs, gs
        EXPECT_EQ(pushed[0], 0xccccu);
        EXPECT_EQ(pushed[6], 0x5000u) << "where it was to go on";
        EXPECT_EQ(pushed[10], 0x1233u);
    }
    EXPECT_FALSE(guest.domain.is_shut_down());
}

TEST_F(Exceptions, WithoutAFailsafeTheGuestDies) {
    fault_on_the_way_back();
    EXPECT_TRUE(guest.domain.is_shut_down());
    Guest other;
    EXPECT_EQ(other.hypercall(abi::Hypercall::xen_version, 0), 4 << 16 | 17);
}

} // namespace
} // namespace hearth::test
