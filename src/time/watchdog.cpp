// A CPU that lets interrupts in gets one of its own timer's at least once a second. The interval
// timer (8254) goes on by itself and ticks as an NMI on every CPU, which looks whether they came.
#include "time/watchdog.h"

#include "arch/intrinsics.h"
#include "arch/port_io.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "irq/irq.h"
#include "irq/nmi.h"
#include "time/clock.h"
#include "time/timer.h"

#include <atomic>

namespace hearth {
namespace {

constexpr unsigned ticks_per_second = 20;
constexpr unsigned pit_hertz = 1'193'182;

/// What a CPU saw at its last tick.
struct Watch {
    uint32_t interrupts = 0;
    uint32_t silent_ticks = 0; // since the last one
    std::atomic<uint32_t> ticks{0};
};
constinit Watch watches[max_cpus]{};
constinit uint32_t most_silent_ticks = 0;

void tick(Registers const& frame) {
    unsigned const cpu = this_cpu_id();
    Watch& w = watches[cpu];
    w.ticks.fetch_add(1, std::memory_order_relaxed);
    if (uint32_t const interrupts = timer_interrupts(cpu); interrupts != w.interrupts) {
        w.interrupts = interrupts;
        w.silent_ticks = 0;
    } else if (++w.silent_ticks > most_silent_ticks) {
        crash_report(frame, "watchdog: this CPU has let no interrupt in for too long");
    }
}

/// Channel 0, mode 2: a pulse each so often, for ever. (Intel 8254)
void start_interval_timer() {
    constexpr unsigned divisor = pit_hertz / ticks_per_second;
    static_assert(divisor <= 0xffff);
    arch::out8(0x43, 0x34);
    arch::out8(0x40, divisor & 0xff);
    arch::out8(0x40, divisor >> 8);
}

bool ticks_everywhere() {
    uint64_t const end = now_ns() + 500'000'000;
    bool all = false;
    while (!all && now_ns() < end) {
        all = true;
        online_cpus().each([&](unsigned cpu) { all = all && watches[cpu].ticks.load() >= 2; });
    }
    return all;
}

} // namespace

Result<> watchdog_start(uint32_t timeout_seconds) {
    most_silent_ticks =
        (timeout_seconds + 1) * ticks_per_second; // the interrupt may be a second away
    set_nmi_watchdog(tick);
    unsigned const line = gsi_of_isa(0);
    start_interval_timer();
    auto const routed = irq_send_as_nmi(line);
    if (routed && ticks_everywhere())
        return {};
    if (routed)
        irq_unbind(line);
    set_nmi_watchdog(nullptr); // an NMI that nobody expects is Domain 0's
    return routed ? Errno::nodev : routed.error();
}

} // namespace hearth
