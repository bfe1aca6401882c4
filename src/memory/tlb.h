// TLB flushing across CPUs, and the clock that tells which flushes have already happened.
//
// Guests' translations are never global, so every load of CR3 drops them all. The clock ticks when
// a frame loses its type or owner; a CPU that has loaded CR3 since then cannot hold a stale
// translation of it.
#pragma once

#include "base/address.h"
#include "cpu/mask.h"

namespace hearth {

/// Ticks the clock: the stamp to keep with a frame whose translations just became stale.
uint64_t stale_from_now();
/// Every load of a guest's CR3 goes through here.
void load_address_space(uint64_t cr3);
uint64_t loaded_address_space();
/// Whether any CPU has it loaded.
bool is_loaded_anywhere(uint64_t cr3);
/// Before a top-level table goes: an idle CPU may still have it loaded, for the vCPU that it ran
/// last. Such CPUs move to the idle address space.
void evict_address_space(uint64_t cr3);
/// Drops this CPU's translations of guest memory.
void flush_local_tlb();
/// Makes sure that none of `cpus` holds translations that became stale at `stamp`.
void flush_stale_translations(uint64_t stamp, CpuMask cpus);
/// Drops all guest translations, or those of one address, on `cpus`; returns when done.
void flush_tlb(CpuMask cpus);
void flush_tlb_page(CpuMask cpus, uint64_t address);
/// The flush IPI's handler.
void serve_flush_request();

CpuMask all_cpus();

} // namespace hearth
