// What becomes of an NMI, and of the vectors that Hearth keeps to itself.
#include "fake_machine.h"

#include "cpu/crash.h"
#include "irq/nmi.h"

#include <gtest/gtest.h>

extern "C" void interrupt(hearth::Registers& frame);

namespace hearth::test {
namespace {

uint8_t reason_port = 0;
uint32_t heard = 0;
unsigned watchdog_ticks = 0;

void take(uint8_t vector) {
    Registers frame{};
    frame.vector = vector;
    interrupt(frame);
}
/// An NMI on a CPU, and then the interrupts that it leaves behind.
void nmi_on(unsigned cpu) {
    host::set_current_cpu(cpu);
    Registers frame{};
    frame.rsp = page_size; // a stack with no frames on it
    handle_nmi(frame);
    for (uint8_t const vector : host::collect_interrupts(cpu))
        take(vector);
    host::set_current_cpu(0);
}

class Nmi : public testing::Test {
protected:
    Nmi() {
        boot_machine();
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
            take_interrupts(cpu);
        reason_port = 0;
        heard = watchdog_ticks = 0;
        host::read_port = [](uint16_t port, uint8_t) {
            return port == 0x61 ? reason_port : uint8_t{0xff};
        };
        set_nmi_listener([](uint32_t reasons) { heard |= reasons; });
    }
    ~Nmi() override {
        host::read_port = nullptr;
        set_nmi_action(NmiAction::to_dom0);
        set_nmi_listener(nullptr);
        set_nmi_watchdog(nullptr);
    }
};

TEST_F(Nmi, Domain0HearsWhyItCame) {
    constexpr struct {
        uint8_t port;
        uint32_t reasons;
    } cases[] = {{0x00, nmi_reason::unknown},
                 {0x3f, nmi_reason::unknown},
                 {0x40, nmi_reason::io_check},
                 {0x80, nmi_reason::system_error},
                 {0xc0, nmi_reason::io_check | nmi_reason::system_error}};
    for (auto const& c : cases) {
        heard = 0;
        reason_port = c.port;
        nmi_on(0);
        EXPECT_EQ(heard, c.reasons) << unsigned{c.port};
    }
}

TEST_F(Nmi, ItIsToldOnceAndNotInTheHandler) {
    reason_port = 0x80;
    Registers frame{};
    handle_nmi(frame);
    EXPECT_EQ(heard, 0u) << "locks may be held";
    take(arch::vector_nmi_noted);
    EXPECT_EQ(heard, nmi_reason::system_error);
    heard = 0;
    take(arch::vector_nmi_noted);
    EXPECT_EQ(heard, 0u);
    (void)host::collect_interrupts(0);
}

TEST_F(Nmi, MayBeIgnored) {
    set_nmi_action(NmiAction::ignore);
    reason_port = 0x80;
    nmi_on(0);
    EXPECT_EQ(heard, 0u);
}

TEST_F(Nmi, MayStopTheMachine) {
    set_nmi_action(NmiAction::fatal);
    reason_port = 0x40;
    EXPECT_DEATH(nmi_on(0), "PANIC on CPU 0: NMI: a device reports an I/O check");
    reason_port = 0x80;
    EXPECT_DEATH(nmi_on(0), "PANIC on CPU 0: NMI: the chipset reports a system error");
    reason_port = 0;
    EXPECT_DEATH(nmi_on(0), "PANIC on CPU 0: NMI of unknown cause");
}

TEST_F(Nmi, TheChipsetsLinesLeadToTheFirstCpu) {
    reason_port = 0x80;
    nmi_on(1);
    EXPECT_EQ(heard, 0u);
}

TEST_F(Nmi, TheWatchdogTakesWhatNobodySent) {
    set_nmi_watchdog([](Registers const&) { ++watchdog_ticks; });
    nmi_on(0);
    nmi_on(2);
    EXPECT_EQ(watchdog_ticks, 2u);
    EXPECT_EQ(heard, 0u);
    reason_port = 0x40;
    nmi_on(0);
    EXPECT_EQ(watchdog_ticks, 2u);
    EXPECT_EQ(heard, nmi_reason::io_check);
}

TEST_F(Nmi, TheTimersVectorCounts) {
    uint32_t const before = timer_interrupts(0);
    for (uint8_t const other :
         {arch::vector_spurious, arch::vector_error, arch::vector_flush, arch::vector_reschedule})
        take(other);
    EXPECT_EQ(timer_interrupts(0), before);
    take(arch::vector_timer);
    EXPECT_EQ(timer_interrupts(0), before + 1);
}

} // namespace
} // namespace hearth::test
