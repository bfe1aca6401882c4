#include "time/timer.h"

#include "arch/apic.h"
#include "base/hint.h"
#include "base/lock.h"
#include "cpu/cpu.h"
#include "time/clock.h"

#include <algorithm>
#include <limits>

namespace hearth {

/// A pairing heap, ordered by deadline: O(1) to insert and to look, O(log n) amortised to remove.
class TimerHeap {
    Timer* root_ = nullptr;

    static Timer* meld(Timer* a, Timer* b) {
        if (!a || !b)
            return a ? a : b;
        if (b->deadline_ < a->deadline_)
            std::swap(a, b);
        b->sibling_ = a->child_;
        if (a->child_)
            a->child_->previous_ = b;
        b->previous_ = a;
        a->child_ = b;
        return a;
    }

    static Timer* meld_children(Timer* first) {
        // Two passes, without recursion: pair from the left onto a stack, then meld the stack.
        Timer* paired = nullptr;
        while (first) {
            Timer* const a = first;
            Timer* const b = a->sibling_;
            first = b ? b->sibling_ : nullptr;
            a->sibling_ = a->previous_ = nullptr;
            if (b)
                b->sibling_ = b->previous_ = nullptr;
            Timer* const winner = meld(a, b);
            winner->sibling_ = paired;
            paired = winner;
        }
        Timer* result = nullptr;
        while (paired) {
            Timer* const next = paired->sibling_;
            paired->sibling_ = nullptr;
            result = meld(result, paired);
            paired = next;
        }
        return result;
    }

public:
    [[nodiscard]] Timer* first() const { return root_; }
    void insert(Timer& timer) { root_ = meld(root_, &timer); }
    void remove(Timer& timer) {
        Timer* const children = meld_children(timer.child_);
        if (&timer == root_) {
            root_ = children;
        } else {
            if (timer.previous_->child_ == &timer)
                timer.previous_->child_ = timer.sibling_;
            else
                timer.previous_->sibling_ = timer.sibling_;
            if (timer.sibling_)
                timer.sibling_->previous_ = timer.previous_;
            root_ = meld(root_, children);
        }
        timer.child_ = timer.sibling_ = timer.previous_ = nullptr;
        if (root_)
            root_->previous_ = root_->sibling_ = nullptr;
    }
    static uint64_t deadline(Timer const& t) { return t.deadline_; }
    static void assign(Timer& t, uint64_t deadline, int cpu) {
        t.deadline_ = deadline;
        t.cpu_.store(cpu, std::memory_order_release);
    }
    static void unassign(Timer& t) { t.cpu_.store(-1, std::memory_order_release); }
    static void fire(Timer& t) { t.expired_(t.argument_); }
    static int cpu(Timer const& t) { return t.cpu_.load(std::memory_order_relaxed); }
};

namespace {

struct alignas(64) CpuTimers {
    SpinLock<Rank::timer> lock;
    TimerHeap heap;
    std::atomic<uint32_t> interrupts{0};
};
constinit CpuTimers cpu_timers[max_cpus];
constinit Hint<uint64_t> apic_hertz{0};
constinit bool started = false;
constexpr uint64_t longest_wait = 1'000'000'000; // re-armed at least once a second

/// Sets this CPU's hardware for its first deadline; the lock is held.
void program_hardware(TimerHeap const& heap) {
    Timer* const first = heap.first();
    uint64_t const now = now_ns();
    uint64_t const deadline =
        first ? std::min(TimerHeap::deadline(*first), now + longest_wait) : now + longest_wait;
    if (apic_hertz == 0)
        return arch::apic_timer_deadline(tsc_at(deadline));
    uint64_t const wait = deadline > now ? deadline - now : 0;
    uint64_t const ticks = wait * apic_hertz / 1'000'000'000 + 1;
    arch::apic_timer_start(
        static_cast<uint32_t>(std::min<uint64_t>(ticks, std::numeric_limits<uint32_t>::max())));
}

} // namespace

void timers_initialise(uint64_t hertz) {
    apic_hertz = hertz;
    started = true;
}
void timers_initialise_cpu() {
    if (apic_hertz == 0)
        arch::apic_use_tsc_deadline();
    CpuTimers& mine = cpu_timers[this_cpu_id()];
    LockGuard guard{mine.lock};
    program_hardware(mine.heap);
}

void Timer::stop() {
    for (;;) {
        int const cpu = TimerHeap::cpu(*this);
        if (cpu < 0)
            return;
        CpuTimers& owner = cpu_timers[cpu];
        LockGuard guard{owner.lock};
        if (TimerHeap::cpu(*this) != cpu)
            continue; // it expired or moved meanwhile
        owner.heap.remove(*this);
        TimerHeap::unassign(*this);
        return;
    }
}

void Timer::set(uint64_t deadline) {
    unsigned const cpu = this_cpu_id();
    CpuTimers& mine = cpu_timers[cpu];
    for (;;) {
        stop();
        LockGuard guard{mine.lock};
        // Another CPU may be setting it too, under its own lock: only one of them may have it.
        int unset = -1;
        if (!cpu_.compare_exchange_strong(unset, static_cast<int>(cpu), std::memory_order_acq_rel,
                                          std::memory_order_relaxed))
            continue;
        deadline_ = deadline;
        mine.heap.insert(*this);
        if (mine.heap.first() == this)
            program_hardware(mine.heap);
        return;
    }
}

void timer_interrupt() {
    if (!started) // somebody measures the timer itself
        return;
    CpuTimers& mine = cpu_timers[this_cpu_id()];
    mine.interrupts.store(mine.interrupts.load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
    for (;;) {
        Timer* due = nullptr;
        {
            LockGuard guard{mine.lock};
            Timer* const first = mine.heap.first();
            if (first && TimerHeap::deadline(*first) <= now_ns()) {
                due = first;
                mine.heap.remove(*due);
                TimerHeap::unassign(*due);
            } else {
                program_hardware(mine.heap);
            }
        }
        if (!due)
            return;
        TimerHeap::fire(*due);
    }
}

uint32_t timer_interrupts(unsigned cpu) {
    return cpu_timers[cpu].interrupts.load(std::memory_order_relaxed);
}

uint64_t next_deadline(unsigned cpu) {
    CpuTimers& t = cpu_timers[cpu];
    LockGuard guard{t.lock};
    return t.heap.first() ? TimerHeap::deadline(*t.heap.first()) : 0;
}

} // namespace hearth
