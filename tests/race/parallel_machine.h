// The fake machine with a thread for each CPU, so that its guests' hypercalls really meet.
#pragma once

#include "unit/fake_machine.h"

#include "abi/operations.h"

#include <atomic>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace hearth::test {

/// What a vCPU does when the machine runs: calls `step` again and again. Its arguments lie in a
/// part of its guest's argument page that is its own.
class Program {
    Guest& guest_;
    unsigned const vcpu_;
    std::mt19937_64 random_;
    std::atomic<unsigned> left_;

public:
    Program(Guest& guest, unsigned vcpu, uint64_t seed, unsigned rounds)
        : guest_{guest}, vcpu_{vcpu}, random_{seed}, left_{rounds} {}
    virtual ~Program() = default;
    [[nodiscard]] bool done() const { return left_.load() == 0; }
    /// For whoever wonders why it is not.
    void describe() const {
        pv::PvVcpu& v = guest_.vcpu(vcpu_);
        fprintf(stderr,
                "d%uv%u has %u rounds left: state %u on CPU %u, parked %d, domain %s, %u pauses\n",
                guest_.domain.id, vcpu_, left_.load(), static_cast<unsigned>(v.times().state),
                v.cpu(), is_parked(v), !guest_.domain.is_shut_down() ? "up" : "down",
                guest_.domain.pauses.load());
    }

    /// In place of the guest's code. From now on it belongs to the vCPU's thread.
    void install() {
        guest_steps()[&guest_.vcpu(vcpu_).registers()] = [this](Registers& frame) {
            while (left_.load() != 0) {
                step();
                host::interrupt_window();
                (void)prepare_return_to_guest(guest_.vcpu(vcpu_), frame);
                left_.fetch_sub(1);
            }
            // Leaves its CPU to others for good.
            (void)call(abi::Hypercall::vcpu_op, static_cast<uint64_t>(abi::VcpuOperation::down),
                       vcpu_);
        };
    }

protected:
    virtual void step() = 0;
    /// The step that calls this is the last one.
    void finish() { left_.store(1); }

    Guest& guest() { return guest_; }
    uint64_t below(uint64_t n) { return random_() % n; }
    bool one_in(uint64_t n) { return below(n) == 0; }

    [[nodiscard]] uint64_t address() const { return Guest::argument_address + vcpu_ * 0x400; }
    template <class T>
    T& argument(uint64_t offset = 0) {
        return guest_.argument<T>(vcpu_ * 0x400 + offset);
    }
    int64_t call(abi::Hypercall number, uint64_t a1 = 0, uint64_t a2 = 0, uint64_t a3 = 0,
                 uint64_t a4 = 0) {
        pv::PvVcpu& v = guest_.vcpu(vcpu_);
        Registers& r = v.registers();
        r.rax = static_cast<uint64_t>(number);
        r.rdi = a1;
        r.rsi = a2;
        r.rdx = a3;
        r.r10 = a4;
        system_call(v);
        return static_cast<int64_t>(r.rax);
    }
};

class ParallelMachine {
public:
    /// Lets the CPUs go until each program is done. False: one has not within a minute.
    static bool run(std::vector<Program*> const& programs) {
        for (Program* const program : programs)
            program->install();
        auto const urgent = std::exchange(host::urgent_interrupt, nullptr);
        host::interrupt_window = take_own_interrupts;
        host::spin = std::this_thread::yield;
        host::tsc_step = 50;
        std::atomic<bool> stop{false};
        std::atomic<unsigned> working{machine_cpus};
        std::vector<std::thread> cpus;
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
            cpus.emplace_back([&stop, &working, cpu] {
                host::set_current_cpu(cpu);
                while (!stop.load()) {
                    take_own_interrupts();
                    host::run_cpu(cpu);
                    host::tsc += 1000; // also while nobody asks for the time
                    std::this_thread::yield();
                }
                // One of the others may be waiting for an answer.
                for (working.fetch_sub(1); working.load() != 0; std::this_thread::yield())
                    take_own_interrupts();
            });
        bool done = false;
        for (unsigned tenths = 0; tenths < 600 && !done; ++tenths) {
            std::this_thread::sleep_for(std::chrono::milliseconds{100});
            done = true;
            for (Program const* const program : programs)
                done = done && program->done();
        }
        for (Program const* const program : programs)
            if (!program->done())
                program->describe();
        stop.store(true);
        for (std::thread& cpu : cpus)
            cpu.join();
        host::tsc_step = 0;
        host::interrupt_window = nullptr;
        host::spin = nullptr;
        host::urgent_interrupt = urgent;
        return done;
    }
};

} // namespace hearth::test
