// A limit on the processor time that a group of threads takes together.
#pragma once

#include "base/lock.h"

#include <cstdint>

namespace hearth {

/// So much in each period, on all CPUs together. The periods of all caps begin at the same moments.
/// What is used beyond the allowance, since a timer came late, is taken off the periods that
/// follow.
class Cap {
public:
    static constexpr uint64_t period = 10'000'000; // ns

    static constexpr uint64_t next_period(uint64_t now) { return (now / period + 1) * period; }

    /// How much in each period, ns; what was overdrawn is forgotten.
    void set_allowance(uint64_t allowance, uint64_t now);
    /// How long a thread may run now, ns, which is taken off what is left; 0: it waits for the next
    /// period.
    uint64_t draw(uint64_t now);
    /// A thread drew so much and ran for so long.
    void settle(uint64_t drawn, uint64_t ran);

private:
    struct Budget {
        uint64_t allowance = 0;
        uint64_t period_number = 0; // that `left` is of
        int64_t left = 0;
    };
    Guarded<Budget, Rank::budget> budget_;
};

} // namespace hearth
