// System time: nanoseconds since Hearth started, by the time-stamp counter.
#pragma once

#include "abi/xen.h"
#include "base/address.h"

#include <cstdint>

namespace hearth {

/// ns = (ticks << shift) * multiplier >> 32, as guests compute it too. (public/xen.h,
/// vcpu_time_info)
struct TimeScale {
    uint32_t multiplier = 0;
    int8_t shift = 0;

    static TimeScale from_frequency(uint64_t hertz);
    [[nodiscard]] constexpr uint64_t nanoseconds(uint64_t ticks) const {
        ticks = shift < 0 ? ticks >> -shift : ticks << shift;
        return static_cast<uint64_t>(static_cast<unsigned __int128>(ticks) * multiplier >> 32);
    }
};

/// A free-running counter of known frequency to measure the TSC against.
struct ReferenceCounter {
    uint64_t (*read)() = nullptr;
    uint64_t hertz = 0;
    uint64_t mask = 0; // of the counter's bits
};

void clock_start(uint64_t tsc_hertz);
/// A better figure, before anybody has been told the first.
void clock_refine(uint64_t tsc_hertz);
uint64_t now_ns();
uint32_t tsc_kilohertz();
TimeScale const& tsc_scale();
uint64_t tsc_at(uint64_t ns);
/// The three numbers that a guest needs, the same on every CPU.
void fill_time_info(abi::VcpuTimeInfo& info);

/// Wall clock: seconds since 1970 at system time 0, split as the ABI has it.
struct WallClock {
    uint64_t seconds;
    uint32_t nanoseconds;
};
WallClock wall_clock_base();
void set_wall_clock(uint64_t seconds, uint32_t nanoseconds, uint64_t at_system_time);
/// Reads the CMOS clock, once at start-up.
void wall_clock_from_rtc();

} // namespace hearth
