#include "time/clock.h"

#include "arch/intrinsics.h"
#include "arch/port_io.h"
#include "base/lock.h"

namespace hearth {
namespace {

constinit uint64_t start_tsc = 0;
constinit uint64_t hertz = 0;
constinit uint32_t kilohertz = 0;
constinit TimeScale scale{};
constinit uint64_t ticks_per_ns = 0; // with 32 fractional bits
constinit Guarded<WallClock, Rank::timer> wall_clock;

constexpr uint64_t second = 1'000'000'000;

uint8_t cmos(uint8_t index) {
    arch::out8(0x70, index);
    return arch::in8(0x71);
}

struct CmosTime {
    uint8_t fields[6]; // second, minute, hour, day, month, year
    bool operator==(CmosTime const&) const = default;
};

CmosTime read_cmos_time() { return {{cmos(0), cmos(2), cmos(4), cmos(7), cmos(8), cmos(9)}}; }

unsigned from_bcd(uint8_t v) { return (v >> 4) * 10u + (v & 15); }

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
uint64_t days_since_epoch(unsigned year, unsigned month, unsigned day) {
    // Years from March, so that the leap day comes last.
    uint64_t const y = month <= 2 ? year - 1 : year;
    uint64_t const m = month <= 2 ? month + 9 : month - 3;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

} // namespace

TimeScale TimeScale::from_frequency(uint64_t f) {
    // ns = ticks * 1e9 / f. Scale f into (1e9, 2e9], so that the multiplier keeps 31 or more
    // significant bits.
    TimeScale s;
    while (f > 2 * second) {
        f >>= 1;
        --s.shift;
    }
    while (f <= second) {
        f <<= 1;
        ++s.shift;
    }
    s.multiplier = static_cast<uint32_t>((second << 32) / f);
    return s;
}

void clock_refine(uint64_t tsc_frequency) {
    hertz = tsc_frequency;
    kilohertz = static_cast<uint32_t>(hertz / 1000);
    scale = TimeScale::from_frequency(hertz);
    ticks_per_ns = (hertz / second << 32) + ((hertz % second) << 32) / second;
}

void clock_start(uint64_t tsc_frequency) {
    clock_refine(tsc_frequency);
    start_tsc = arch::read_tsc();
}

uint64_t now_ns() { return scale.nanoseconds(arch::read_tsc() - start_tsc); }
uint32_t tsc_kilohertz() { return kilohertz; }
TimeScale const& tsc_scale() { return scale; }

uint64_t tsc_at(uint64_t ns) {
    // From now on, not from the start: the scale of now_ns() and the frequency differ by a part in
    // 2^31 or so, which would add up over weeks until every timer fired early, again and again.
    constexpr uint64_t rounding = 8; // ticks that the difference can make in a second
    uint64_t const tsc = arch::read_tsc();
    uint64_t const now = scale.nanoseconds(tsc - start_tsc);
    uint64_t const wait = ns > now ? ns - now : 0;
    return tsc + static_cast<uint64_t>(static_cast<unsigned __int128>(wait) * ticks_per_ns >> 32) +
           rounding;
}

void fill_time_info(abi::VcpuTimeInfo& info) {
    info.tsc_timestamp = start_tsc;
    info.system_time = 0;
    info.tsc_to_system_mul = scale.multiplier;
    info.tsc_shift = scale.shift;
    info.flags = abi::time_tsc_stable;
}

WallClock wall_clock_base() {
    return wall_clock.with([](WallClock& w) { return w; });
}

void set_wall_clock(uint64_t seconds, uint32_t nanoseconds, uint64_t at_system_time) {
    uint64_t base_seconds = seconds - at_system_time / second;
    uint64_t const fraction = at_system_time % second;
    if (nanoseconds < fraction)
        --base_seconds;
    uint64_t const base_nanoseconds =
        nanoseconds + (nanoseconds < fraction ? second : 0) - fraction;
    wall_clock.with(
        [&](WallClock& w) { w = {base_seconds, static_cast<uint32_t>(base_nanoseconds)}; });
}

void wall_clock_from_rtc() {
    // Twice the same, and not while it updates: consistent.
    CmosTime t{};
    for (unsigned tries = 0; tries < 1000; ++tries) {
        if (cmos(0x0a) & 0x80)
            continue;
        t = read_cmos_time();
        if (!(cmos(0x0a) & 0x80) && t == read_cmos_time())
            break;
    }
    uint8_t const format = cmos(0x0b);
    bool const binary = format & 4;
    auto const number = [&](unsigned i) { return binary ? t.fields[i] : from_bcd(t.fields[i]); };
    bool const afternoon = !(format & 2) && (t.fields[2] & 0x80);
    t.fields[2] &= 0x7f;
    unsigned hour = number(2);
    if (!(format & 2))
        hour = hour % 12 + (afternoon ? 12 : 0);
    uint64_t const days = days_since_epoch(2000 + number(5), number(4), number(3));
    set_wall_clock(days * 86400 + hour * 3600 + number(1) * 60 + number(0), 0, now_ns());
}

} // namespace hearth
