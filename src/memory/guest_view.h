// What a CPU has mapped while it runs a guest on a processor with Meltdown: copies of the guest's
// top-level tables in which Hearth's part is next to nothing. Below the top level the tables are
// the guest's own.
//
// A copy is like a part of the TLB. It is made when it is first needed, and is forgotten with
// whatever a flush forgets; so whoever changes a table owes nothing more than he owes to TLBs. What
// a TLB would not have kept, that an entry was not there, shows as a fault, which then makes a new
// copy (renew_guest_view() of tlb.h).
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstdint>

namespace hearth {

/// The tables of one CPU. Of Hearth they show what parts_for_entry() names, the M2P, and the
/// descriptor tables of one vCPU.
class GuestView {
    Mfn roots_[2];
    Mfn windows_, window_directory_; // levels 3 and 2 of the descriptor windows
    uint64_t window_ = 0;

public:
    static constexpr unsigned for_kernel = 0, for_user = 1;

    /// Maps the CPU's airlock, too. nomem.
    Result<> create(unsigned cpu);
    /// Instead of the one that was shown before; there is nothing else in its 2 MiB.
    void show_window(uint64_t window);
    [[nodiscard]] Mfn root(unsigned mode) const { return roots_[mode]; }
    /// The guest's part of the root becomes that of `table`, which is a top-level table.
    void copy(unsigned mode, Mfn table) const;
    /// Whether the copy leads elsewhere at `address`, or with other rights.
    [[nodiscard]] bool differs(unsigned mode, Mfn table, uint64_t address) const;
};

/// From now on CPUs need a view before they run guests. nomem: for the first CPU's.
Result<> isolate_guests();
bool guests_are_isolated();
/// For a CPU that is about to start, if it needs one. nomem.
Result<> prepare_guest_view(unsigned cpu);
GuestView& guest_view(unsigned cpu);

} // namespace hearth
