// What must hold of the whole machine between hypercalls, computed anew from what there is.
#pragma once

#include "unit/frame_accounting.h"
#include "unit/inventory.h"

#include <string>
#include <vector>

namespace hearth::test {

class Invariants {
    FrameAccounting accounting_;
    TlbModel tlb_;

    static std::string check_free_frames();
    static std::string check_events(std::vector<Domain*> const& domains);
    static std::string check_grants(std::vector<Domain*> const& domains);
    static std::string check_locks();
    [[nodiscard]] std::string check_reach() const;

public:
    /// A frame of a domain's that Hearth writes to for as long as the machine runs.
    Mfn held_for_good = invalid_mfn;
    /// Who may map any domain's memory.
    DomainId maps_all = domid_invalid;

    Invariants() { tlb_.shadows = true; }
    /// With nobody in the middle of a hypercall. Empty if all is well, else what is wrong first.
    std::string check();
    /// Whether a guest's memory has what is not its own.
    static std::string look_for_secrets();
    static std::vector<Domain*> all_domains();
};

/// Whether four bytes in a row are those by which secrets are known.
bool has_secret(void const* bytes, size_t size);

} // namespace hearth::test
