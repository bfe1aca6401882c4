// Entries of a guest's page tables through which it reaches frames that other domains grant it.
// Owned here, provided by the guest mode's folder.
#pragma once

#include "domain/domain.h"

namespace hearth {

/// An L1 entry of the calling domain's: of the table that translates a linear address just now, or
/// by its own machine address.
struct EntryPlace {
    uint64_t address;
    bool is_entry;
};

struct GrantedFrame {
    Mfn mfn;
    DomainId owner;
    bool writable;
};

/// Maps a frame there; the entry takes its own references and drops those of what was there before.
/// `available` are the three bits of the entry that are the guest's to use. inval: no such entry,
/// or the frame cannot be mapped. May reschedule, as the others.
Result<> map_granted(Vcpu& vcpu, EntryPlace where, GrantedFrame const& frame, unsigned available);
/// Clears the entry. The caller flushes. inval: it maps something else, or with other rights.
Result<> unmap_granted(Vcpu& vcpu, EntryPlace where, GrantedFrame const& frame);
/// Instead of clearing it, moves there what the entry for the linear address `from` says.
Result<> replace_granted(Vcpu& vcpu, EntryPlace where, GrantedFrame const& frame, uint64_t from);

} // namespace hearth
