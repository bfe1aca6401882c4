#include "time/calibrate.h"

#include "arch/apic.h"
#include "arch/intrinsics.h"
#include "arch/port_io.h"

namespace hearth {
namespace {

constinit uint64_t volatile* hpet_registers = nullptr;
constinit uint16_t pm_timer_port = 0;

uint64_t read_hpet() { return hpet_registers[0xf0 / 8]; }
uint64_t read_pm_timer() { return arch::in32(pm_timer_port); }
uint64_t read_pit() {
    arch::out8(0x43, 0x80); // latch channel 2
    uint64_t const low = arch::in8(0x42);
    return 0xffff - (low | uint64_t{arch::in8(0x42)} << 8);
}

/// What another counter shows, and the TSC at what is as nearly the same time as can be had: the
/// tightest of several tries.
struct Reading {
    uint64_t value, tsc, width = ~uint64_t{0};
};
template <class Read>
Reading read_beside_tsc(Read&& read) {
    Reading best{};
    for (unsigned i = 0; i < 8; ++i) {
        uint64_t const before = arch::read_tsc();
        uint64_t const value = read();
        uint64_t const after = arch::read_tsc();
        if (after - before < best.width)
            best = {value, before + (after - before) / 2, after - before};
    }
    return best;
}

/// value * numerator / denominator, without a product that does not fit.
uint64_t scaled(uint64_t value, uint64_t numerator, uint64_t denominator) {
    uint64_t const whole = value / denominator, rest = value % denominator;
    return whole * numerator + rest * numerator / denominator;
}

} // namespace

ReferenceCounter hpet_counter(void* registers) {
    hpet_registers = static_cast<uint64_t volatile*>(registers);
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

ReferenceCounter tsc_counter() {
    // The TSC runs at ecx * ebx / eax Hz. (Intel SDM vol. 2A, CPUID, leaf 15H)
    arch::CpuidLeaf const leaf = arch::cpuid(0).eax >= 0x15 ? arch::cpuid(0x15) : arch::CpuidLeaf{};
    if (leaf.eax == 0 || leaf.ebx == 0 || leaf.ecx == 0)
        return {};
    return {arch::read_tsc, uint64_t{leaf.ecx} * leaf.ebx / leaf.eax, ~uint64_t{0}};
}

bool counts(ReferenceCounter const& counter) {
    constexpr unsigned reads =
        10'000; // each takes as long as a port or a bus does: a tick at least
    if (!counter.read)
        return false;
    uint64_t const first = counter.read();
    for (unsigned i = 0; i < reads; ++i)
        if (((counter.read() - first) & counter.mask) != 0)
            return true;
    return false;
}

Calibration Calibration::begin(ReferenceCounter const& reference) {
    Calibration c;
    c.reference_ = reference;
    arch::apic_timer_start(0xffffffff);
    Reading const apic_start = read_beside_tsc(arch::apic_timer_remaining);
    Reading const start = read_beside_tsc(reference.read);
    // For half a millisecond, or longer where a reading takes so long that it would not say when
    // it was taken to within a two-hundredth of that; but before a narrow counter comes round.
    uint64_t const half_millisecond = reference.hertz / 2000 + 1;
    uint64_t elapsed = 0;
    Reading end{}, apic_end{};
    do {
        arch::pause();
        apic_end = read_beside_tsc(arch::apic_timer_remaining);
        end = read_beside_tsc(reference.read);
        elapsed = (end.value - start.value) & reference.mask;
    } while (elapsed < half_millisecond || (elapsed < reference.mask / 2 &&
                                            end.tsc - start.tsc < 100 * (start.width + end.width)));
    arch::apic_timer_start(0);
    c.first_reference_ = start.value;
    c.first_tsc_ = start.tsc;
    // Either counter by the TSC that was read beside it: what comes between their readings is
    // nobody's.
    c.rough_.tsc_hertz = (end.tsc - start.tsc) * reference.hertz / elapsed;
    c.apic_ticks_ = apic_start.value - apic_end.value;
    c.apic_tsc_ticks_ = apic_end.tsc - apic_start.tsc;
    c.rough_.apic_hertz = scaled(c.apic_ticks_, c.rough_.tsc_hertz, c.apic_tsc_ticks_);
    return c;
}

Frequencies Calibration::finish() const {
    Reading const end = read_beside_tsc(reference_.read);
    uint64_t const ticks = end.tsc - first_tsc_;
    uint64_t elapsed = (end.value - first_reference_) & reference_.mask;
    // A narrow counter has come round some times since; the rough frequency tells how many.
    if (uint64_t const period = reference_.mask + 1; period != 0) {
        uint64_t const expected = ticks / (rough_.tsc_hertz / 1000 + 1) * reference_.hertz / 1000;
        if (expected > elapsed)
            elapsed += (expected - elapsed + period / 2) / period * period;
    }
    Frequencies f;
    f.tsc_hertz = scaled(ticks, reference_.hertz, elapsed);
    f.apic_hertz = scaled(apic_ticks_, f.tsc_hertz, apic_tsc_ticks_);
    return f;
}

} // namespace hearth
