#include "base/range_set.h"

#include <gtest/gtest.h>

#include <bitset>
#include <random>

namespace hearth::test {
namespace {

TEST(RangeSet, RangesJoinAndSplit) {
    RangeSet set;
    EXPECT_TRUE(set.add(10, 20));
    EXPECT_TRUE(set.add(30, 40));
    EXPECT_FALSE(set.holds(10, 40));
    EXPECT_TRUE(set.meets(20, 30));
    EXPECT_FALSE(set.meets(21, 29));
    EXPECT_TRUE(set.add(21, 29));
    EXPECT_EQ(set.end() - set.begin(), 1);
    EXPECT_TRUE(set.holds(10, 40));
    EXPECT_TRUE(set.remove(15, 15));
    EXPECT_TRUE(set.holds(10, 14));
    EXPECT_FALSE(set.holds(14, 16));
    EXPECT_TRUE(set.remove(0, ~uint64_t{0}));
    EXPECT_TRUE(set.empty());
    EXPECT_TRUE(set.add(0, ~uint64_t{0}));
    EXPECT_TRUE(set.remove(0, 0));
    EXPECT_TRUE(set.remove(~uint64_t{0}, ~uint64_t{0}));
    EXPECT_TRUE(set.holds(1, ~uint64_t{0} - 1));
    EXPECT_FALSE(set.meets(0, 0));
}

TEST(RangeSet, AFullOneStaysAsItIs) {
    RangeSet set;
    for (uint64_t i = 0; i < RangeSet::capacity; ++i)
        EXPECT_TRUE(set.add(10 * i, 10 * i + 5));
    EXPECT_FALSE(set.add(1000, 1001));
    EXPECT_FALSE(set.remove(12, 13)) << "that makes two of one";
    EXPECT_TRUE(set.holds(10, 15));
    EXPECT_FALSE(set.meets(1000, 1001));
    EXPECT_TRUE(set.add(16, 19)) << "that makes one of two";
    EXPECT_TRUE(set.add(1000, 1001));
}

TEST(RangeSet, DoesWhatABitmapDoes) {
    std::mt19937 random{3};
    constexpr unsigned size = 60; // at most 30 ranges: there is always room
    RangeSet set;
    std::bitset<size> model;
    for (unsigned i = 0; i < 20'000; ++i) {
        unsigned const first = random() % size, last = first + random() % (size - first);
        bool const add = random() % 2;
        EXPECT_TRUE(add ? set.add(first, last) : set.remove(first, last));
        for (unsigned n = first; n <= last; ++n)
            model[n] = add;
        for (unsigned n = 0; n < size; ++n)
            ASSERT_EQ(set.holds(n, n), model[n]);
        for (auto r = set.begin(); r + 1 < set.end(); ++r)
            ASSERT_LT(r[0].last + 1, r[1].first);
    }
}

} // namespace
} // namespace hearth::test
