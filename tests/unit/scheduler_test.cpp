// The scheduler by simulation: four fake CPUs, threads that burn time or sleep, time in steps of
// 100 us.
#include "fake_machine.h"

#include "memory/stacks.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth::test {
namespace {

constexpr uint64_t quantum = 100'000; // ns

/// Runs until it has burnt what it was told to, then sleeps; for ever if told so.
class SimulatedThread final : public Thread {
public:
    uint64_t burnt = 0;
    uint64_t to_burn = 0; // 0: sleeps
    bool endless = false;
    bool yields = false;
    bool stop = false;
    bool parked = false;
    uint64_t woken_at = 0;     // when it last got something to do; 0: it has run since
    uint64_t longest_wait = 0; // from then until it ran
    unsigned last_cpu = 0;
    bool lingers = false; // once, on its way off its CPU

    explicit SimulatedThread(CpuMask affinity, bool hog) : endless{hog} {
        set_affinity(*this, affinity);
        thread_prepare(
            *this, *allocate_stack(),
            [](void* self) { static_cast<SimulatedThread*>(self)->main(); }, this);
    }
    void give(uint64_t ns) {
        to_burn += ns;
        if (woken_at == 0)
            woken_at = now_ns();
        wake(*this);
    }
    void switch_out() override {
        if (std::exchange(lingers, false))
            host::leave_cpu();
    }
    /// The CPU that it is on has just spent a quantum on it.
    void spend() {
        if (woken_at != 0) {
            longest_wait = std::max(longest_wait, now_ns() - woken_at);
            woken_at = 0;
        }
        burnt += quantum;
        to_burn -= std::min(to_burn, quantum);
    }

private:
    [[noreturn]] void main() {
        for (;;) {
            if (stop) {
                parked = true;
                park_current();
                continue;
            }
            if (endless || to_burn != 0)
                host::leave_cpu();
            else
                sleep_current();
            if (yields)
                yield_current();
            else
                reschedule_if_needed();
        }
    }
};

class SchedulerTest : public testing::Test {
protected:
    std::vector<SimulatedThread*>
        threads; // not freed: the scheduler may know them as long as the process lives

    SchedulerTest() { boot_machine(); }
    ~SchedulerTest() override {
        for (SimulatedThread* t : threads) {
            t->stop = true;
            wake(*t);
        }
        for (unsigned round = 0; round < 4000; ++round)
            one_round();
        for (SimulatedThread* t : threads)
            EXPECT_TRUE(t->parked);
    }
    SimulatedThread& add(CpuMask affinity, bool hog) {
        static auto& all = *new std::vector<std::unique_ptr<SimulatedThread>>;
        threads.push_back(all.emplace_back(std::make_unique<SimulatedThread>(affinity, hog)).get());
        start(*threads.back());
        return *threads.back();
    }
    void one_round() {
        run_all_cpus();
        host::tsc += quantum;
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
            for (SimulatedThread* t : threads)
                if (cpu_block(cpu).current == t) {
                    EXPECT_TRUE(t->affinity().has(cpu)) << "on a CPU that it may not be on";
                    t->spend();
                    t->last_cpu = cpu;
                }
    }
    void run_for(uint64_t ns) {
        for (uint64_t t = 0; t < ns; t += quantum)
            one_round();
    }
};

constexpr uint64_t ms = 1'000'000;

TEST_F(SchedulerTest, EqualThreadsShareACpuEqually) {
    for (unsigned i = 0; i < 3; ++i)
        add(CpuMask::of(1), true);
    run_for(3000 * ms);
    for (SimulatedThread* t : threads)
        EXPECT_NEAR(static_cast<double>(t->burnt), 1000.0 * ms, 50.0 * ms);
}

TEST_F(SchedulerTest, ThreadsSpreadOverIdleCpus) {
    for (unsigned i = 0; i < machine_cpus; ++i)
        add(CpuMask::first(machine_cpus), true);
    run_for(200 * ms);
    for (SimulatedThread* t : threads)
        EXPECT_GE(t->burnt, 190 * ms);
}

TEST_F(SchedulerTest, OneThatStartsBesideALongRunnerGetsItsShare) {
    SimulatedThread& first = add(CpuMask::of(2), true);
    run_for(1 * ms / 2); // less than what would make the newcomer worth an interruption
    SimulatedThread& second = add(CpuMask::of(2), true);
    run_for(100 * ms);
    EXPECT_GE(second.burnt, 40 * ms);
    EXPECT_GE(first.burnt, 40 * ms);
}

TEST_F(SchedulerTest, NobodyIsOwedWhatAnotherHadAlone) {
    SimulatedThread& first = add(CpuMask::of(2), true);
    run_for(2000 * ms);
    uint64_t const alone = first.burnt;
    SimulatedThread& second = add(CpuMask::of(2), true);
    run_for(100 * ms);
    EXPECT_GE(second.burnt, 40 * ms);
    EXPECT_GE(first.burnt - alone, 40 * ms);
}

TEST_F(SchedulerTest, OneThatRanAloneIsServedSoonElsewhere) {
    SimulatedThread& mover = add(CpuMask::of(1), false);
    mover.give(2000 * ms);
    run_for(2010 * ms);
    ASSERT_EQ(mover.to_burn, 0u);
    add(CpuMask::of(2), true);
    run_for(10 * ms);
    set_affinity(mover, CpuMask::of(2));
    mover.longest_wait = 0;
    mover.give(20 * ms);
    run_for(100 * ms);
    EXPECT_LE(mover.longest_wait, 10 * ms);
    EXPECT_EQ(mover.to_burn, 0u);
}

TEST_F(SchedulerTest, OneThatWakesIsServedSoonAndHoardsNothing) {
    SimulatedThread& hog = add(CpuMask::of(1), true);
    SimulatedThread& sleeper = add(CpuMask::of(1), false);
    run_for(1000 * ms);
    for (unsigned i = 0; i < 50; ++i) {
        sleeper.give(1 * ms);
        run_for(20 * ms);
    }
    EXPECT_LE(sleeper.longest_wait, 2 * ms)
        << "a thread that slept should not wait for a slice to end";
    EXPECT_EQ(sleeper.burnt, 50 * ms);
    // Having slept for long, it now wants everything: no more than its half.
    uint64_t const before = hog.burnt;
    sleeper.give(1000 * ms);
    run_for(500 * ms);
    EXPECT_GE(hog.burnt - before, 235 * ms);
}

TEST_F(SchedulerTest, NobodyStarvesUnderRandomLoad) {
    std::mt19937_64 random{31};
    for (unsigned i = 0; i < 12; ++i)
        add(i % 3 ? CpuMask{1 + random() % 15}
                  : CpuMask::of(static_cast<unsigned>(random() % machine_cpus)),
            i % 4 == 0);
    for (unsigned i = 0; i < 5000; ++i) {
        SimulatedThread& t = *threads[random() % threads.size()];
        if (!t.endless && random() % 4 == 0)
            t.give(random() % (3 * ms));
        one_round();
    }
    for (SimulatedThread* t : threads)
        EXPECT_LE(t->longest_wait, 100 * ms);
    for (SimulatedThread* t : threads)
        if (t->endless) {
            EXPECT_GE(t->burnt, 20 * ms);
        }
}

TEST_F(SchedulerTest, AffinityIsHeededAtTheNextSwitch) {
    SimulatedThread& t = add(CpuMask::of(0), true);
    run_for(10 * ms);
    EXPECT_EQ(t.last_cpu, 0u);
    set_affinity(t, CpuMask::of(3));
    host::set_current_cpu(0);
    request_reschedule();
    run_all_cpus();
    run_for(10 * ms);
    EXPECT_EQ(t.last_cpu, 3u);
}

TEST_F(SchedulerTest, OneThatSleepsMovesAtOnce) {
    SimulatedThread& t = add(CpuMask::of(0), false);
    t.give(1 * ms);
    run_for(5 * ms);
    set_affinity(t, CpuMask::of(2));
    EXPECT_EQ(t.cpu(), 2u);
    t.give(1 * ms);
    run_for(5 * ms);
    EXPECT_EQ(t.last_cpu, 2u);
    EXPECT_EQ(t.burnt, 2 * ms);
}

/// Its context is still on the CPU that it must leave.
TEST_F(SchedulerTest, OneThatIsWokenOnItsWayOffACpuHeedsItsNewAffinity) {
    SimulatedThread& t = add(CpuMask::of(0), false);
    t.lingers = true;
    t.give(quantum);
    while (t.lingers)
        one_round();
    ASSERT_EQ(cpu_block(0).current, &t);
    host::set_current_cpu(1);
    set_affinity(t, CpuMask::of(1));
    host::spin = [] { host::run_cpu(0); };
    t.give(quantum);
    host::spin = nullptr;
    run_for(5 * ms);
    EXPECT_EQ(t.last_cpu, 1u);
    EXPECT_EQ(t.to_burn, 0u);
}

/// Two CPUs in step took a thread from one another for ever, and neither ran it.
TEST_F(SchedulerTest, AThreadThatAnIdleCpuIsAboutToRunStaysThere) {
    SimulatedThread& t = add(CpuMask::of(0), false);
    run_for(ms);
    set_affinity(t, CpuMask::first(2));
    t.give(quantum);
    host::run_cpu(1);
    EXPECT_NE(cpu_block(1).current, &t);
    host::run_cpu(0);
    EXPECT_EQ(cpu_block(0).current, &t);
    run_for(ms);
    EXPECT_EQ(t.burnt, quantum);
}

/// Only one of them can be run by its CPU at once.
TEST_F(SchedulerTest, AnIdleCpuTakesTheSecondFromOneThatIsAboutToRunTheFirst) {
    SimulatedThread& first = add(CpuMask::of(0), false);
    SimulatedThread& second = add(CpuMask::of(0), false);
    run_for(ms);
    set_affinity(first, CpuMask::of(0));
    first.give(quantum);
    second.give(quantum);
    set_affinity(second, CpuMask::first(2));
    host::run_cpu(1);
    EXPECT_EQ(cpu_block(1).current, &second);
    host::run_cpu(0);
    EXPECT_EQ(cpu_block(0).current, &first);
    run_for(ms);
}

TEST_F(SchedulerTest, AnIdleCpuTakesWorkFromABusyOne) {
    SimulatedThread& a = add(CpuMask::of(1), true);
    SimulatedThread& b = add(CpuMask::of(1), true);
    run_for(20 * ms);
    set_affinity(b, CpuMask::first(machine_cpus));
    set_affinity(a, CpuMask::first(machine_cpus));
    run_for(50 * ms);
    EXPECT_NE(a.last_cpu, b.last_cpu);
}

TEST_F(SchedulerTest, TimesAddUp) {
    SimulatedThread& t = add(CpuMask::of(1), false);
    SimulatedThread& other = add(CpuMask::of(1), true);
    for (unsigned i = 0; i < 20; ++i) {
        t.give(2 * ms);
        run_for(10 * ms);
    }
    RunTimes const times = t.times();
    uint64_t sum = 0;
    for (uint64_t const spent : times.spent)
        sum += spent;
    EXPECT_NEAR(static_cast<double>(times.spent[0]), static_cast<double>(t.burnt),
                2.0 * quantum * 20);
    EXPECT_NEAR(static_cast<double>(times.spent[1] + times.spent[2] + times.spent[0]), 200.0 * ms,
                2.0 * ms);
    EXPECT_GT(sum, 0u);
    (void)other;
}

/// One may wait for what the other has locked.
TEST_F(SchedulerTest, SiblingsWaitForDifferentCpus) {
    SimulatedThread& hog = add(CpuMask::of(0), true);
    SimulatedThread& first = add(CpuMask::of(1), false);
    SimulatedThread& second = add(CpuMask::of(1), false);
    add_sibling(second, first);
    run_for(ms);
    for (SimulatedThread* t : {&first, &second})
        set_affinity(*t, CpuMask::first(2));
    first.give(100 * ms);
    second.give(100 * ms);
    run_for(20 * ms);
    EXPECT_EQ(first.last_cpu, 1u);
    EXPECT_EQ(second.last_cpu, 0u);
    EXPECT_EQ(hog.last_cpu, 0u);
}

/// Guests see it as time that was stolen from them.
TEST_F(SchedulerTest, TimesBeginWithTheThread) {
    host::tsc += 1'000'000 * ms;
    SimulatedThread& t = add(CpuMask::of(1), true);
    run_for(5 * ms);
    uint64_t sum = 0;
    for (uint64_t const spent : t.times().spent)
        sum += spent;
    EXPECT_LE(sum, 6 * ms);
}

/// What a vCPU does that another takes down and brings up again: it looks, parks, and must not miss
/// the second start.
TEST_F(SchedulerTest, AStartBetweenTheLookAndTheParkingIsNotLost) {
    struct Parker final : Thread {
        unsigned rounds = 0;
        bool started_early = false;
        void main() {
            for (;;) {
                ++rounds;
                if (!started_early) {
                    started_early = true;
                    start(*this); // as another CPU would, at this very moment
                }
                park_current();
            }
        }
    };
    static auto& parker = *new Parker;
    thread_prepare(
        parker, *allocate_stack(), [](void* self) { static_cast<Parker*>(self)->main(); }, &parker);
    start(parker);
    run_for(5 * ms);
    EXPECT_EQ(parker.rounds, 2u);
}

TEST_F(SchedulerTest, ACapBoundsOneThatWantsEverything) {
    static Cap cap;
    SimulatedThread& t = add(CpuMask::of(1), true);
    cap.set_allowance(Cap::period / 4, now_ns());
    set_cap(t, &cap);
    run_for(2000 * ms);
    EXPECT_NEAR(static_cast<double>(t.burnt), 500.0 * ms, 10.0 * ms);
    uint64_t const before = t.burnt;
    set_cap(t, nullptr);
    run_for(100 * ms);
    EXPECT_GE(t.burnt - before, 99 * ms) << "without a cap it does not wait for the next period";
}

TEST_F(SchedulerTest, ACapIsForAllOfItsThreadsTogether) {
    static Cap cap;
    for (unsigned i = 0; i < machine_cpus; ++i)
        add(CpuMask::of(i), true);
    cap.set_allowance(Cap::period, now_ns()); // one CPU's worth
    for (SimulatedThread* t : threads)
        set_cap(*t, &cap);
    run_for(2000 * ms);
    uint64_t sum = 0;
    for (SimulatedThread* t : threads) {
        sum += t->burnt;
        EXPECT_GE(t->burnt, 200 * ms) << "each gets some of it";
        set_cap(*t, nullptr);
    }
    EXPECT_NEAR(static_cast<double>(sum), 2000.0 * ms, 50.0 * ms);
}

TEST_F(SchedulerTest, ACapIsNotFeltBelowIt) {
    static Cap cap;
    add(CpuMask::of(1), true);
    SimulatedThread& t = add(CpuMask::of(1), false);
    cap.set_allowance(Cap::period / 2, now_ns());
    set_cap(t, &cap);
    run_for(100 * ms);
    for (unsigned i = 0; i < 50; ++i) {
        t.give(1 * ms);
        run_for(10 * ms);
    }
    EXPECT_LE(t.longest_wait, 2 * ms);
    EXPECT_EQ(t.burnt, 50 * ms);
    set_cap(t, nullptr);
}

TEST_F(SchedulerTest, ACapsPeriodEndsHoweverOftenOthersYield) {
    static Cap cap;
    SimulatedThread &other = add(CpuMask::of(1), true), &t = add(CpuMask::of(1), true);
    cap.set_allowance(Cap::period / 4, now_ns());
    set_cap(t, &cap);
    run_for(50 * ms);
    other.yields = true;
    uint64_t const before = t.burnt;
    for (unsigned i = 0; i < 20; ++i) {
        host::tsc += Cap::period;
        host::run_cpu(1); // a switch when the period is over and its interrupt not taken yet
        run_for(5 * quantum);
    }
    EXPECT_GE(t.burnt - before, 20 * quantum);
    set_cap(t, nullptr);
}

TEST_F(SchedulerTest, CapsComeAndGoAndNobodyIsLost) {
    static Cap caps[3];
    std::mt19937_64 random{7};
    for (unsigned i = 0; i < 8; ++i)
        add(CpuMask::first(machine_cpus), i % 2 == 0);
    for (unsigned i = 0; i < 8000; ++i) {
        SimulatedThread& t = *threads[random() % threads.size()];
        switch (random() % 8) {
        case 0:
            caps[random() % 3].set_allowance(Cap::period / 100 * (1 + random() % 150), now_ns());
            break;
        case 1:
            set_cap(t, random() % 4 ? &caps[random() % 3] : nullptr);
            break;
        case 2:
            set_affinity(t, {1 + random() % 15});
            break;
        case 3:
            t.give(random() % ms);
            break;
        default:
            break;
        }
        host::set_current_cpu(static_cast<unsigned>(random() % machine_cpus));
        run_all_cpus();
        host::tsc += quantum;
        for (SimulatedThread* each : threads)
            for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
                if (cpu_block(cpu).current == each)
                    each->spend();
    }
    for (Cap& cap : caps) // more than there is: who waits comes back with the next period
        cap.set_allowance(2 * machine_cpus * Cap::period, now_ns());
    for (SimulatedThread* t : threads)
        set_affinity(*t, CpuMask::first(machine_cpus));
    run_for(100 * ms); // queues even out
    for (SimulatedThread* t : threads) {
        uint64_t const before = t->burnt;
        t->give(1 * ms);
        run_for(100 * ms);
        EXPECT_GT(t->burnt, before);
    }
    for (SimulatedThread* t : threads)
        set_cap(*t, nullptr);
}

TEST(Caps, WhatIsOverdrawnIsTakenOffTheNextPeriods) {
    Cap cap;
    constexpr uint64_t start = 5 * Cap::period;
    cap.set_allowance(1 * ms, start);
    uint64_t const piece = cap.draw(start);
    EXPECT_GT(piece, 0u);
    EXPECT_LE(piece, 1 * ms);
    cap.settle(piece, 3 * ms + ms / 2); // ran far too long: 2.5 periods' worth too much
    EXPECT_EQ(cap.draw(start), 0u);
    EXPECT_EQ(cap.draw(start + Cap::period), 0u);
    EXPECT_EQ(cap.draw(start + 2 * Cap::period), 0u);
    EXPECT_GT(cap.draw(start + 3 * Cap::period), 0u);
}

TEST(Caps, NothingIsSavedUp) {
    Cap cap;
    cap.set_allowance(1 * ms, 0);
    uint64_t sum = 0;
    constexpr uint64_t much_later = 1'000'000'000 * Cap::period;
    while (uint64_t const piece = cap.draw(much_later))
        sum += piece;
    EXPECT_EQ(sum, 1 * ms);
    cap.settle(ms, 0); // drawn and given back
    EXPECT_GT(cap.draw(much_later), 0u);
}

TEST_F(SchedulerTest, PreferredCpusAreChosenWhileTheyAreIdle) {
    SimulatedThread& t = add(CpuMask::first(machine_cpus), false);
    run_for(1 * ms); // to sleep
    for (unsigned const preferred : {2u, 0u, 3u}) {
        set_preferred_cpus(t, CpuMask::of(preferred));
        t.give(1 * ms);
        run_for(5 * ms);
        EXPECT_EQ(t.last_cpu, preferred);
    }
    // Taken by another, it is better to run elsewhere than to wait.
    add(CpuMask::of(3), true);
    run_for(5 * ms);
    t.longest_wait = 0;
    t.give(1 * ms);
    run_for(20 * ms);
    EXPECT_LE(t.longest_wait, 1 * ms);
    EXPECT_EQ(t.to_burn, 0u);
}

TEST_F(SchedulerTest, ARateLimitLetsTheRunningOneGoOn) {
    SimulatedThread& hog = add(CpuMask::of(1), true);
    SimulatedThread& sleeper = add(CpuMask::of(1), false);
    set_rate_limit(CpuMask::of(1), 3 * ms);
    run_for(100 * ms);
    for (unsigned i = 0; i < 50; ++i) {
        sleeper.give(ms / 2);
        run_for(ms); // now the other has just begun to run
        sleeper.give(ms / 2);
        run_for(20 * ms);
    }
    EXPECT_GE(sleeper.longest_wait, 2 * ms);
    EXPECT_LE(sleeper.longest_wait, 4 * ms);
    set_rate_limit(CpuMask::of(1), 0);
    (void)hog;
}

} // namespace
} // namespace hearth::test
