// Page tables of a PV guest, as it sees them itself: machine frames, read-only where in use.
#pragma once

#include "abi/xen.h"
#include "library/hypercall.h"

#include <cstddef>
#include <cstdint>

namespace guest {

constexpr uint64_t virt_base = 0xffffffff80000000;
constexpr uint64_t page_size = 4096;

/// Both directions; the second is the hypervisor's table, of all machine frames.
uint64_t mfn_of_pfn(uint64_t pfn);
uint64_t pfn_of_mfn(uint64_t mfn);
inline uint64_t pfn_of(void const* p) {
    return (reinterpret_cast<uint64_t>(p) - virt_base) / page_size;
}
inline uint64_t mfn_of(void const* p) { return mfn_of_pfn(pfn_of(p)); }
bool is_ours(uint64_t mfn);
/// Where a frame that we were started with is mapped: all of them are, in the order of their
/// numbers.
void* page_of_frame(uint64_t mfn);
/// The n-th of some frames of memory that are not ours, or 0.
uint64_t foreign_frame(unsigned n);

constexpr uint64_t present = 1, writable = 2, user = 4, accessed = 0x20, dirty = 0x40, large = 0x80,
                   global = 0x100, no_execute = uint64_t{1} << 63;
constexpr uint64_t entry(uint64_t mfn, uint64_t flags) { return mfn << 12 | flags; }
constexpr uint64_t all_rights = present | writable | user;

int64_t update_va_mapping(void const* address, uint64_t value,
                          uint64_t flags = hearth::abi::uvmf_invlpg);
int64_t mmu_update(uint64_t pointer, uint64_t value);
int64_t mmuext(hearth::abi::MmuExtCommand command, uint64_t argument1, uint64_t argument2 = 0);

/// Changes our own mapping of one of our pages, at the address that it has always had.
int64_t map_read_only(void const* page);
int64_t map_writable(void const* page);
int64_t map_other(void const* where, uint64_t mfn, uint64_t flags);
int64_t unmap(void const* page);

/// A page becomes a table of the level (1 to 4), and is one no more.
int64_t pin(unsigned level, void const* table);
int64_t unpin(void const* table);
/// Read-only and pinned; what must work is expected to.
void make_table(unsigned level, void* table);
/// The reverse, and zeroed.
void end_table(void* table);

/// The machine address of the entry that maps `address` at a level (1 to 4) in the tables that we
/// started on.
uint64_t entry_address(void const* address, unsigned level);
uint64_t read_entry(uint64_t machine_address);
/// Of entry `index` in a table that is one of our pages.
inline uint64_t slot_of(void const* table, unsigned index) {
    return mfn_of(table) * page_size + index * 8;
}
uint64_t root_frame();

/// A page that only the kernel's tables map: at an address of its own, in slot 4 of the root.
/// Brings its tables with it the first time.
void* kernel_only_page();

} // namespace guest
