// CPUs: what each one has to itself, who is online, and how one gets another's attention.
#pragma once

#include "cpu/mask.h"
#include "memory/loaded_space.h"

#include <cstdint>

namespace hearth {

class Thread;

/// One CPU's block; reached through the end of whatever stack it runs on.
struct Cpu {
    unsigned id;
    uint32_t apic_id;
    uint32_t acpi_id;
    Thread* current;
    uint64_t held_ranks;     // of the locks that it holds; see cpu.cpp
    uint64_t idle_stack;     // lowest address of the stack that it started on
    uint64_t stack_top_word; // where sysenter finds the running vCPU's stack
    LoadedSpace space;
};

Cpu& this_cpu();
inline unsigned this_cpu_id() { return this_cpu().id; }
Cpu& cpu_block(unsigned id);
CpuMask online_cpus();
void set_online(unsigned id);

enum class Ipi : uint8_t { flush_tlb, reschedule };
void send_ipi(CpuMask cpus, Ipi ipi);

/// Ties a stack to a CPU: this_cpu() works on it from then on. `stack_end` is one past its last
/// byte.
void bind_stack(uint64_t stack_end, Cpu& cpu);

} // namespace hearth
