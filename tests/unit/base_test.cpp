#include "base/bits.h"
#include "base/list.h"
#include "fake_machine.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <ranges>

namespace hearth::test {
namespace {

TEST(ClampIndex, KeepsWhatFitsAndZeroesTheRest) {
    constexpr uint64_t sizes[] = {
        1, 2, 63, 64, 4096, uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}};
    std::mt19937_64 random{3};
    for (uint64_t const size : sizes) {
        EXPECT_EQ(clamp_index(0, size), 0u);
        EXPECT_EQ(clamp_index(size - 1, size), size - 1);
        EXPECT_EQ(clamp_index(size, size), 0u);
        EXPECT_EQ(clamp_index(~uint64_t{0}, size), 0u);
        EXPECT_EQ(clamp_index(uint64_t{1} << 63, size),
                  size > uint64_t{1} << 63 ? uint64_t{1} << 63 : 0u);
        for (unsigned i = 0; i < 1000; ++i) {
            uint64_t const index = random();
            EXPECT_EQ(clamp_index(index, size), index < size ? index : 0u);
        }
    }
    EXPECT_EQ(clamp_index(0, 0), 0u);
    EXPECT_EQ(clamp_index(5, 0), 0u);
}

struct Item {
    unsigned value = 0;
    ListNode node;
};
using Items = List<Item, &Item::node>;

TEST(List, AgreesWithADeque) {
    std::mt19937 random{8};
    std::vector<Item> items(64);
    for (unsigned i = 0; i < items.size(); ++i)
        items[i].value = i;
    Items list;
    std::deque<unsigned> model;
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.pop_front(), nullptr);
    for (unsigned step = 0; step < 20000; ++step) {
        Item& item = items[random() % items.size()];
        if (item.node.linked()) {
            Items::remove(item);
            std::erase(model, item.value);
        } else if (unsigned const how = random() % 3; how == 0) {
            list.push_back(item);
            model.push_back(item.value);
        } else if (how == 1 || model.empty()) {
            list.push_front(item);
            model.push_front(item.value);
        } else {
            size_t const at = random() % model.size();
            list.insert_after(items[model[at]], item);
            model.insert(model.begin() + static_cast<ptrdiff_t>(at) + 1, item.value);
        }
        if (random() % 16 == 0 && !model.empty()) {
            EXPECT_EQ(list.pop_front()->value, model.front());
            model.pop_front();
        }
        Item* p = list.front();
        for (unsigned const value : model) {
            ASSERT_NE(p, nullptr);
            ASSERT_EQ(p->value, value);
            p = list.next(*p);
        }
        ASSERT_EQ(p, nullptr);
        p = list.back();
        for (unsigned const value : model | std::views::reverse) {
            ASSERT_NE(p, nullptr);
            ASSERT_EQ(p->value, value);
            p = list.previous(*p);
        }
        ASSERT_EQ(p, nullptr);
    }
}

TEST(LockRanks, RisingOrderIsFine) {
    boot_machine();
    SpinLock<Rank::domain> low;
    SpinLock<Rank::console> high;
    LockGuard a{low};
    LockGuard b{high};
    EXPECT_EQ(std::popcount(this_cpu().held_ranks), 2);
}

/// Taken for good, in a process that is about to die.
template <Rank rank>
void take(SpinLock<rank>& lock) __attribute__((no_thread_safety_analysis)) {
    lock.lock();
}

TEST(LockRanksDeathTest, FallingOrderPanics) {
    boot_machine();
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    SpinLock<Rank::domain> low;
    SpinLock<Rank::timer> high;
    EXPECT_DEATH((take(high), take(low)), "lock of rank 2 taken while holding rank 8");
}

TEST(LockRanksDeathTest, TheSameRankTwicePanicsUnlessAsked) {
    boot_machine();
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    SpinLock<Rank::event> one, two;
    EXPECT_DEATH((take(one), take(two)), "lock of rank 4 taken while holding rank 4");
    one.lock();
    two.lock_second();
    two.unlock();
    one.unlock();
    EXPECT_EQ(std::popcount(this_cpu().held_ranks), 0);
}

TEST(LockRanksDeathTest, NoPreemptionWithALockHeld) {
    boot_machine();
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    SpinLock<Rank::event> lock;
    EXPECT_DEATH((take(lock), preempt_point()), "preemption point with a lock held");
}

TEST(LockRanks, ReleaseInAnyOrder) {
    boot_machine();
    SpinLock<Rank::domain> low;
    SpinLock<Rank::event> middle;
    SpinLock<Rank::console> high;
    low.lock();
    middle.lock();
    high.lock();
    middle.unlock();
    low.unlock();
    EXPECT_EQ(std::popcount(this_cpu().held_ranks), 1);
    high.unlock();
    EXPECT_EQ(std::popcount(this_cpu().held_ranks), 0);
}

TEST(Format, ExtremesAndOddPatterns) {
    TextBuffer<200> b;
    format(b, "{} {} {:x} {:020} {:3}|{}", INT64_MIN, ~uint64_t{0}, int64_t{-1}, 7u, "ab", true);
    EXPECT_EQ(
        b.view(),
        "-9223372036854775808 18446744073709551615 ffffffffffffffff 00000000000000000007 ab |true");
    TextBuffer<100> c;
    format(c, "{}{}", 'x');
    EXPECT_EQ(c.view(), "x{?}");
    TextBuffer<100> d;
    format(d, "no arguments {}", "used", 5);
    EXPECT_EQ(d.view(), "no arguments used");
}

} // namespace
} // namespace hearth::test
