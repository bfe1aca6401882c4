// Grant tables. (public/grant_table.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

enum class GrantOperation : uint32_t {
    map_grant_ref = 0,
    unmap_grant_ref = 1,
    setup_table = 2,
    dump_table = 3,
    transfer = 4,
    copy = 5,
    query_size = 6,
    unmap_and_replace = 7,
    set_version = 8,
    get_status_frames = 9,
    get_version = 10,
    swap_grant_ref = 11,
    cache_flush = 12,
};

/// What becomes of one argument of a list. (GNTST_*)
enum class GrantStatus : int16_t {
    okay = 0,
    general_error = -1,
    bad_domain = -2,
    bad_reference = -3,
    bad_handle = -4,
    bad_virtual_address = -5,
    bad_device_address = -6,
    no_device_space = -7,
    permission_denied = -8,
    bad_page = -9,
    bad_copy_argument = -10,
    address_too_big = -11,
    again = -12,
    no_space = -13,
};

/// An entry's flags. (GTF_*)
namespace grant {
inline constexpr uint16_t invalid = 0;
inline constexpr uint16_t permit_access = 1;
inline constexpr uint16_t accept_transfer = 2;
inline constexpr uint16_t transitive = 3;
inline constexpr uint16_t type_mask = 3;
inline constexpr uint16_t readonly = 1 << 2;
inline constexpr uint16_t reading = 1 << 3; // these two are Hearth's to write
inline constexpr uint16_t writing = 1 << 4;
inline constexpr uint16_t sub_page = 1 << 8;

/// Kept over a change of version: the toolstack fills in the first two.
inline constexpr uint32_t reserved_entries = 8;
} // namespace grant

struct GrantEntryV1 {
    uint16_t flags, domain;
    uint32_t frame;
};
struct GrantEntryV2 {
    uint16_t flags, domain;
    uint16_t offset_or_domain; // with `sub_page`: where the part begins; transitive: whose grant
    uint16_t length;           // with `sub_page`
    uint64_t frame_or_reference;
};

/// How to map. (GNTMAP_*)
namespace grant_map {
inline constexpr uint32_t device = 1 << 0;
inline constexpr uint32_t host = 1 << 1;
inline constexpr uint32_t readonly = 1 << 2;
inline constexpr uint32_t application = 1 << 3;
inline constexpr uint32_t contains_pte = 1 << 4;
/// From here up: bits for the entry's field that is the guest's.
inline constexpr unsigned guest_available_shift = 16;
} // namespace grant_map

struct GrantMap {
    uint64_t host_address;
    uint32_t flags, reference;
    uint16_t domain;
    GrantStatus status; // out, as what follows
    uint32_t handle;
    uint64_t device_address;
};
struct GrantUnmap {
    uint64_t host_address, device_address;
    uint32_t handle;
    GrantStatus status;
    uint16_t padding;
};
struct GrantUnmapAndReplace {
    uint64_t host_address, new_address;
    uint32_t handle;
    GrantStatus status;
    uint16_t padding;
};
struct GrantSetupTable {
    uint16_t domain, padding0;
    uint32_t frame_count;
    GrantStatus status; // out
    uint16_t padding1[3];
    uint64_t frames; // pointer
};
struct GrantTransfer {
    uint64_t mfn;
    uint16_t domain, padding0;
    uint32_t reference;
    GrantStatus status;
    uint16_t padding1[3];
};
struct GrantCopySide {
    uint64_t reference_or_frame; // a reference is its low half
    uint16_t domain, offset;
    uint32_t padding;
};
struct GrantCopy {
    GrantCopySide source, destination;
    uint16_t length, flags;
    GrantStatus status;
    uint16_t padding;
};
inline constexpr uint16_t copy_source_reference = 1 << 0;
inline constexpr uint16_t copy_destination_reference = 1 << 1;
struct GrantQuerySize {
    uint16_t domain, padding0;
    uint32_t frame_count, max_frame_count; // out
    GrantStatus status;
    uint16_t padding1;
};
struct GrantSetVersion {
    uint32_t version;
};
struct GrantGetStatusFrames {
    uint32_t frame_count;
    uint16_t domain;
    GrantStatus status;
    uint64_t frames; // pointer
};
struct GrantGetVersion {
    uint16_t domain, padding;
    uint32_t version;
};
struct GrantSwap {
    uint32_t a, b;
    GrantStatus status;
    uint16_t padding;
};

} // namespace hearth::abi
