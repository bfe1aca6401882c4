// Timers: one deadline heap for each CPU, behind its local APIC timer.
#pragma once

#include "cpu/mask.h"

#include <atomic>
#include <cstdint>

namespace hearth {

/// Calls `expired(argument)` once, on the CPU that it was set on, with interrupts off and no lock
/// held.
class Timer {
public:
    using Function = void (*)(void* argument);
    constexpr Timer(Function expired, void* argument) : expired_{expired}, argument_{argument} {}
    Timer(Timer const&) = delete;
    Timer& operator=(Timer const&) = delete;
    ~Timer() { stop(); }

    /// Sets or moves it to `deadline` (system time, ns); one that has passed expires at once. On
    /// the calling CPU.
    void set(uint64_t deadline);
    void stop();
    [[nodiscard]] bool active() const { return cpu_.load(std::memory_order_relaxed) >= 0; }

private:
    friend class TimerHeap;
    Function expired_;
    void* argument_;
    uint64_t deadline_ = 0;
    std::atomic<int> cpu_{-1};
    // A pairing heap's links: first child, next sibling, and the parent or previous sibling.
    Timer* child_ = nullptr;
    Timer* sibling_ = nullptr;
    Timer* previous_ = nullptr;
};

/// The APIC timer's frequency in Hz, or 0 where deadlines are set in TSC ticks. Again when it is
/// better known.
void timers_initialise(uint64_t apic_hertz);
void timers_initialise_cpu();
/// The timer vector's handler.
void timer_interrupt();
/// How many a CPU has taken: at least one a second.
uint32_t timer_interrupts(unsigned cpu);
/// For the debug keys.
uint64_t next_deadline(unsigned cpu);

} // namespace hearth
