// The hypervisor's part of every address space: slots 256 to 271 of the top-level table, which is
// what the ABI takes from a 64-bit PV guest (public/arch-x86/xen-x86_64.h). Nothing below or above
// it is ever ours.
#pragma once

#include "base/address.h"

namespace hearth::layout {

inline constexpr unsigned first_slot = 256;
inline constexpr unsigned slot_count = 16;
inline constexpr uint64_t slot_size = uint64_t{1} << 39;
constexpr uint64_t slot(unsigned n) { return 0xffff800000000000 + (n - first_slot) * slot_size; }

inline constexpr uint64_t start = slot(first_slot);
inline constexpr uint64_t end = start + slot_count * slot_size; // 0xffff880000000000

inline constexpr uint64_t machine_to_physical = slot(256);          // guests read it
inline constexpr uint64_t machine_to_physical_writable = slot(257); // the same frames, for us
inline constexpr uint64_t frame_table = slot(258);
inline constexpr uint64_t stacks = slot(259);
inline constexpr uint64_t descriptor_windows = slot(260);
inline constexpr uint64_t image = slot(261);
inline constexpr uint64_t device_mappings = slot(262);
inline constexpr uint64_t direct_map = slot(264);
inline constexpr uint64_t direct_map_size = 8 * slot_size; // 4 TiB

/// True if a guest may name [address, address + size): canonical and none of it ours.
constexpr bool guest_range_ok(uint64_t address, uint64_t size) {
    uint64_t const last = address + (size ? size - 1 : 0);
    if (last < address)
        return false;
    return last < 0x0000800000000000 || address >= end;
}
/// Enough for what is copied upwards in steps that begin here, and may fault: what follows the
/// addresses below is not canonical.
constexpr bool guest_start_ok(uint64_t address) {
    return address < 0x0000800000000000 || address >= end;
}
constexpr bool is_canonical(uint64_t a) {
    return static_cast<uint64_t>(static_cast<int64_t>(a << 16) >> 16) == a;
}
constexpr bool is_ours(uint64_t a) { return a >= start && a < end; }

} // namespace hearth::layout
