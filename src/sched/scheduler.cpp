// Proportional share by virtual time, after Borrowed Virtual Time and its heirs: the runnable
// thread that is furthest behind runs next, for its share of a round; one that slept comes back no
// further behind than one turn, so that it answers quickly and cannot hoard.
#include "arch/context.h"
#include "arch/intrinsics.h"
#include "console/log.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "sched/run_queue.h"
#include "sched/thread.h"
#include "time/clock.h"
#include "time/timer.h"

#include <algorithm>
#include <bit>
#include <optional>

namespace hearth {
namespace {

void turn_ended(void*);
void period_began(void*);

} // namespace

/// All that touches a thread's private state.
struct Scheduler {
    struct alignas(64) Cpu {
        SpinLock<Rank::scheduler> lock;
        RunQueue queue;
        RunQueue::Threads without_budget; // runnable, but for their caps
        Hint<Thread*> running{nullptr};
        Thread* idle = nullptr;
        Thread* previous = nullptr;             // being switched away from
        Thread* displaced = nullptr;            // `previous`, when it may no longer run here
        Hint<uint64_t> virtual_time{0};         // never goes back
        std::atomic<uint64_t> interruptions{0}; // by IPI: each found the CPU between two things
        std::atomic<uint64_t> rate_limit{0};    // ns
        Timer turn_timer{turn_ended, nullptr};
        Timer period_timer{period_began, nullptr};
    };
    static Cpu cpus[max_cpus];

    static constexpr uint64_t look_around = 100'000'000; // ns

    static Cpu& mine() { return cpus[this_cpu_id()]; }

    static void enter_state(Thread& t, RunState state, uint64_t now) {
        t.times_.spent[static_cast<unsigned>(t.times_.state)] += since_then(t.times_, now);
        __atomic_store(&t.times_.state, &state, __ATOMIC_RELAXED); // siblings look at it
        t.times_.since = now;
    }

    /// For how long it has been in its state. Another CPU, whose clock is a little behind, may ask.
    static uint64_t since_then(RunTimes const& times, uint64_t now) {
        return now > times.since ? now - times.since : 0;
    }

    static void charge(Cpu& cpu, uint64_t now) {
        Thread& t = *cpu.running;
        if (t.idle_)
            return;
        uint64_t const ran = since_then(t.times_, now);
        t.virtual_time_ += RunQueue::virtual_duration(t, ran);
        follow(cpu, t.virtual_time_);
        if (t.cap_)
            t.cap_->settle(std::exchange(t.drawn_, 0), ran);
    }

    /// Who runs while nobody waits takes the CPU's virtual time along: nobody is owed for it later.
    static void follow(Cpu& cpu, uint64_t time) {
        if (cpu.queue.length == 0 && time > cpu.virtual_time)
            cpu.virtual_time = time;
    }

    /// Queues a runnable thread on its CPU, whose lock is held, and has that CPU look: whoever
    /// should run next does, and the turn of whoever goes on running has an end from now on.
    static void enqueue(Thread& t) {
        unsigned const id = t.cpu_;
        Cpu& cpu = cpus[id];
        if (!cpu.running->idle_)
            follow(cpu, current_virtual_time(cpu));
        uint64_t const most_behind = cpu.queue.turn(*cpu.running, t.weight_);
        t.virtual_time_ = std::max(
            t.virtual_time_, cpu.virtual_time > most_behind ? cpu.virtual_time - most_behind : 0);
        cpu.queue.insert(t);
        bool const was_alone = cpu.queue.length == 1;
        bool const preempts =
            cpu.running->idle_ ||
            t.virtual_time_ + cpu.queue.turn(*cpu.running) / 8 < current_virtual_time(cpu);
        if (was_alone || preempts) {
            cpu.running->demand(attention::reschedule);
            if (id != this_cpu_id())
                send_ipi(CpuMask::of(id), Ipi::reschedule);
        }
        if (!cpu.running->idle_)
            call_idle_cpu(t);
    }

    /// A thread waits behind another: a CPU with nothing to do comes and takes it.
    static void call_idle_cpu(Thread const& t) {
        CpuMask const candidates = (t.affinity_ & online_cpus()).without(this_cpu_id());
        if (!call_first_idle(candidates & t.preferred_))
            call_first_idle(candidates);
    }
    static bool call_first_idle(CpuMask candidates) {
        for (uint64_t left = candidates.bits; left != 0; left &= left - 1) {
            unsigned const id = static_cast<unsigned>(std::countr_zero(left));
            if (cpus[id].running->idle_ && cpus[id].queue.length == 0) {
                send_ipi(CpuMask::of(id), Ipi::reschedule);
                return true;
            }
        }
        return false;
    }

    /// Virtual time is relative to a queue: what a thread is ahead or behind goes with it, within
    /// bounds.
    static uint64_t carry_over(uint64_t time, uint64_t from, uint64_t to) {
        int64_t const ahead = std::clamp(static_cast<int64_t>(time - from),
                                         -static_cast<int64_t>(RunQueue::shortest_round),
                                         static_cast<int64_t>(5 * RunQueue::shortest_round));
        return ahead < 0 && to < static_cast<uint64_t>(-ahead) ? 0
                                                               : to + static_cast<uint64_t>(ahead);
    }

    static uint64_t current_virtual_time(Cpu const& cpu) {
        Thread const& t = *cpu.running;
        return t.virtual_time_ + RunQueue::virtual_duration(t, since_then(t.times_, now_ns()));
    }

    /// Where siblings of its run or wait, of the first few.
    static CpuMask cpus_of_siblings(Thread const& t) {
        CpuMask found;
        unsigned left_to_look_at = 16;
        for (Thread const* s = t.next_sibling_; s != &t && left_to_look_at != 0;
             s = s->next_sibling_, --left_to_look_at) {
            RunState state;
            __atomic_load(&s->times_.state, &state, __ATOMIC_RELAXED);
            if (state == RunState::running || state == RunState::runnable)
                found = found | CpuMask::of(s->cpu_);
        }
        return found;
    }

    /// Where a thread that wakes should run: where it was if that is idle, else an idle CPU, else
    /// where it was. A CPU that it prefers is better than one that it does not, if that is not idle
    /// while the preferred one is busy; and one without siblings is better than one with.
    static unsigned choose(Thread const& t) {
        CpuMask const allowed = t.affinity_ & online_cpus();
        if ((allowed & t.preferred_).has(t.cpu_) && cpus[t.cpu_].running->idle_ &&
            cpus[t.cpu_].queue.length == 0)
            return t.cpu_;
        constexpr unsigned each = 2;
        constexpr unsigned not_preferred = 3,
                           siblings = 3; // more than a move, less than two threads
        CpuMask const with_siblings = cpus_of_siblings(t);
        unsigned best = t.cpu_;
        unsigned best_load = ~0u;
        allowed.each([&](unsigned id) {
            unsigned const load =
                each * (cpus[id].queue.length + (cpus[id].running->idle_ ? 0 : 1) +
                        (id == t.cpu_ ? 0 : 1)) +
                (t.preferred_.has(id) ? 0 : not_preferred) + (with_siblings.has(id) ? siblings : 0);
            if (load < best_load || (load == best_load && id == t.cpu_)) {
                best_load = load;
                best = id;
            }
        });
        return best;
    }

    /// A runnable thread that is on no queue, nor about to get onto one: to the best CPU's. Nobody
    /// else moves it; its affinity may change under way.
    static void make_runnable(Thread& t) {
        while (!try_make_runnable(t))
            wait_politely();
    }
    /// False: it may run neither where it is nor, yet, elsewhere.
    static bool try_make_runnable(Thread& t) {
        {
            unsigned const from = t.cpu_;
            LockGuard guard{cpus[from].lock};
            unsigned const to = choose(t);
            // Its context must have left its last CPU before another may have it.
            bool const must_stay = t.on_cpu_.load(std::memory_order_acquire);
            if (to == from || (must_stay && t.affinity_.has(from))) {
                enqueue(t);
                return true;
            }
            if (must_stay)
                return false;
            hand_over(t, to);
        }
        LockGuard guard{cpus[t.cpu_].lock};
        if (!t.affinity_.has(t.cpu_))
            return false;
        enqueue(t);
        return true;
    }
    /// From now on another CPU's lock guards it; its own CPU's is held, and it is on no queue.
    static void hand_over(Thread& t, unsigned to) {
        t.virtual_time_ =
            carry_over(t.virtual_time_, cpus[t.cpu_].virtual_time, cpus[to].virtual_time);
        t.cpu_ = to;
    }

    static bool leave_sleep(Thread& t, RunState expected) {
        for (;;) {
            unsigned const id = t.cpu_;
            Cpu& cpu = cpus[id];
            LockGuard guard{cpu.lock};
            if (t.cpu_ != id)
                continue;
            if (t.times_.state != expected) {
                t.wake_pending_ = true;
                return false;
            }
            enter_state(t, RunState::runnable, now_ns());
            if (expected == RunState::offline) // it did not sleep, and is owed nothing
                t.virtual_time_ = std::max<uint64_t>(t.virtual_time_, cpu.virtual_time);
            return true;
        }
    }

    /// Whose caps leave them no time go aside.
    static Thread& pick(Cpu& cpu, uint64_t now) {
        while (Thread* const t = cpu.queue.threads.front()) {
            cpu.queue.take_off(*t);
            if (t->cap_)
                t->drawn_ = t->cap_->draw(now);
            if (t->cap_ && t->drawn_ == 0) {
                t->waits_for_budget_ = true;
                cpu.without_budget.push_back(*t);
                continue;
            }
            if (t->virtual_time_ > cpu.virtual_time)
                cpu.virtual_time = t->virtual_time_;
            cpu.queue.weight = cpu.queue.weight + t->weight_;
            return *t;
        }
        return *cpu.idle;
    }

    /// Those that wait on this CPU for the period that has begun may look what there is in it.
    static void let_in() {
        unsigned const id = this_cpu_id();
        LockGuard guard{cpus[id].lock};
        while (Thread* const t = cpus[id].without_budget.front()) {
            RunQueue::Threads::remove(*t);
            t->waits_for_budget_ = false;
            enqueue(*t);
        }
    }

    static void set_timers(Cpu& cpu, uint64_t now, uint64_t time, bool some_wait) {
        if (time != 0)
            cpu.turn_timer.set(now + time);
        else if (!cpu.running->idle_ && !cpu.turn_timer.active())
            cpu.turn_timer.set(now + look_around); // who is alone may take from who are not
        // One that is due already is not moved: its interrupt may only not have been taken yet.
        if (some_wait && !cpu.period_timer.active())
            cpu.period_timer.set(Cap::next_period(now));
    }

    /// Switches from the running thread, which has been put where it belongs, to the best one. Lock
    /// held; released.
    static void switch_away(Cpu& cpu, uint64_t now) __attribute__((release_capability(cpu.lock))) {
        Thread& previous = *cpu.running;
        previous.settle(attention::reschedule);
        Thread& next = pick(cpu, now);
        enter_state(next, RunState::running, now);
        cpu.running = &next;
        uint64_t const time = cpu.queue.time_to_run(next);
        bool const some_wait = cpu.without_budget.front() != nullptr;
        if (&next == &previous) {
            cpu.lock.unlock();
            set_timers(cpu, now, time, some_wait);
            return;
        }
        cpu.previous = &previous;
        next.on_cpu_.store(true);
        cpu.lock.unlock();
        set_timers(cpu, now, time, some_wait);
        previous.switch_out();
        this_cpu().current = &next;
        bind_stack(next.stack_end_, this_cpu());
        arch::switch_stacks(&previous.saved_stack_pointer_, next.saved_stack_pointer_);
        finish_switch();
    }

    /// On the new thread's stack: the old one's context is complete now.
    static void finish_switch() {
        Cpu& cpu = mine();
        cpu.previous->on_cpu_.store(false, std::memory_order_release);
        if (Thread* const displaced = std::exchange(cpu.displaced, nullptr))
            make_runnable(*displaced);
        cpu.running->switch_in();
    }

    static void leave(RunState state) {
        Cpu& cpu = mine();
        cpu.lock.lock();
        Thread& self = *cpu.running;
        // Also one that was started again after it decided to park.
        if (state != RunState::runnable && self.wake_pending_) {
            self.wake_pending_ = false;
            cpu.lock.unlock();
            return;
        }
        uint64_t const now = now_ns();
        charge(cpu, now);
        if (!self.idle_)
            cpu.queue.weight = cpu.queue.weight - self.weight_;
        enter_state(self, state, now);
        if (state == RunState::runnable && !self.idle_) {
            if (self.affinity_.has(self.cpu_))
                cpu.queue.insert(self);
            else
                cpu.displaced = &self;
        }
        switch_away(cpu, now);
    }

    /// How many wait on a CPU for longer than until it looks. Whom an idle one is about to run
    /// stays there: two such CPUs could take him from one another for ever.
    static unsigned left_waiting(Cpu const& cpu) {
        unsigned const length = cpu.queue.length;
        return length != 0 && cpu.running->idle_ ? length - 1 : length;
    }
    static Thread* first_left_waiting(Cpu& cpu) {
        Thread* const first = cpu.queue.threads.front();
        return first && cpu.running->idle_ ? cpu.queue.threads.next(*first) : first;
    }
    /// The one among them, if there is one, of which `measure` says the most, and not nothing.
    template <class Measure>
    static std::optional<unsigned> most_loaded(CpuMask among, Measure&& measure) {
        std::optional<unsigned> found;
        uint64_t most = 0;
        among.each([&](unsigned id) {
            if (uint64_t const load = measure(cpus[id]); load > most) {
                most = load;
                found = id;
            }
        });
        return found;
    }
    /// From the other CPU of which `measure` says the most and that has something to take.
    template <class Measure, class Take>
    static bool take_from_one(Measure&& measure, Take&& take) {
        CpuMask others = online_cpus().without(this_cpu_id());
        while (auto const most = most_loaded(others, measure)) {
            if (take(cpus[*most]))
                return true;
            others = others.without(*most);
        }
        return false;
    }
    /// Takes a thread from the longest queue, of those that have one for it, for a CPU with nothing
    /// to do.
    static bool steal() {
        // Whose context is just leaving its last CPU is worth waiting for: nobody would call again.
        constexpr unsigned patience = 1000;
        for (unsigned i = 0; i < patience; ++i) {
            bool some_are_leaving = false;
            if (steal_from_any(some_are_leaving))
                return true;
            if (!some_are_leaving)
                break;
            wait_politely();
        }
        return false;
    }
    static bool steal_from_any(bool& some_are_leaving) {
        return take_from_one(left_waiting,
                             [&](Cpu& from) { return steal_from(from, some_are_leaving); });
    }
    static bool steal_from(Cpu& from, bool& some_are_leaving) {
        unsigned const self = this_cpu_id();
        Thread* taken = nullptr;
        {
            LockGuard guard{from.lock};
            unsigned left_to_look_at = 32;
            for (Thread* t = first_left_waiting(from); t && left_to_look_at != 0;
                 t = from.queue.threads.next(*t), --left_to_look_at) {
                if (!may_come(*t, self)) {
                    some_are_leaving |= t->affinity_.has(self);
                    continue;
                }
                if (!taken || t->preferred_.has(self))
                    taken = t;
                if (taken->preferred_.has(self))
                    break;
            }
            if (!taken)
                return false;
            from.queue.take_off(*taken);
            hand_over(*taken, self);
        }
        arrive(*taken);
        return true;
    }
    static bool may_come(Thread const& t, unsigned to) {
        return t.affinity_.has(to) && !t.on_cpu_.load(std::memory_order_acquire);
    }
    /// One that was handed over to this CPU, and may not be allowed here any more.
    static void arrive(Thread& t) {
        {
            unsigned const self = this_cpu_id();
            LockGuard guard{cpus[self].lock};
            if (t.affinity_.has(self))
                return enqueue(t);
        }
        make_runnable(t);
    }

    /// Takes a thread from the CPU with the most weight if that leaves the other with no less than
    /// this one: so a thread's share depends little on which CPU it is on.
    static void balance() { (void)take_from_one(excess_weight, balance_with); }
    static uint64_t excess_weight(Cpu const& cpu) {
        uint64_t const weight = cpu.queue.weight, own = mine().queue.weight;
        return weight > own ? weight - own : 0;
    }
    static bool balance_with(Cpu& from) {
        unsigned const self = this_cpu_id();
        Thread* taken = nullptr;
        {
            LockGuard guard{from.lock};
            uint64_t const too_much = excess_weight(from) / 2;
            unsigned left_to_look_at = 16;
            taken = first_left_waiting(from);
            while (taken && (taken->weight_ > too_much || !may_come(*taken, self) ||
                             !taken->preferred_.has(self)))
                taken = --left_to_look_at != 0 ? from.queue.threads.next(*taken) : nullptr;
            if (!taken)
                return false;
            from.queue.take_off(*taken);
            hand_over(*taken, self);
        }
        arrive(*taken);
        return true;
    }

    static void prepare(Thread& t, uint64_t stack, void (*function)(void*), void* argument) {
        t.stack_end_ = stack + arch::stack_size;
        t.saved_stack_pointer_ = arch::prepare_stack(t.stack_end_, t, function, argument);
        t.times_.since = now_ns();
    }
    static void adopt_idle(Thread& t, uint64_t stack) {
        Cpu& cpu = mine();
        t.stack_end_ = stack + arch::stack_size;
        t.idle_ = true;
        t.cpu_ = this_cpu_id();
        t.on_cpu_.store(true);
        enter_state(t, RunState::running, now_ns());
        cpu.idle = cpu.running = &t;
        this_cpu().current = &t;
    }
    /// Its CPU, which cannot change while the lock is held.
    static Cpu& lock_cpu_of(Thread const& t) __attribute__((no_thread_safety_analysis)) {
        for (;;) {
            unsigned const id = t.cpu_;
            cpus[id].lock.lock();
            if (t.cpu_ == id)
                return cpus[id];
            cpus[id].lock.unlock();
        }
    }

    /// Its CPU's lock is held.
    static bool sleeps(Thread const& t) {
        RunState const state = t.times_.state;
        return (state == RunState::blocked || state == RunState::offline) &&
               !t.on_cpu_.load(std::memory_order_acquire);
    }
    static void affinity(Thread& t, CpuMask mask) __attribute__((no_thread_safety_analysis)) {
        Cpu& cpu = lock_cpu_of(t);
        t.affinity_ = mask;
        bool const elsewhere = !mask.has(t.cpu_);
        bool const queued = t.queue_node_.linked();
        if (elsewhere && queued)
            cpu.queue.take_off(t);
        else if (queued)
            call_idle_cpu(t); // there may be more to choose from
        else if (elsewhere && cpu.running == &t)
            t.demand(attention::reschedule);
        unsigned const id = t.cpu_;
        if (elsewhere && sleeps(t)) // whoever wakes it asks under this lock where it is
            hand_over(t, choose(t));
        cpu.lock.unlock();
        if (elsewhere && queued)
            make_runnable(t);
        else if (elsewhere && id != this_cpu_id())
            send_ipi(CpuMask::of(id), Ipi::reschedule);
    }
    static void join(Thread& t, Thread& to) {
        t.next_sibling_ = to.next_sibling_;
        to.next_sibling_ = &t;
    }
    static void weight(Thread& t, uint32_t weight) __attribute__((no_thread_safety_analysis)) {
        Cpu& cpu = lock_cpu_of(t);
        cpu.queue.set_weight(t, weight, cpu.running == &t);
        cpu.lock.unlock();
    }
    static void prefer(Thread& t, CpuMask mask) __attribute__((no_thread_safety_analysis)) {
        Cpu& cpu = lock_cpu_of(t);
        t.preferred_ = mask;
        cpu.lock.unlock();
    }
    static void cap(Thread& t, Cap* cap) __attribute__((no_thread_safety_analysis)) {
        Cpu& cpu = lock_cpu_of(t);
        unsigned const id = t.cpu_;
        bool const running = cpu.running == &t;
        if (running) { // what it has run so far is settled by the old terms
            uint64_t const now = now_ns();
            charge(cpu, now);
            enter_state(t, RunState::running, now);
            t.demand(attention::reschedule);
        }
        t.cap_ = cap;
        t.drawn_ = 0;
        if (t.waits_for_budget_) {
            cpu.queue.take_off(t);
            enqueue(t);
        }
        cpu.lock.unlock();
        if (running && id != this_cpu_id())
            send_ipi(CpuMask::of(id), Ipi::reschedule);
    }
    /// Whether the running thread may go on for a while although another should run. That one is
    /// looked at again when the while is over.
    static bool goes_on() {
        Cpu& cpu = mine();
        uint64_t const limit = cpu.rate_limit.load(std::memory_order_relaxed);
        if (limit == 0)
            return false;
        Thread& self = *cpu.running;
        uint64_t const end = self.times_.since + limit;
        if (self.idle_ || self.cap_ || !self.affinity_.has(self.cpu_) || now_ns() >= end)
            return false;
        self.settle(attention::reschedule);
        cpu.turn_timer.set(end);
        return true;
    }
    static bool parked(Thread& t) __attribute__((no_thread_safety_analysis)) {
        Cpu& cpu = lock_cpu_of(t);
        bool const offline = t.times_.state == RunState::offline;
        cpu.lock.unlock();
        return offline && !t.on_cpu_.load(std::memory_order_acquire);
    }
    static RunTimes times(Thread const& t) __attribute__((no_thread_safety_analysis)) {
        Cpu& cpu = lock_cpu_of(t);
        RunTimes r = t.times_;
        cpu.lock.unlock();
        r.spent[static_cast<unsigned>(r.state)] += since_then(r, now_ns());
        return r;
    }
};
[[clang::no_destroy]] constinit Scheduler::Cpu Scheduler::cpus[max_cpus];

namespace {
void turn_ended(void*) {
    Scheduler::balance();
    request_reschedule();
}
void period_began(void*) { Scheduler::let_in(); }
} // namespace

RunTimes Thread::times() const { return Scheduler::times(*this); }
void Thread::describe(char* text, unsigned size) const {
    if (size)
        text[0] = 0;
}

void thread_prepare(Thread& thread, uint64_t stack, void (*function)(void*), void* argument) {
    Scheduler::prepare(thread, stack, function, argument);
}
void scheduler_adopt_idle(Thread& idle, uint64_t stack) { Scheduler::adopt_idle(idle, stack); }
void thread_first_activation() { Scheduler::finish_switch(); }

void idle_loop() {
    for (;;) {
        if (Scheduler::mine().queue.length || Scheduler::steal())
            Scheduler::leave(RunState::runnable);
        else
            arch::wait_for_interrupt();
    }
}

void wake(Thread& thread) {
    if (Scheduler::leave_sleep(thread, RunState::blocked))
        Scheduler::make_runnable(thread);
}
void start(Thread& thread) {
    if (Scheduler::leave_sleep(thread, RunState::offline))
        Scheduler::make_runnable(thread);
}
void sleep_current() { Scheduler::leave(RunState::blocked); }
void park_current() { Scheduler::leave(RunState::offline); }
void yield_current() { Scheduler::leave(RunState::runnable); }
void set_affinity(Thread& thread, CpuMask cpus) { Scheduler::affinity(thread, cpus); }
void add_sibling(Thread& thread, Thread& to) { Scheduler::join(thread, to); }
void set_weight(Thread& thread, uint32_t weight) { Scheduler::weight(thread, weight); }
void set_preferred_cpus(Thread& thread, CpuMask cpus) { Scheduler::prefer(thread, cpus); }
void set_cap(Thread& thread, Cap* cap) { Scheduler::cap(thread, cap); }
void set_rate_limit(CpuMask cpus, uint64_t limit) {
    cpus.each([&](unsigned id) { Scheduler::cpus[id].rate_limit.store(limit); });
}
bool is_parked(Thread& thread) { return Scheduler::parked(thread); }

[[gnu::noinline]] void reschedule_if_needed() {
    if (reschedule_pending() && !Scheduler::goes_on())
        Scheduler::leave(RunState::runnable);
}
void request_reschedule() { Scheduler::mine().running->demand(attention::reschedule); }
// A CPU takes interrupts only at preemption points, while it idles and in guests: it is at one now.
// The way back looks for other work.
void reschedule_interrupt() { Scheduler::mine().interruptions.fetch_add(1); }

void wait_for_all_cpus() {
    uint64_t before[max_cpus];
    // This CPU is at a preemption point by being here.
    CpuMask const others = online_cpus().without(this_cpu_id());
    others.each([&](unsigned id) { before[id] = Scheduler::cpus[id].interruptions.load(); });
    send_ipi(others, Ipi::reschedule);
    others.each([&](unsigned id) {
        while (Scheduler::cpus[id].interruptions.load() == before[id])
            let_others_run();
    });
}

void let_others_run() {
    preempt_point();
    wait_politely();
    yield_current();
}

// Who is not running looks at what is demanded of it when it comes, so its CPU, which may be
// another domain's, is left alone. The caller's demand is seen before this looks: it is a locked
// operation, and so is switch_in()'s after `running` is set.
void kick(Thread& thread) {
    unsigned const cpu = thread.cpu();
    if (cpu != this_cpu_id() && Scheduler::cpus[cpu].running == &thread)
        send_ipi(CpuMask::of(cpu), Ipi::reschedule);
}

uint64_t idle_time(unsigned cpu) {
    Thread const* const idle = Scheduler::cpus[cpu].idle;
    return idle ? idle->times().spent[static_cast<unsigned>(RunState::running)] : 0;
}

std::string_view describe_running(unsigned cpu) {
    static char text[32];
    Thread const* const running = Scheduler::cpus[cpu].running;
    if (!running)
        return "not started";
    if (running == Scheduler::cpus[cpu].idle)
        return "idle";
    running->describe(text, sizeof text);
    return text;
}

} // namespace hearth
