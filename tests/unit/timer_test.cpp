#include "fake_machine.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth::test {
namespace {

/// On a CPU whose heap holds nothing else.
class TimerTest : public testing::Test {
protected:
    static constexpr unsigned cpu = 3;
    TimerTest() {
        boot_machine();
        host::set_current_cpu(cpu);
    }
    ~TimerTest() override { host::set_current_cpu(0); }
    static void advance_to(uint64_t ns) { host::tsc += ns - now_ns(); }
};

struct Probe {
    unsigned fired = 0;
    uint64_t at = 0;
    Timer timer{[](void* p) {
                    auto& self = *static_cast<Probe*>(p);
                    ++self.fired;
                    self.at = now_ns();
                },
                this};
};

TEST_F(TimerTest, FiresOnceAtItsDeadline) {
    Probe p;
    uint64_t const start = now_ns();
    p.timer.set(start + 1000);
    EXPECT_TRUE(p.timer.active());
    EXPECT_EQ(next_deadline(cpu), start + 1000);
    EXPECT_GE(host::cpu_state(cpu).timer_deadline_tsc, tsc_at(start + 1000) - 1);
    advance_to(start + 999);
    timer_interrupt();
    EXPECT_EQ(p.fired, 0u);
    advance_to(start + 1001);
    timer_interrupt();
    timer_interrupt();
    EXPECT_EQ(p.fired, 1u);
    EXPECT_FALSE(p.timer.active());
}

TEST_F(TimerTest, OnePastItsDeadlineFiresAtTheNextInterrupt) {
    Probe p;
    p.timer.set(0);
    timer_interrupt();
    EXPECT_EQ(p.fired, 1u);
}

TEST_F(TimerTest, MayBeSetAgainFromItsOwnFunction) {
    struct Periodic {
        unsigned fired = 0;
        Timer timer{[](void* p) {
                        auto& self = *static_cast<Periodic*>(p);
                        if (++self.fired < 5)
                            self.timer.set(now_ns() + 10);
                    },
                    this};
    } p;
    p.timer.set(now_ns() + 10);
    for (unsigned i = 0; i < 20; ++i) {
        host::tsc += 11;
        timer_interrupt();
    }
    EXPECT_EQ(p.fired, 5u);
}

TEST_F(TimerTest, HostileDeadlinesAreJustFarAway) {
    Probe a, b;
    a.timer.set(~uint64_t{0});
    b.timer.set(now_ns() + 50);
    host::tsc += 60;
    timer_interrupt();
    EXPECT_EQ(a.fired, 0u);
    EXPECT_EQ(b.fired, 1u);
}

TEST_F(TimerTest, RandomUseAgreesWithASortedMap) {
    constexpr unsigned count = 200;
    std::mt19937_64 random{20250101};
    std::vector<std::unique_ptr<Probe>> probes;
    for (unsigned i = 0; i < count; ++i)
        probes.push_back(std::make_unique<Probe>());
    std::vector<uint64_t> deadline(count, 0);
    std::vector<unsigned> expected(count, 0);
    for (unsigned step = 0; step < 40000; ++step) {
        size_t const i = random() % count;
        switch (random() % 8) {
        case 0:
            probes[i]->timer.stop();
            deadline[i] = 0;
            break;
        case 1: {
            host::tsc += random() % 3000;
            timer_interrupt();
            for (unsigned k = 0; k < count; ++k) {
                if (deadline[k] != 0 && deadline[k] <= now_ns()) {
                    ++expected[k];
                    deadline[k] = 0;
                }
                ASSERT_EQ(probes[k]->fired, expected[k]) << "timer " << k << " step " << step;
            }
            break;
        }
        default:
            deadline[i] = now_ns() + 1 + random() % 20000;
            probes[i]->timer.set(deadline[i]);
        }
        uint64_t earliest = 0;
        for (uint64_t const d : deadline)
            if (d != 0 && (earliest == 0 || d < earliest))
                earliest = d;
        ASSERT_EQ(next_deadline(cpu), earliest) << "step " << step;
        for (unsigned k = 0; k < count; ++k)
            ASSERT_EQ(probes[k]->timer.active(), deadline[k] != 0);
    }
}

TEST_F(TimerTest, AStoppedTimerOfAnotherCpuStaysStopped) {
    Probe p;
    p.timer.set(now_ns() + 100);
    host::set_current_cpu(0);
    p.timer.stop();
    host::set_current_cpu(cpu);
    host::tsc += 1000;
    timer_interrupt();
    EXPECT_EQ(p.fired, 0u);
}

} // namespace
} // namespace hearth::test
