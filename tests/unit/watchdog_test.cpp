// The interval timer's NMIs, and what becomes of a CPU that lets no interrupt in.
#include "fake_machine.h"

#include "cpu/crash.h"
#include "irq/irq.h"
#include "irq/nmi.h"
#include "time/watchdog.h"

#include <gtest/gtest.h>

#include <vector>

extern "C" void interrupt(hearth::Registers& frame);

namespace hearth::test {
namespace {

/// An IO-APIC of its own, with the timer's line, whose registers are memory: what was written last
/// is the low word of a pin.
constexpr uint64_t io_apic_at = 0xfec80000;
constexpr unsigned first_line = 64, pins = 24, timer_line = first_line + 2;
constexpr uint32_t sends_nmis = 0x400, masked = 1u << 16;
constexpr unsigned timeout_seconds = 5, patience = (timeout_seconds + 1) * 20;

uint32_t io_apic[1024];
unsigned ticking_cpus = 0;
std::vector<uint8_t> programmed;
uint32_t heard = 0;

void tick_on(unsigned cpu) {
    host::set_current_cpu(cpu);
    Registers frame{};
    frame.rsp = page_size; // a stack with no frames on it
    handle_nmi(frame);
    host::set_current_cpu(0);
}
void timer_interrupt_on(unsigned cpu) {
    host::set_current_cpu(cpu);
    Registers frame{};
    frame.vector = arch::vector_timer;
    interrupt(frame);
    host::set_current_cpu(0);
}

class Watchdog : public testing::Test {
protected:
    Watchdog() {
        boot_machine();
        programmed.clear();
        heard = 0;
        host::device_at = [](PhysicalAddress) -> void* { return io_apic; };
        io_apic[4] = (pins - 1) << 16 | 0x11;
        IoApicDescription const description{PhysicalAddress{io_apic_at}, first_line};
        IsaOverride const timer{0, timer_line, false, false};
        irq_initialise({&description, 1}, {&timer, 1});
        host::tsc_step = 1'000'000;
        host::read_port = [](uint16_t, uint8_t) { return uint8_t{0}; };
        host::write_port = [](uint16_t port, unsigned, uint32_t value) {
            if (port != 0x43 && port != 0x40)
                return;
            programmed.push_back(static_cast<uint8_t>(value));
            if (programmed.size() == 3) // it runs
                for (unsigned cpu = 0; cpu < ticking_cpus; ++cpu)
                    for (unsigned i = 0; i < 2; ++i)
                        tick_on(cpu);
        };
        set_nmi_listener([](uint32_t reasons) { heard |= reasons; });
    }
    ~Watchdog() override {
        irq_unbind(timer_line);
        set_nmi_watchdog(nullptr);
        set_nmi_listener(nullptr);
        host::device_at = nullptr;
        host::read_port = nullptr;
        host::write_port = nullptr;
        host::tsc_step = 0;
        (void)host::collect_interrupts(0);
    }
    /// Somebody's NMI is Domain 0's again.
    static bool is_off() {
        tick_on(0);
        nmi_interrupt();
        return heard == nmi_reason::unknown;
    }
};

TEST_F(Watchdog, IsOffWhereNoNmiComes) {
    ticking_cpus = 0;
    EXPECT_EQ(watchdog_start(timeout_seconds).error(), Errno::nodev);
    EXPECT_TRUE(io_apic[4] & masked);
    EXPECT_FALSE(irq_is_bound(timer_line));
    EXPECT_TRUE(is_off());
}

TEST_F(Watchdog, IsOffWhereOneCpuHearsNothing) {
    ticking_cpus = machine_cpus - 1;
    EXPECT_EQ(watchdog_start(timeout_seconds).error(), Errno::nodev);
    EXPECT_TRUE(is_off());
}

TEST_F(Watchdog, IsOffWhereTheLineIsSomebodyElses) {
    ticking_cpus = machine_cpus;
    ASSERT_TRUE(irq_bind(timer_line, [](void*, unsigned) {}, nullptr));
    EXPECT_EQ(watchdog_start(timeout_seconds).error(), Errno::busy);
    EXPECT_TRUE(irq_is_bound(timer_line));
    EXPECT_TRUE(is_off());
}

TEST_F(Watchdog, TheTimersLineSendsNmisToAll) {
    ticking_cpus = machine_cpus;
    ASSERT_TRUE(watchdog_start(timeout_seconds));
    EXPECT_EQ(programmed, (std::vector<uint8_t>{0x34, 0x0b, 0xe9})) << "20 Hz, for ever";
    EXPECT_EQ(io_apic[0], 0x10 + 2 * (timer_line - first_line));
    EXPECT_EQ(io_apic[4], sends_nmis);
    EXPECT_FALSE(is_off());
}

TEST_F(Watchdog, ACpuThatTakesItsInterruptsIsLeftAlone) {
    ticking_cpus = machine_cpus;
    ASSERT_TRUE(watchdog_start(timeout_seconds));
    for (unsigned second = 0; second < 10 * timeout_seconds; ++second) {
        timer_interrupt_on(2);
        for (unsigned tick = 0; tick < 20; ++tick)
            tick_on(2);
    }
}

TEST_F(Watchdog, ACpuThatTakesNoneIsReported) {
    ticking_cpus = machine_cpus;
    ASSERT_TRUE(watchdog_start(timeout_seconds));
    timer_interrupt_on(2);
    tick_on(2);
    for (unsigned tick = 0; tick < patience; ++tick)
        tick_on(2);
    EXPECT_DEATH(tick_on(2), "PANIC on CPU 2: watchdog: this CPU has let no interrupt in");
}

} // namespace
} // namespace hearth::test
