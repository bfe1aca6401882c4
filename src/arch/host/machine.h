// The fake machine's other side: what tests set, advance and look at.
#pragma once

#include "arch/paging_bits.h"
#include "arch/registers.h"
#include "base/address.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace hearth::host {

inline constexpr unsigned cpu_limit = 64;

// --- Memory: RAM in two stretches, one below and one above 4 GiB.

struct RamLayout {
    static constexpr Mfn low_start{0x100}, low_end{0x40000};
    static constexpr Mfn high_start{0x100000}, high_end{0x102000};
};
/// Once per process, before anything touches memory.
void create_memory();
/// The n-th allocation of memory from now on fails, counted from 1. 0: none.
void fail_allocation(uint64_t n);
/// How many it is until then.
uint64_t allocations_left();
/// Whether it has come to that.
bool allocation_failed();
/// What map_hypervisor_page() has mapped, by linear address.
std::map<uint64_t, Pte>& hypervisor_mappings();
/// How many stacks are in use.
uint64_t stack_count();
/// What memory that is nobody's is full of: seen by a guest, it is a secret that leaked. So are
/// locals that were never written, in a build with -ftrivial-auto-var-init=pattern.
inline constexpr uint8_t canary = 0xaa;
/// How much of a flow's stack was used at most so far, in bytes.
size_t deepest_stack();

// --- CPUs

/// Which CPU the calling code runs on, as far as this_cpu() is concerned.
unsigned current_cpu();
void set_current_cpu(unsigned cpu);

struct CpuState {
    uint64_t cr2 = 0; // tests set it before they raise a page fault
    uint64_t cr3 = 0; // without its tag
    unsigned tag = 0;
    uint64_t entry_stack = 0;
    uint64_t cr4 = 0x406a0;
    uint64_t cr4_writes = 0;
    uint64_t dr6 = 0xffff0ff0;
    uint64_t cr3_loads = 0;  // of which each dropped the translations of its tag
    uint64_t tag_loads[8]{}; // the same, for each tag
    uint64_t pages_invalidated = 0;
    uint64_t timer_deadline_tsc = 0; // 0: stopped
    uint32_t timer_ticks = 0;        // what it has been told to count down from
    std::map<uint32_t, uint64_t> msrs;
    std::vector<uint8_t> interrupts; // vectors sent to it and not yet taken
};
CpuState& cpu_state(unsigned cpu);
void post_interrupt(unsigned cpu, uint8_t vector);
/// Those that a CPU has yet to take.
std::vector<uint8_t> collect_interrupts(unsigned cpu);

/// What CPUID says, by leaf and subleaf: eax, ebx, ecx, edx. What is not there is zero.
std::map<std::pair<uint32_t, uint32_t>, std::array<uint32_t, 4>>& cpuid_words();
/// How often the predictions of returns were overwritten.
extern unsigned return_stack_fills;

/// Time-stamp counter: moves only when tests move it, and by `tsc_step` at each reading.
extern std::atomic<uint64_t> tsc;
extern uint64_t tsc_step;

/// What a CPU does that waits for another one in a loop. Null: the driver's turn.
extern void (*spin)();

/// Called when the hypervisor asks which CPU it runs on, as it does for each lock: a moment at
/// which tests let others overtake it. Null: nothing.
extern void (*hesitate)();

/// Called for an interrupt that must be taken at once, since its sender waits: TLB flushes. Runs as
/// the target CPU.
extern void (*urgent_interrupt)(uint8_t vector);
/// Where each CPU has a thread of its own: takes what was sent to the calling one. Null: CPUs take
/// turns, and take interrupts between these.
extern void (*interrupt_window)();

// --- Flows of control. Each fake CPU is a coroutine of its own; the test's own flow drives them.

/// Prepares a CPU's first flow.
void start_cpu(unsigned cpu, void (*function)(void*), void* argument);
/// Lets a CPU go on until it waits for an interrupt or calls leave_cpu().
void run_cpu(unsigned cpu);
/// Back to the driver; returns when run_cpu() is called for this CPU again.
void leave_cpu();
/// True on a fake CPU's flow, false on the driver's.
bool on_cpu_flow();

/// What a guest does once the hypervisor enters it: never returns. For resume_guest_frame().
extern void (*guest_program)(Registers& frame);

// --- The guest's memory as its processor sees it

/// Called for every table that a walk reads: tests check that it may be one.
extern void (*walk_observer)(Mfn table, unsigned level);
/// Called before hypervisor code reads guest memory, or writes `size` bytes from `from` to it.
extern void (*guest_access)(void const* from, size_t size);
/// Where a linear address leads in the current CPU's address space, or null: an access by ring 3.
void* guest_memory_at(uint64_t address, bool write);

// --- Ports

/// Replaces a port's behaviour: reads of it call this; null for the defaults.
extern uint8_t (*read_port)(uint16_t port, uint8_t last_index);
/// The same for reads of two or four bytes, and for writes of any size; null: nobody is there.
extern uint32_t (*read_wide_port)(uint16_t port, unsigned size);
extern void (*write_port)(uint16_t port, unsigned size, uint32_t value);
/// Where a device's registers are; null: each has memory of its own.
extern void* (*device_at)(PhysicalAddress address);
/// What is left of those ticks; null: all of them.
extern uint32_t (*timer_remaining)(uint32_t ticks);
/// What the core wrote to COM1.
std::string& serial_output();

} // namespace hearth::host
