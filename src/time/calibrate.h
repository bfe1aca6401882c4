// How fast the time-stamp counter and the APIC timer run.
#pragma once

#include "time/clock.h"

namespace hearth {

struct Frequencies {
    uint64_t tsc_hertz = 0;
    uint64_t apic_hertz = 0; // of the timer as it is programmed
};

/// Measures in two steps, so that nobody waits: roughly over half a millisecond, then over however
/// long start-up took.
class Calibration {
    ReferenceCounter reference_;
    uint64_t first_reference_ = 0, first_tsc_ = 0;
    uint64_t apic_ticks_ = 0, apic_tsc_ticks_ = 0; // both over the same time
    Frequencies rough_;

public:
    /// Needs the local APIC, its timer unused.
    static Calibration begin(ReferenceCounter const& reference);
    [[nodiscard]] Frequencies rough() const { return rough_; }
    [[nodiscard]] Frequencies finish() const;
    [[nodiscard]] uint64_t reference_hertz() const { return reference_.hertz; }
};

ReferenceCounter hpet_counter(void* registers);
ReferenceCounter pm_timer_counter(uint16_t port, bool wide);
/// The TSC itself, where the processor says how fast it runs; otherwise one that reads nothing.
ReferenceCounter tsc_counter();
/// Whether it moves: firmware may name one that is not there.
bool counts(ReferenceCounter const& counter);
/// Channel 2 of the 8254: on every PC.
ReferenceCounter pit_counter();

} // namespace hearth
