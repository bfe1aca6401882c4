#include "console/log_filter.h"

#include <utility>

namespace hearth {

LogFilter::Verdict LogFilter::judge(Level level, uint64_t now) {
    if (shows(thresholds_.always, level))
        return {.shown = true};
    if (!shows(thresholds_.rate_limited, level))
        return {};
    Verdict verdict;
    if (now - period_start_ >= period) {
        period_start_ = now;
        in_period_ = 0;
        verdict.left_out = std::exchange(left_out_, 0);
    }
    verdict.shown = in_period_ < burst;
    if (verdict.shown)
        ++in_period_;
    else
        ++left_out_;
    return verdict;
}

} // namespace hearth
