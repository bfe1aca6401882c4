// The address space that a CPU has loaded, and what its TLB may hold.
#pragma once

#include <atomic>
#include <cstdint>

namespace hearth {

/// What a CPU's translations are tagged with, where the processor can: a guest's kernel and its
/// user processes have a tag each, and one more each for what they see themselves, where that is
/// another space. The numbers are the processor's PCIDs. (Intel SDM vol. 3A, 4.10.1)
enum class SpaceTag : uint8_t { none, guest_kernel, guest_user, kernel_view, user_view };
inline constexpr unsigned space_tags = 5;

/// Whether somebody runs on a CPU who could use its translations of guest memory.
enum class SpaceUse : uint8_t { nobody, nobody_and_stale, somebody };

/// Written by its CPU; others look at `clock` and `cr3`, make `use` stale and move `stale_frame`.
struct alignas(64) LoadedSpace {
    std::atomic<uint64_t> clock{0}; ///< no translation is older than this; see tlb.h
    /// When the newest of the free frames that it may translate to became so.
    std::atomic<uint64_t> stale_frame{0};
    std::atomic<SpaceUse> use{SpaceUse::nobody};
    uint64_t cr3 = 0; ///< without its tag
    SpaceTag tag = SpaceTag::none;
    uint64_t kept[space_tags]{}; ///< whose translations a tag may be loaded with again; 0: nobody's
};

} // namespace hearth
