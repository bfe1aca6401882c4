// What entries of page tables and descriptor tables may say, and the references that they stand
// for.
#pragma once

#include "arch/paging_bits.h"
#include "domain/domain.h"
#include "memory/page.h"

namespace hearth::pv {

/// Where memory ends, devices' and the firmware's too, once, at start-up: what an absent entry
/// names beyond that is none.
void note_end_of_memory(PhysicalAddress end);

/// Checks every entry of a frame that is to become a table and takes the references that its
/// entries stand for; fills in the hypervisor's slots of an L4. On failure nothing is kept. May
/// reschedule.
Result<> take_contents(Domain& domain, Mfn mfn, PageType type);
/// Drops those references again. May reschedule.
void release_contents(Domain& domain, Mfn mfn, PageType type);

/// An entry that passed, as it must be written: with the bits that ring 3 needs.
/// References for it are held by the caller from here on. `frames_of` owns the frames that leaves
/// may map: the domain itself, which may map devices too if it owns them; another domain, DOMID_IO
/// (devices only) or DOMID_XEN, if whoever asks may say so. inval, or perm for memory that is not
/// the domain's to map.
Result<Pte> take_entry(Domain& domain, Pte entry, unsigned level, DomainId frames_of);
void release_entry(Domain& domain, Pte entry, unsigned level);

enum class EntryUpdate : uint8_t { replace, preserve_accessed_dirty };

/// Writes one entry of a table that is in use, `level` and validity being guaranteed by a type
/// reference of the caller's. `frames_of` as above; an entry that keeps its frame and gets no more
/// rights needs nobody's leave. inval: a slot that is the hypervisor's.
Result<> update_entry(Domain& domain, Pte* slot, unsigned level, Pte value, EntryUpdate how,
                      DomainId frames_of);
/// The same for level 1.
Result<> update_leaf(Domain& domain, Pte* slot, Pte value, EntryUpdate how, DomainId frames_of);
/// As the hardware's compare-exchange would: on a mismatch `expected` is what was found, and
/// nothing changes.
Result<bool> compare_exchange_entry(Domain& domain, Pte* slot, unsigned level, Pte& expected,
                                    Pte value);
/// Stores a value whatever is there, which it returns, in one step for whoever else looks.
Result<Pte> exchange_entry(Domain& domain, Pte* slot, unsigned level, Pte value);

/// Clears an L1 entry if it maps the frame with just these rights. inval.
Result<> clear_mapping(Domain& domain, Pte* slot, Mfn mfn, bool writable);
/// On that condition moves another entry to its place, references and all.
Result<> move_mapping(Domain& domain, Pte* from, Pte* to, Mfn mfn, bool writable);

/// True if an L4 slot belongs to the hypervisor.
constexpr bool is_reserved_slot(unsigned index) { return index >= 256 && index < 272; }

/// Checks a segment descriptor and raises its privilege level number to ring 3's. inval: a system
/// descriptor.
Result<uint64_t> check_descriptor(uint64_t descriptor);

} // namespace hearth::pv
