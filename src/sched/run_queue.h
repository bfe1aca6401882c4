// The threads that wait for a CPU, in the order of their virtual time, and how long a turn is.
#pragma once

#include "sched/thread.h"

#include <algorithm>
#include <utility>

namespace hearth {

/// Its CPU's lock guards it; the hints are read without.
struct RunQueue {
    using Threads = List<Thread, &Thread::queue_node_>;
    static constexpr uint32_t default_weight = 256;
    /// Real time, ns. In a round each runnable thread has its turn once: the longer a round is, the
    /// more of its share of some seconds is a matter of who has just had his turn.
    static constexpr uint64_t shortest_round = 10'000'000;
    static constexpr uint64_t shortest_average_turn = 750'000, shortest_turn = 100'000;

    Threads threads;
    Hint<unsigned> length{0};
    Hint<uint64_t> weight{0}; // of all that wait and of whoever runs

    void insert(Thread& t) {
        // Who has had a turn belongs near the end, who slept to the front.
        Thread* before = threads.back();
        if (before && t.virtual_time_ < threads.front()->virtual_time_)
            before = nullptr;
        while (before && before->virtual_time_ > t.virtual_time_)
            before = threads.previous(*before);
        if (before)
            threads.insert_after(*before, t);
        else
            threads.push_front(t);
        length = length + 1;
        weight = weight + t.weight_;
    }
    /// Or off the list of those that wait for the budgets of their caps.
    void take_off(Thread& t) {
        Threads::remove(t);
        if (std::exchange(t.waits_for_budget_, false))
            return;
        length = length - 1;
        weight = weight - t.weight_;
    }
    void set_weight(Thread& t, uint32_t value, bool runs) {
        if ((t.queue_node_.linked() && !t.waits_for_budget_) || runs)
            weight = weight + value - t.weight_;
        t.weight_ = value;
    }

    static uint64_t virtual_duration(Thread const& t, uint64_t time) {
        return time * default_weight / t.weight_;
    }
    /// In virtual time, the same for all on the CPU; also for one that is just coming.
    [[nodiscard]] uint64_t turn(Thread const& running, uint32_t weight_of_newcomer = 0) const {
        uint64_t const count = length + (running.idle_ ? 0 : 1) + (weight_of_newcomer ? 1 : 0);
        uint64_t const round = std::max(shortest_round, count * shortest_average_turn);
        return round * default_weight / std::max<uint64_t>(weight + weight_of_newcomer, 1);
    }
    /// How long the running thread may run, in real time: until others want their turn, or as its
    /// cap says. 0: for ever.
    [[nodiscard]] uint64_t time_to_run(Thread const& running) const {
        if (length == 0 || running.idle_)
            return running.drawn_;
        uint64_t const time =
            std::max(turn(running) * running.weight_ / default_weight, shortest_turn);
        return running.cap_ ? std::min(time, running.drawn_) : time;
    }
};

} // namespace hearth
