// Equal pieces of a region of Hearth's address space, handed out and taken back.
#pragma once

#include "base/lock.h"
#include "base/result.h"

namespace hearth {

/// Addresses only; what is mapped there is the owner's business. Those given back are used first,
/// so that the page tables below them are too.
class AddressSlots {
    struct Note;
    SpinLock<Rank::mapping> lock_;
    uint64_t next_;
    uint64_t const stride_;
    Note* free_ = nullptr;
    Note* unused_ = nullptr; ///< one for each slot that is in use, to be given back with

    static Note* pop(Note*& list);
    static void push(Note*& list, Note& note);

public:
    constexpr AddressSlots(uint64_t start, uint64_t stride) : next_{start}, stride_{stride} {}
    /// nomem.
    Result<uint64_t> take();
    void give_back(uint64_t address);
};

} // namespace hearth
