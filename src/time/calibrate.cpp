#include "time/calibrate.h"

#include "arch/apic.h"
#include "arch/intrinsics.h"
#include "arch/port_io.h"

namespace hearth {
namespace {

constinit volatile uint64_t* hpet_registers = nullptr;
constinit uint16_t pm_timer_port = 0;

uint64_t read_hpet() { return hpet_registers[0xf0 / 8]; }
uint64_t read_pm_timer() { return arch::in32(pm_timer_port); }
uint64_t read_pit() {
    arch::out8(0x43, 0x80); // latch channel 2
    uint64_t const low = arch::in8(0x42);
    return 0xffff - (low | uint64_t{arch::in8(0x42)} << 8);
}

/// A reading of both counters at what is as nearly the same time as can be had: the tightest of several tries.
struct Reading {
    uint64_t reference, tsc, width = ~uint64_t{0};
};
Reading read_both(ReferenceCounter const& reference) {
    Reading best{};
    for (unsigned i = 0; i < 8; ++i) {
        uint64_t const before = arch::read_tsc();
        uint64_t const value = reference.read();
        uint64_t const after = arch::read_tsc();
        if (after - before < best.width)
            best = {value, before + (after - before) / 2, after - before};
    }
    return best;
}

} // namespace

ReferenceCounter hpet_counter(void* registers) {
    hpet_registers = static_cast<volatile uint64_t*>(registers);
    uint64_t const period = hpet_registers[0] >> 32; // in femtoseconds
    bool const wide = hpet_registers[0] >> 13 & 1;
    if (period == 0 || period > 100'000'000)
        return {};
    hpet_registers[0x10 / 8] = hpet_registers[0x10 / 8] | 1;
    return {read_hpet, 1'000'000'000'000'000 / period, wide ? ~uint64_t{0} : 0xffffffff};
}

ReferenceCounter pm_timer_counter(uint16_t port, bool wide) {
    pm_timer_port = port;
    return {read_pm_timer, 3'579'545, wide ? uint64_t{0xffffffff} : 0xffffff};
}

ReferenceCounter pit_counter() {
    arch::out8(0x61, (arch::in8(0x61) & 0xfc) | 1);
    arch::out8(0x43, 0xb0); // channel 2, both bytes, mode 0
    arch::out8(0x42, 0xff);
    arch::out8(0x42, 0xff);
    return {read_pit, 1'193'182, 0xffff};
}

Frequencies measure_frequencies(ReferenceCounter const& reference) {
    constexpr uint32_t long_time = 0xffffffff;
    // First roughly, awake, to learn what to set the APIC timer to.
    arch::apic_timer_start(long_time);
    Reading const first = read_both(reference);
    uint64_t const apic_first = arch::apic_timer_remaining();
    uint64_t const rough = reference.hertz / 2000 + 1;
    while (((reference.read() - first.reference) & reference.mask) < rough)
        arch::pause();
    uint64_t const apic_per_half_ms = apic_first - arch::apic_timer_remaining();
    // Then over 20 ms, asleep: the timer's interrupt only wakes the CPU.
    uint32_t const apic_ticks = static_cast<uint32_t>(apic_per_half_ms * 40 + 1);
    arch::apic_timer_start(apic_ticks);
    Reading const start = read_both(reference);
    arch::wait_for_interrupt();
    Reading const end = read_both(reference);
    uint64_t const elapsed = (end.reference - start.reference) & reference.mask;
    Frequencies f;
    // Both factors are below 2^31 or so: some tens of milliseconds.
    f.tsc_hertz = (end.tsc - start.tsc) * reference.hertz / (elapsed ? elapsed : 1);
    f.apic_hertz = uint64_t{apic_ticks} * reference.hertz / (elapsed ? elapsed : 1);
    return f;
}

} // namespace hearth
