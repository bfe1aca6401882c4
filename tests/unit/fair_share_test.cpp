// Who gets how much of the processors, and how soon: the scheduler over the fake machine's clock,
// which goes from one thing that happens to the next. Loads are random; HEARTH_SEED=n runs one.
#include "fake_machine.h"

#include "memory/stacks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <ranges>

namespace hearth::test {
namespace {

constexpr uint64_t us = 1000, ms = 1000 * us, seconds = 1000 * ms;
constexpr uint64_t measured = 10 * seconds, settling = seconds;

/// Wants a CPU for ever, or for some time whenever it is woken.
class Load final : public Thread {
public:
    uint32_t weight;
    uint64_t percent = 0;         // the cap; 0: none
    uint64_t pause = 0, work = 0; // a sleeper's; a hog has none
    uint64_t left = 0;            // of its work
    uint64_t next_wake = 0;
    uint64_t ran = 0;
    uint64_t wakes = 0, waited = 0, longest_wait = 0; // until it ran
    bool waits = false;
    uint64_t ready_since = 0;
    bool stop = false, parked = false;

    explicit Load(uint32_t w) : weight{w} {
        set_weight(*this, w);
        thread_prepare(
            *this, *allocate_stack(), [](void* self) { static_cast<Load*>(self)->main(); }, this);
    }
    [[nodiscard]] bool hog() const { return work == 0; }
    void wake_up(uint64_t now) {
        left = work;
        waits = true;
        ready_since = now;
        next_wake = now + pause;
        wake(*this);
    }
    void begin_to_run(uint64_t now) {
        if (!std::exchange(waits, false))
            return;
        ++wakes;
        waited += now - ready_since;
        longest_wait = std::max(longest_wait, now - ready_since);
    }
    void forget_measurements() { ran = wakes = waited = longest_wait = 0; }

private:
    [[noreturn]] void main() {
        for (;;) {
            if (stop) {
                parked = true;
                park_current();
            } else if (hog() || left != 0) {
                host::leave_cpu();
            } else {
                sleep_current();
            }
            reschedule_if_needed();
        }
    }
};

class FairShareTest : public testing::Test {
protected:
    std::vector<Load*> loads; // not freed: the scheduler may know them as long as the process lives
    unsigned cpus = 1;
    uint64_t idle_while_some_wait = 0;

    FairShareTest() {
        boot_machine();
        set_rate_limit(CpuMask::first(machine_cpus), 100 * us); // as a pool's is to begin with
    }
    ~FairShareTest() override { end_all(); }
    void end_all() {
        for (Load* load : loads) {
            set_cap(*load, nullptr);
            load->stop = true;
            wake(*load);
        }
        run_for(10 * seconds);
        for (Load* load : loads)
            EXPECT_TRUE(load->parked);
        loads.clear();
    }
    Load& add(uint32_t weight, CpuMask affinity) {
        static auto& all = *new std::vector<std::unique_ptr<Load>>;
        Load& load = *all.emplace_back(std::make_unique<Load>(weight));
        set_affinity(load, affinity);
        loads.push_back(&load);
        start(load);
        return load;
    }
    Load& add(uint32_t weight) { return add(weight, CpuMask::first(cpus)); }
    Load& add_sleeper(uint32_t weight, uint64_t pause, uint64_t work) {
        Load& load = add(weight);
        load.pause = pause;
        load.work = work;
        load.next_wake = host::tsc + pause;
        return load;
    }

    static Load* running_on(unsigned cpu) { return dynamic_cast<Load*>(cpu_block(cpu).current); }

    static bool has_something_to_do(unsigned cpu) {
        auto const& state = host::cpu_state(cpu);
        Load const* const load = running_on(cpu);
        return !state.interrupts.empty() || cpu_block(cpu).current->attention() != 0 ||
               (state.timer_deadline_tsc != 0 && state.timer_deadline_tsc <= host::tsc) ||
               (load && (load->stop || (!load->hog() && load->left == 0)));
    }
    static void let_cpus_settle() {
        for (bool settled = false; !std::exchange(settled, true);)
            for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
                if (has_something_to_do(cpu)) {
                    settled = false;
                    if (!running_on(cpu)) // an idle loop looks for work in any case
                        cpu_block(cpu).current->settle(attention::reschedule);
                    take_interrupts(cpu);
                    host::run_cpu(cpu);
                }
    }
    uint64_t next_event() {
        uint64_t next = host::tsc + 10 * ms;
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
            if (uint64_t const deadline = host::cpu_state(cpu).timer_deadline_tsc)
                next = std::min(next, deadline);
            if (Load const* load = running_on(cpu); load && !load->hog() && load->left != 0)
                next = std::min(next, host::tsc + load->left);
        }
        for (Load const* load : sleepers)
            if (!load->stop && load->left == 0)
                next = std::min(next, load->next_wake);
        return std::max<uint64_t>(next, host::tsc + 1);
    }
    void pass(uint64_t time) {
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
            Load* const load = running_on(cpu);
            if (!load) {
                if (cpu < cpus && work_waits())
                    idle_while_some_wait += time;
                continue;
            }
            load->ran += time;
            load->left -= std::min(load->left, time);
        }
        host::tsc += time;
    }
    /// More uncapped hogs than CPUs: none of these may idle.
    [[nodiscard]] bool work_waits() const { return hogs > cpus; }
    void run_for(uint64_t time) {
        uint64_t const end = host::tsc + time;
        sleepers.clear();
        hogs = 0;
        for (Load* load : loads) {
            if (!load->hog())
                sleepers.push_back(load);
            else if (!load->stop)
                ++hogs;
        }
        while (host::tsc < end) {
            for (Load* load : sleepers)
                if (!load->stop && load->left == 0 && load->next_wake <= host::tsc)
                    load->wake_up(host::tsc);
            let_cpus_settle();
            for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
                if (Load* const load = running_on(cpu))
                    load->begin_to_run(host::tsc);
            pass(next_event() - host::tsc);
        }
    }
    void measure() {
        run_for(settling);
        for (Load* load : loads)
            load->forget_measurements();
        idle_while_some_wait = 0;
        run_for(measured);
    }
    /// Each hog within 2 % of its share of what the hogs got together.
    void expect_shares(char const* what) {
        double weights = 0, total = 0;
        for (Load const* load : loads)
            if (load->hog()) {
                weights += load->weight;
                total += static_cast<double>(load->ran);
            }
        double worst = 0;
        for (Load const* load : loads)
            if (load->hog())
                worst = std::max(worst, std::abs(static_cast<double>(load->ran) /
                                                     (total * load->weight / weights) -
                                                 1));
        EXPECT_LE(worst, 0.02) << what << ": " << loads.size() << " loads on " << cpus << " CPUs";
    }

    /// What is a fair share when some may not have theirs: what these leave goes to the others, by
    /// their weights, among whom there may again be some who may not have so much.
    void expect_capped_shares() {
        std::vector<Load*> open = loads;
        double left = measured, weights = 0;
        for (Load const* load : open)
            weights += load->weight;
        for (bool found = true; std::exchange(found, false);)
            std::erase_if(open, [&](Load const* load) {
                double const cap = static_cast<double>(measured * load->percent) / 100;
                if (load->percent == 0 || cap >= left * load->weight / weights)
                    return false;
                EXPECT_NEAR(static_cast<double>(load->ran), cap, cap * 0.02) << load->percent;
                left -= cap;
                weights -= load->weight;
                return found = true;
            });
        for (Load const* load : open) {
            double const share = left * load->weight / weights;
            EXPECT_NEAR(static_cast<double>(load->ran), share, share * 0.02)
                << loads.size() << " loads, cap " << load->percent << " %";
        }
    }

private:
    std::vector<Load*> sleepers;
    unsigned hogs = 0;
};

class FairShareOfCpus : public FairShareTest, public testing::WithParamInterface<unsigned> {
protected:
    FairShareOfCpus() { cpus = GetParam(); }
};

/// The figures of the goal: 128 that want everything, weights 1 to 8, and one that wakes now and
/// then.
TEST_P(FairShareOfCpus, AHundredAndTwentyEightOfWeights1To8) {
    for (unsigned i = 0; i < 128; ++i)
        add(256 * (1 + i % 8));
    Load& sleeper = add_sleeper(8 * 256, 9'700 * us, 100 * us);
    measure();
    expect_shares("weights 1 to 8");
    EXPECT_EQ(idle_while_some_wait, 0u);
    EXPECT_GE(sleeper.wakes, 950u);
    EXPECT_LE(sleeper.waited / sleeper.wakes, 2 * ms);
}
INSTANTIATE_TEST_SUITE_P(Cpus, FairShareOfCpus, testing::Values(1u, 2u, 4u));

class RandomFairShareTest : public FairShareTest {
protected:
    std::mt19937_64 random{getenv("HEARTH_SEED") ? std::stoull(getenv("HEARTH_SEED")) : 1};
    uint64_t up_to(uint64_t most) { return 1 + random() % most; }
};

/// Weights of any kind, and sleepers that want no more than their share: those are served at once.
TEST_F(RandomFairShareTest, OneCpuAndAnyWeights) {
    for (unsigned round = 0; round < 8; ++round) {
        uint64_t const unit = up_to(1000);
        std::vector<Load*> hogs, sleepers;
        uint64_t weights = 0;
        for (uint64_t n = 2 + random() % 100; n != 0; --n) {
            hogs.push_back(&add(static_cast<uint32_t>(unit * up_to(16))));
            weights += hogs.back()->weight;
        }
        uint64_t const pause = (2 + random() % 20) * ms;
        for (unsigned n = 0; n < 3; ++n) {
            auto const weight = static_cast<uint32_t>(unit * up_to(16));
            uint64_t const share = pause * weight / (weights + 3 * 16 * unit);
            sleepers.push_back(&add_sleeper(weight, pause + up_to(ms), share / 2 + 1));
        }
        measure();
        expect_shares("random weights");
        EXPECT_EQ(idle_while_some_wait, 0u);
        for (Load const* sleeper : sleepers)
            EXPECT_LE(sleeper->waited / sleeper->wakes, 2 * ms)
                << hogs.size() << " beside it, work " << sleeper->work << " each " << pause;
        end_all();
    }
}

/// Who has a cap below his share gets the cap, and the others what he leaves.
TEST_F(RandomFairShareTest, CapsAreKeptAndTheRestIsShared) {
    static Cap caps[8][16];
    for (auto& of_round : caps) {
        uint64_t const hogs = 2 + random() % 40;
        uint64_t const capped = up_to(std::min<uint64_t>(hogs, 16)) - 1;
        for (uint64_t n = 0; n < hogs; ++n) {
            Load& load = add(static_cast<uint32_t>(256 * up_to(8)));
            if (n >= capped)
                continue;
            load.percent = up_to(40);
            of_round[n].set_allowance(Cap::period / 100 * load.percent, now_ns());
            set_cap(load, &of_round[n]);
        }
        measure();
        expect_capped_shares();
        end_all();
    }
}

/// Each on any of the CPUs, or on some of them.
TEST_F(RandomFairShareTest, AThousandAreAllServed) {
    cpus = machine_cpus;
    for (unsigned n = 0; n < 1000; ++n)
        add(static_cast<uint32_t>(32 * up_to(32)), {1 + random() % 15});
    measure();
    EXPECT_EQ(idle_while_some_wait, 0u);
    for (Load const* load : loads)
        EXPECT_GT(load->ran, 0u);
}

/// The longest queue may have nobody for an idle CPU while a shorter one has.
TEST_F(FairShareTest, APoolThatIsCrowdedDoesNotKeepAnotherFromBalancing) {
    for (unsigned n = 0; n < 10; ++n)
        add(256, CpuMask::of(2) | CpuMask::of(3));
    Load& first = add(256, CpuMask::of(1));
    Load& second = add(256, CpuMask::of(1));
    run_for(settling);
    set_affinity(first, CpuMask::first(2));
    set_affinity(second, CpuMask::first(2));
    measure();
    EXPECT_GE(first.ran, measured * 98 / 100);
    EXPECT_GE(second.ran, measured * 98 / 100);
}

/// Who is alone on a CPU has no turn that ends.
TEST_F(FairShareTest, OneThatIsAloneTakesFromACrowd) {
    cpus = 2;
    for (unsigned n = 0; n < 8; ++n)
        add(256, CpuMask::of(1));
    run_for(settling);
    for (Load* load : loads)
        set_affinity(*load, CpuMask::first(2));
    measure();
    EXPECT_EQ(idle_while_some_wait, 0u);
    expect_shares("spread from one CPU");
}

} // namespace
} // namespace hearth::test
