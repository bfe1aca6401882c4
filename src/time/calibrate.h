// How fast the time-stamp counter and the APIC timer run.
#pragma once

#include "time/clock.h"

namespace hearth {

struct Frequencies {
    uint64_t tsc_hertz = 0;
    uint64_t apic_hertz = 0; // of the timer as it is programmed
};
/// Sleeps for some 20 ms of `reference`; needs the local APIC, and interrupts that go nowhere else.
Frequencies measure_frequencies(ReferenceCounter const& reference);

ReferenceCounter hpet_counter(void* registers);
ReferenceCounter pm_timer_counter(uint16_t port, bool wide);
/// Channel 2 of the 8254: on every PC.
ReferenceCounter pit_counter();

} // namespace hearth
