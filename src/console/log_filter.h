// Which messages are shown: by who caused them, how grave they are, and how many of them come.
#pragma once

#include "console/log.h"

namespace hearth {

/// Decides for the messages of one source. Not locked: the console's lock covers it.
class LogFilter {
public:
    /// So many of the messages that are limited in rate are shown in one period.
    static constexpr unsigned burst = 64;
    static constexpr uint64_t period = 5'000'000'000; // ns

    constexpr explicit LogFilter(LogThresholds thresholds) : thresholds_{thresholds} {}

    void set(LogThresholds thresholds) { thresholds_ = thresholds; }
    /// Whether such a message may be shown at all.
    [[nodiscard]] bool concerns(Level level) const {
        return shows(thresholds_.rate_limited, level) || shows(thresholds_.always, level);
    }

    struct Verdict {
        bool shown = false;
        uint32_t left_out = 0; ///< before it, in the period that is over
    };
    /// `now`: system time, ns.
    Verdict judge(Level level, uint64_t now);

private:
    static constexpr bool shows(LogThreshold threshold, Level level) {
        return static_cast<uint8_t>(level) < static_cast<uint8_t>(threshold);
    }
    LogThresholds thresholds_;
    uint64_t period_start_ = 0;
    uint32_t in_period_ = 0, left_out_ = 0;
};

} // namespace hearth
