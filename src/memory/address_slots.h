// Equal pieces of a region of Hearth's address space, handed out and taken back.
#pragma once

#include "base/lock.h"
#include "base/result.h"

namespace hearth {

/// Addresses only; what is mapped there is the owner's business. Those given back are used first,
/// so that the page tables below them are too.
class AddressSlots {
    struct FreeSlot;
    SpinLock lock_{Rank::mapping};
    uint64_t next_;
    uint64_t const stride_;
    FreeSlot* free_ = nullptr;

public:
    constexpr AddressSlots(uint64_t start, uint64_t stride) : next_{start}, stride_{stride} {}
    Result<uint64_t> take();
    /// One that finds no memory for its note is never used again.
    void give_back(uint64_t address);
};

} // namespace hearth
