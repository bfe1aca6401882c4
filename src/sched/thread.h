// A thread of the hypervisor: a stack, a state, a place in a run queue. Every vCPU is one; so is
// each CPU's idle loop.
#pragma once

#include "arch/intrinsics.h"
#include "base/hint.h"
#include "base/list.h"
#include "base/lock.h"
#include "cpu/cpu.h"
#include "sched/cap.h"

#include <atomic>
#include <cstdint>

namespace hearth {

/// As guests see it. (public/vcpu.h, RUNSTATE_*)
enum class RunState : uint32_t { running = 0, runnable = 1, blocked = 2, offline = 3 };

/// How long a thread has been in each state.
struct RunTimes {
    RunState state = RunState::offline;
    uint64_t since = 0;     // system time at which `state` began
    uint64_t spent[4] = {}; // ns, up to `since`
};

/// What a thread has to see to before it goes back to its guest, or at its next preemption point.
namespace attention {
inline constexpr uint32_t reschedule = 1; // another thread may be due on its CPU
inline constexpr uint32_t border = 2;     // whether it may go on, and with what; its owner says
} // namespace attention

class Thread {
public:
    constexpr Thread() = default;
    Thread(Thread const&) = delete;
    Thread& operator=(Thread const&) = delete;

    /// Called on the CPU that takes it on, or puts it down; interrupts off, no lock held.
    virtual void switch_in() {}
    virtual void switch_out() {}
    virtual void describe(char* text, unsigned size) const;

    [[nodiscard]] unsigned cpu() const { return cpu_; }
    [[nodiscard]] RunTimes times() const;
    [[nodiscard]] CpuMask affinity() const { return affinity_; }
    [[nodiscard]] CpuMask preferred_cpus() const { return preferred_; }
    [[nodiscard]] uint64_t stack_end() const { return stack_end_; }

    /// After what it is about has been written: the bits of attention:: that are set here are not
    /// missed by whoever clears them before looking.
    void demand(uint32_t what) { attention_.fetch_or(what); }
    void settle(uint32_t what) { attention_.fetch_and(~what); }
    [[nodiscard]] uint32_t attention() const { return attention_.load(std::memory_order_relaxed); }

protected:
    constexpr ~Thread() = default;

private:
    friend struct Scheduler;
    friend struct RunQueue;
    std::atomic<uint32_t> attention_{0};
    uint64_t saved_stack_pointer_ = 0;
    uint64_t stack_end_ = 0;
    ListNode queue_node_;
    Hint<unsigned> cpu_{0};
    bool idle_ = false;
    bool wake_pending_ = false;
    std::atomic<bool> on_cpu_{false};
    Thread* next_sibling_ = this; // a ring
    CpuMask affinity_ = any_cpu;
    uint64_t virtual_time_ = 0;
    uint32_t weight_ = 256;
    CpuMask preferred_ = any_cpu;
    Cap* cap_ = nullptr;
    uint64_t drawn_ = 0;            // from the cap's budget, for as long as it runs
    bool waits_for_budget_ = false; // on its CPU's list of those that do
    RunTimes times_;
};

/// Gives a thread its stack and first function, which never returns. `stack` is 16 KiB, aligned.
void thread_prepare(Thread& thread, uint64_t stack, void (*function)(void*), void* argument);

/// The calling code becomes this CPU's idle thread.
void scheduler_adopt_idle(Thread& idle, uint64_t stack);
[[noreturn]] void idle_loop();

inline Thread& current_thread() { return *this_cpu().current; }
/// Makes a sleeping thread runnable; remembered if it is about to sleep.
void wake(Thread& thread);
/// Brings a new or offline thread to life on the least loaded CPU of its affinity.
void start(Thread& thread);
/// Sleeps until somebody calls wake(). Spurious returns happen: check the condition again.
void sleep_current();
/// Never runs again until start().
void park_current();
void yield_current();
/// For loops that wait for another CPU's thread, which may want this CPU. No lock may be held.
void let_others_run();
/// Where it may run from now on; it leaves a CPU that is not among them as soon as it can.
void set_affinity(Thread& thread, CpuMask cpus);
/// Makes it one of those that rather wait for different CPUs, since one may wait for what another
/// holds: a guest's locks. Neither has been started yet.
void add_sibling(Thread& thread, Thread& to);
/// Its share beside others on the same CPU; 256 is everybody's to begin with. Not 0.
void set_weight(Thread& thread, uint32_t weight);
/// The CPUs that it runs on rather than on others of its affinity, when there is a choice.
void set_preferred_cpus(Thread& thread, CpuMask cpus);
/// From now on it runs on the cap's budget; null: as long as it likes. The cap outlives that.
void set_cap(Thread& thread, Cap* cap);
/// For so long (ns) a thread on these CPUs runs before one that is further behind takes its place.
void set_rate_limit(CpuMask cpus, uint64_t limit);
/// Whether it has parked, or never ran, and its context has left its CPU: nothing of it moves until
/// start().
bool is_parked(Thread& thread);
/// Returns when each CPU has passed a preemption point, been idle or run a guest since the call:
/// whatever bare pointers they had then are forgotten. No lock may be held.
void wait_for_all_cpus();
/// Moves on to another thread if this CPU was asked to; otherwise returns at once.
void reschedule_if_needed();
inline bool reschedule_pending() {
    return (current_thread().attention() & attention::reschedule) != 0;
}
/// Has this CPU look for another thread at its next chance.
void request_reschedule();
/// The reschedule IPI's handler.
void reschedule_interrupt();
/// Lets interrupts in and others run. No lock may be held.
inline void preempt_point() {
    check_no_lock_held();
    arch::open_interrupt_window();
    if (reschedule_pending()) [[unlikely]]
        reschedule_if_needed();
}
/// In loops whose steps are short: one after each `steps` of them. `step` counts from 0.
inline void preempt_point_each(unsigned steps, uint64_t step) {
    if (step % steps == steps - 1)
        preempt_point();
}
/// How long a CPU has had nothing to run, ns.
uint64_t idle_time(unsigned cpu);
/// If it is running on another CPU, makes that CPU pass through the hypervisor.
void kick(Thread& thread);

} // namespace hearth
