// A machine with four CPUs, booted once per process, and guests whose instructions are lambdas.
#pragma once

#include "abi/xen.h"
#include "arch/apic.h"
#include "arch/context.h"
#include "arch/host/machine.h"
#include "console/console.h"
#include "console/log.h"
#include "control/cpu_pool.h"
#include "control/domain_lifetime.h"
#include "cpu/cpu.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/paging.h"
#include "memory/stacks.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/descriptor_tables.h"
#include "pv/domain.h"
#include "pv/hypercall.h"
#include "pv/page_type.h"
#include "pv/way_back.h"
#include "time/clock.h"
#include "time/timer.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace hearth::test {

inline constexpr unsigned machine_cpus = 4;
inline constexpr uint64_t machine_hertz = 1'000'000'000; // so that a tick is a nanosecond

struct IdleThread final : Thread {};

inline void cpu_main(void*) {
    static IdleThread idle[machine_cpus];
    load_address_space(idle_cr3());
    scheduler_adopt_idle(idle[this_cpu_id()], 0);
    timers_initialise_cpu();
    idle_loop();
}

inline std::map<Registers*, std::function<void(Registers&)>>& guest_steps() {
    static std::map<Registers*, std::function<void(Registers&)>> steps;
    return steps;
}

/// Each vector has a handler, for user mode too.
inline void handle_all_traps(pv::PvVcpu& v, uint64_t handler) {
    for (unsigned vector = 0; vector < 256; ++vector)
        if (!v.traps.set(static_cast<uint8_t>(vector), {handler, 0xe033, 3}))
            abort();
}

/// What entry.S does with the instruction `syscall`. To the border goes guest_code().
inline void system_call(pv::PvVcpu& v) {
    Registers& r = v.registers();
    r.vector = ENTERED_BY_SYSCALL;
    r.rax = guest_syscall(v, r).rax;
}

/// What stands for a guest's code: does what the driver prepared, once each time that its CPU is
/// let run.
[[noreturn]] inline void guest_code(Registers& frame) {
    for (;;) {
        if (auto step = std::exchange(guest_steps()[&frame], nullptr))
            step(frame);
        // An interrupt may have asked for another thread.
        (void)prepare_return_to_guest(pv::current(), frame);
        host::leave_cpu();
    }
}

inline void boot_machine() {
    static bool booted = false;
    if (std::exchange(booted, true))
        return;
    host::create_memory();
    console_initialise({});
    set_log_thresholds(LogSource::hearth, {LogThreshold::error, LogThreshold::error});
    clock_start(machine_hertz);
    timers_initialise(0);
    host::urgent_interrupt = [](uint8_t) { serve_flush_request(); };
    host::guest_program = guest_code;
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
        cpu_block(cpu).id = cpu;
        cpu_block(cpu).apic_id = cpu;
        set_online(cpu);
    }
    cpu_pools_initialise(0);
    donate_frames(host::RamLayout::low_start, host::RamLayout::low_end);
    donate_frames(host::RamLayout::high_start, host::RamLayout::high_end);
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        host::start_cpu(cpu, cpu_main, nullptr);
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        host::run_cpu(cpu);
    if (!start_reaper())
        abort();
}

/// Takes what was sent to the CPU that the caller is, as it would between two instructions.
inline void take_own_interrupts() {
    unsigned const cpu = host::current_cpu();
    auto& state = host::cpu_state(cpu);
    if (state.timer_deadline_tsc != 0 && state.timer_deadline_tsc <= host::tsc.load()) {
        state.timer_deadline_tsc = 0;
        timer_interrupt();
    }
    for (uint8_t const vector : host::collect_interrupts(cpu)) {
        if (vector == arch::vector_flush) // unless it is urgent, and was taken at once
            serve_flush_request();
        if (vector == arch::vector_reschedule) {
            reschedule_interrupt();
            request_reschedule();
        }
    }
}
/// The same for another one.
inline void take_interrupts(unsigned cpu) {
    unsigned const before = host::current_cpu();
    host::set_current_cpu(cpu);
    take_own_interrupts();
    host::set_current_cpu(before);
}

/// One round: every CPU takes its interrupts and goes on until it has nothing to do or its guest's
/// step is done.
inline void run_all_cpus() {
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
        take_interrupts(cpu);
        host::run_cpu(cpu);
    }
}

/// Hypervisor code that may sleep and wait for CPUs, in a thread of its own.
class Worker final : public Thread {
    std::function<void()> work_;
    bool done_ = false;

    [[noreturn]] static void main(void* self) {
        for (;;) {
            auto& worker = *static_cast<Worker*>(self);
            if (auto work = std::exchange(worker.work_, nullptr)) {
                work();
                worker.done_ = true;
            }
            sleep_current();
        }
    }
    Worker() {
        thread_prepare(*this, *allocate_stack(), main, this);
        start(*this);
    }

public:
    /// Returns when `work` has; the CPUs run meanwhile.
    static void run(std::function<void()> work) {
        static Worker& worker = *new Worker;
        worker.work_ = std::move(work);
        worker.done_ = false;
        wake(worker);
        for (unsigned rounds = 0; !worker.done_; ++rounds) {
            if (rounds == 10'000)
                abort();
            if (rounds > 1000) // another thread has its CPU, until its slice ends
                host::tsc += 100'000;
            run_all_cpus();
        }
    }
};

/// The frames on a domain's books, and the one that Hearth shares with it.
inline std::vector<Mfn> owned_frames(Domain& domain) {
    std::vector<Mfn> frames;
    if (domain.shared_info)
        frames.push_back(domain.shared_info_frame);
    domain.pages.with([&](PageList& list) {
        for (uint32_t frame = list.frames.first(); frame != no_frame;
             frame = page_at(Mfn{frame}).next)
            frames.push_back(Mfn{frame});
    });
    return frames;
}

/// A PV guest with a small address space: one page for arguments, in tables that it keeps.
class Guest {
public:
    static constexpr uint64_t argument_address = 0x200000;

    Domain& domain;
    Mfn l4, l3, l2, l1, argument_page;

    /// `ready` of its vCPUs could be brought up at once; the others are as a toolstack leaves them.
    explicit Guest(unsigned vcpus = 1, unsigned ready = ~0u, bool hardware = false,
                   uint64_t maximum = 4096)
        : domain{make_domain(vcpus, hardware)} {
        domain.pages.with([&](PageList& list) { list.maximum = maximum; });
        for (Mfn* frame : {&l4, &l3, &l2, &l1, &argument_page})
            *frame = new_frame();
        entry(l4, 4) = Pte::make(l3, table_flags);
        entry(l3, 3) = Pte::make(l2, table_flags);
        entry(l2, 2) = Pte::make(l1, table_flags);
        entry(l1, 1) = Pte::make(argument_page, table_flags);
        for (unsigned i = 0; i < vcpus && i < ready; ++i) {
            pv::PvVcpu& v = vcpu(i);
            // The type machinery may reschedule, so it runs as any hypervisor code does.
            Worker::run([&] { must(pv::get_page_and_type(domain, l4, PageType::l4)); });
            v.kernel_table = l4;
            v.registers() = {};
            v.period = 0;
            v.info->upcall_mask = 1;
            pv::finish_vcpu(v);
        }
        bring_up(0);
    }
    ~Guest() { destroy_guest(); }
    Guest(Guest const&) = delete;
    Guest& operator=(Guest const&) = delete;

    static constexpr uint64_t table_flags =
        pte::present | pte::writable | pte::user | pte::accessed | pte::dirty;

    [[nodiscard]] pv::PvVcpu& vcpu(unsigned n = 0) const { return pv::pv_vcpu(*domain.vcpus[n]); }
    Mfn new_frame() {
        Mfn const frame = must(allocate_guest_frame(domain));
        return frame;
    }
    void bring_up(unsigned n) {
        vcpu(n).online.store(true);
        start(vcpu(n));
        run_all_cpus();
    }

    /// Runs `step` as the vCPU, between a system call's entry and its way back. False if it has not
    /// finished: it sleeps.
    bool run(std::function<void()> step, unsigned n = 0) {
        pv::PvVcpu& v = vcpu(n);
        bool done = false;
        auto const finished = std::make_shared<bool>(false);
        guest_steps()[&v.registers()] = [step = std::move(step), finished](Registers&) {
            step();
            *finished = true;
        };
        for (unsigned tries = 0; tries < 8 && !(done = *finished); ++tries)
            run_all_cpus();
        return done;
    }

    /// A hypercall of the guest's kernel; nothing if it sleeps on.
    std::optional<int64_t> hypercall(abi::Hypercall number, uint64_t a1 = 0, uint64_t a2 = 0,
                                     uint64_t a3 = 0, uint64_t a4 = 0, uint64_t a5 = 0,
                                     uint64_t a6 = 0, unsigned n = 0) {
        pv::PvVcpu& v = vcpu(n);
        auto const result = std::make_shared<int64_t>(0);
        bool const done = run(
            [=, &v] {
                Registers& r = v.registers();
                r.rax = static_cast<uint64_t>(number);
                r.rdi = a1;
                r.rsi = a2;
                r.rdx = a3;
                r.r10 = a4;
                r.r8 = a5;
                r.r9 = a6;
                system_call(v);
                *result = static_cast<int64_t>(r.rax);
            },
            n);
        return done ? std::optional{*result} : std::nullopt;
    }

    /// The argument page as the guest sees it.
    template <class T>
    T& argument(uint64_t offset = 0) {
        return *reinterpret_cast<T*>(direct<char>(argument_page) + offset);
    }

    [[nodiscard]] std::vector<Mfn> owned_frames() const { return test::owned_frames(domain); }

    template <class T>
    static T must(Result<T> result) {
        if (!result)
            abort();
        return *result;
    }
    static void must(Result<> result) {
        if (!result)
            abort();
    }

private:
    static Domain& make_domain(unsigned vcpus, bool hardware) {
        boot_machine();
        static DomainId next = 0;
        do
            next = static_cast<DomainId>(next % (max_domains - 1) + 1);
        while (find_domain(next)); // a toolstack's
        Domain& made = *must(pv::create_domain(next, hardware, {.vcpus = vcpus}));
        Worker::run([&made] {
            must(join_cpu_pool(made, 0));
            must(create_guest_vcpus(made));
        });
        if (!hardware)
            unpause_domain(made); // as the toolstack does when it is built
        made.toolstack_pauses = 0;
        return made;
    }
    Pte& entry(Mfn table, unsigned level) {
        return direct<Pte>(table)[table_index(argument_address, level)];
    }

    void destroy_guest() {
        for (unsigned i = 0; i < domain.vcpu_count; ++i)
            guest_steps().erase(&vcpu(i).registers());
        Worker::run([this] {
            MutexGuard guard{domain.control};
            destroy_domain(domain);
        });
        for (unsigned round = 0; round < 4; ++round) // the reaper's turn
            run_all_cpus();
    }
};

} // namespace hearth::test
