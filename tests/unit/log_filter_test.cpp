// Which messages are shown.
#include "console/log_filter.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

using enum LogThreshold;
constexpr uint64_t much_later = 10 * LogFilter::period;

TEST(LogFilter, ShowsUpToTheThresholdWhateverTheRate) {
    LogFilter filter{{warning, warning}};
    for (unsigned i = 0; i < 10 * LogFilter::burst; ++i)
        ASSERT_TRUE(filter.judge(Level::warning, 0).shown);
    EXPECT_TRUE(filter.judge(Level::error, 0).shown);
    EXPECT_FALSE(filter.judge(Level::info, 0).shown);
    EXPECT_FALSE(filter.concerns(Level::info));
}

TEST(LogFilter, NoneIsNothing) {
    LogFilter filter{{none, none}};
    EXPECT_FALSE(filter.concerns(Level::error));
    EXPECT_FALSE(filter.judge(Level::error, much_later).shown);
}

TEST(LogFilter, LimitsTheRateBetweenTheThresholds) {
    LogFilter filter{{none, warning}};
    unsigned shown = 0;
    for (unsigned i = 0; i < 100 + LogFilter::burst; ++i)
        shown += filter.judge(Level::error, much_later).shown;
    EXPECT_EQ(shown, LogFilter::burst);
    // What is shown always does not count, and is not held up.
    LogFilter mixed{{error, debug}};
    for (unsigned i = 0; i < 10 * LogFilter::burst; ++i)
        EXPECT_TRUE(mixed.judge(Level::error, much_later).shown);
    EXPECT_TRUE(mixed.judge(Level::debug, much_later).shown);
}

TEST(LogFilter, TellsInTheNextPeriodHowManyAreMissing) {
    LogFilter filter{{none, debug}};
    for (unsigned i = 0; i < LogFilter::burst + 3; ++i)
        EXPECT_EQ(filter.judge(Level::info, 1).left_out, 0u);
    auto const next = filter.judge(Level::info, 1 + LogFilter::period);
    EXPECT_TRUE(next.shown);
    EXPECT_EQ(next.left_out, 3u);
    EXPECT_EQ(filter.judge(Level::info, 2 + LogFilter::period).left_out, 0u);
}

} // namespace
} // namespace hearth
