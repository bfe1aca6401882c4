#include "cpu/cpu.h"

#include "arch/apic.h"
#include "base/lock.h"
#include "console/log.h"

namespace hearth {
namespace {
constinit Cpu cpus[max_cpus]{};
constinit std::atomic<uint64_t> online{0};
} // namespace

Cpu& cpu_block(unsigned id) { return cpus[id]; }
CpuMask online_cpus() { return {online.load(std::memory_order_acquire)}; }
void set_online(unsigned id) { online.fetch_or(CpuMask::of(id).bits); }

void send_ipi(CpuMask targets, Ipi ipi) {
    uint8_t const vector = ipi == Ipi::flush_tlb ? arch::vector_flush : arch::vector_reschedule;
    targets.each([&](unsigned cpu) { arch::apic_send(cpus[cpu].apic_id, vector); });
}

namespace {
void note_taken(Rank rank, bool same_rank_allowed) {
    Cpu& cpu = this_cpu();
    uint8_t const wanted = static_cast<uint8_t>(rank);
    uint8_t const held = cpu.held_count ? cpu.held_ranks[cpu.held_count - 1] : 0;
    if (held > wanted || (held == wanted && !same_rank_allowed))
        panic("lock of rank {} taken while holding rank {}", wanted, held);
    if (cpu.held_count == sizeof cpu.held_ranks)
        panic("too many locks held");
    cpu.held_ranks[cpu.held_count++] = wanted;
}
} // namespace

void note_lock_taken(Rank rank) { note_taken(rank, false); }
void note_second_lock_taken(Rank rank) { note_taken(rank, true); }

void note_lock_released(Rank rank) {
    Cpu& cpu = this_cpu();
    for (unsigned i = cpu.held_count; i-- > 0;)
        if (cpu.held_ranks[i] == static_cast<uint8_t>(rank)) {
            for (unsigned j = i; j + 1 < cpu.held_count; ++j)
                cpu.held_ranks[j] = cpu.held_ranks[j + 1];
            --cpu.held_count;
            return;
        }
    panic("lock of rank {} released but not held", static_cast<uint8_t>(rank));
}

} // namespace hearth
