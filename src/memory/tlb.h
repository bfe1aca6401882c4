// TLB flushing across CPUs, and the clock that tells which flushes have already happened.
//
// Guests' translations are never global, so a load of CR3 drops them all, but for a switch between
// the two modes of one vCPU where the processor can tell their translations apart by tags (PCID).
// Where guests run in spaces of their own (guest_view.h), these have tags as well, and with or
// without tags what a switch keeps is the copies that they are made of.
//
// The clock ticks when a frame loses its type or owner; a CPU that has dropped everything since
// then cannot hold a stale translation of it.
//
// A frame that becomes free may be translated to where its owner has run, or anywhere if others had
// it mapped. Each CPU has a note of the newest such frame: if the CPU has dropped everything since,
// it holds no free frame. Blocks of free frames that are joined have the newest of their stamps.
#pragma once

#include "arch/intrinsics.h"
#include "base/address.h"
#include "cpu/mask.h"
#include "memory/loaded_space.h"
#include "memory/page.h"

namespace hearth {

/// Ticks the clock: the stamp to keep with a frame whose translations just became stale.
uint64_t stale_from_now();
/// From now on; CR4.PCIDE is set everywhere.
void use_space_tags(bool invpcid);
/// Loads CR3 and drops this CPU's translations of guest memory, whatever their tags.
void load_address_space(uint64_t cr3, SpaceTag tag = SpaceTag::none);
/// Loads CR3 for the same vCPU's other mode; what the tag has kept of the same tables stays.
void switch_address_space(uint64_t cr3, SpaceTag tag);
/// The user mode of the vCPU that runs here has other tables from now on, which may lie where the
/// old ones lay.
void forget_user_space();
uint64_t loaded_address_space();
uint64_t address_space_loaded_on(unsigned cpu);
/// Before a top-level table goes: an idle CPU may still have it loaded, for the vCPU that it ran
/// last. Such CPUs move to the idle address space.
void evict_address_space(uint64_t cr3);
/// Drops this CPU's translations of guest memory.
void flush_local_tlb();
/// Whether anything is kept of spaces that are not loaded: with tags, and with views.
extern bool spaces_are_kept;
/// What INVLPG leaves: translations of one address in spaces that are not loaded.
void flush_page_of_other_spaces(uint64_t address);
inline void flush_local_page(uint64_t address) {
    arch::invalidate_page(address);
    if (spaces_are_kept) [[unlikely]]
        flush_page_of_other_spaces(address);
}
/// With views: what to load for the guest whose space this CPU has loaded, now, and for Hearth when
/// the guest is left.
uint64_t cr3_for_guest();
uint64_t cr3_for_hearth();
/// After a guest's fault: whether its space has other tables there than it was seen with. The guest
/// tries again, and sees them.
bool renew_guest_view(uint64_t address);
/// A CPU on which no guest runs may drop its translations of guest memory when one is about to, and
/// is not interrupted for it. But where a table became something else it could meanwhile walk
/// through what a guest writes there. (Intel SDM vol. 3A, 4.10.2.3 and 4.10.4.2)
enum class IdleCpus : bool { later, now };
/// Makes sure that none of `cpus` uses translations that became stale at `stamp`.
void flush_stale_translations(uint64_t stamp, CpuMask cpus, IdleCpus idle);
/// A frame is about to be free: translations of it are stale now, and these CPUs may hold some.
void mark_stale(Page& page, CpuMask holders);
/// Before free frames are somebody's again, of which the newest was marked so.
void flush_stale_frames(uint64_t stamp);
/// Drops all guest translations, or those of one address, on `cpus`; returns when nobody uses them
/// any more. An address of Hearth's own is dropped at once.
void flush_tlb(CpuMask cpus);
void flush_tlb_page(CpuMask cpus, uint64_t address);
/// A vCPU leaves this CPU, or is about to run on it. True: its address space must be loaded afresh.
void guest_leaves();
[[nodiscard]] bool guest_comes();
/// The flush IPI's handler.
void serve_flush_request();

CpuMask all_cpus();

} // namespace hearth
