// The hypervisor's own page tables: one set, shared by every address space.
#pragma once

#include "arch/paging_bits.h"
#include "base/result.h"
#include "memory/layout.h"

#include <array>
#include <span>

namespace hearth {

/// Frames for tables and large structures before the frame allocator exists.
class BootAllocator {
public:
    /// 2^order frames, naturally aligned, below 4 GiB; panics when there are none.
    virtual Mfn take(unsigned order) = 0;

protected:
    ~BootAllocator() = default;
};

struct RamRange {
    Mfn start, end;
};

namespace mapping {
inline constexpr uint64_t data =
    pte::present | pte::writable | pte::accessed | pte::dirty | pte::global | pte::no_execute;
inline constexpr uint64_t constant = pte::present | pte::accessed | pte::global | pte::no_execute;
inline constexpr uint64_t code = pte::present | pte::accessed | pte::global;
inline constexpr uint64_t device = data | pte::cache_disable | pte::write_through;
} // namespace mapping

/// Maps the image, all RAM, the frame table and the M2P, and switches to the new tables. `ram` is
/// sorted.
void build_hypervisor_tables(std::span<RamRange const> ram, BootAllocator& boot);

/// Maps one page. nomem when a table cannot be had.
Result<> map_hypervisor_page(uint64_t address, Mfn mfn, uint64_t flags);
/// Removes a mapping; the caller flushes.
void unmap_hypervisor_page(uint64_t address);
/// Where the entry for `address` leads; not present when nowhere.
Pte hypervisor_translation(uint64_t address);
/// The L1 table that maps a page of Hearth's.
Mfn hypervisor_l1_table(uint64_t address);
/// How many bits of a physical address the processor knows.
unsigned physical_address_bits();
/// Maps device registers, uncached, for good. inval: where memory lies, or no address of this
/// processor's.
Result<void*> map_device(PhysicalAddress start, uint64_t size);

/// The 16 top-level entries that every address space shares. They never change.
std::array<Pte, layout::slot_count> const& hypervisor_slots();
/// An address space with nothing but the hypervisor, for idle CPUs.
uint64_t idle_cr3();

} // namespace hearth
