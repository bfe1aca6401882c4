#include "cpu/cpu.h"

#include "arch/apic.h"
#include "base/lock.h"
#include "console/log.h"

#include <bit>

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
// What a CPU holds: a bit for each rank, and another one 32 above for a second lock of a rank.
constexpr uint64_t second(RankBit rank) { return uint64_t{rank} << 32; }
constexpr int number(uint64_t bits) { return static_cast<int>(std::bit_width(bits)) - 1; }

[[gnu::cold, gnu::noinline]] void check_order(RankBit rank, uint64_t held, bool same_allowed) {
    uint64_t const ranks = (held | held >> 32) & 0xffffffff;
    if (ranks >= uint64_t{rank} << (same_allowed ? 1 : 0) || (held & second(rank)))
        panic("lock of rank {} taken while holding rank {}", number(rank), number(ranks));
}
[[gnu::cold, gnu::noinline]] void release_second(RankBit rank, uint64_t& held) {
    if (!(held & second(rank)))
        panic("lock of rank {} released but not held", number(rank));
    held &= ~second(rank);
}
} // namespace

void note_lock_taken(RankBit rank) {
    uint64_t& held = this_cpu().held_ranks;
    if (held >= rank) [[unlikely]]
        check_order(rank, held, false);
    held |= rank;
}

void note_second_lock_taken(RankBit rank) {
    uint64_t& held = this_cpu().held_ranks;
    check_order(rank, held, true);
    held |= held & rank ? second(rank) : rank;
}

void note_lock_released(RankBit rank) {
    uint64_t& held = this_cpu().held_ranks;
    uint64_t const rest = held ^ rank;
    if (rest > held) [[unlikely]] // it was not set
        return release_second(rank, held);
    held = rest;
}

void check_no_lock_held() {
    if (check_lock_ranks && this_cpu().held_ranks) [[unlikely]]
        panic("preemption point with a lock held");
}

} // namespace hearth
