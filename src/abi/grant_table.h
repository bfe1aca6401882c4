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

/// Status words within arguments.
inline constexpr int16_t grant_okay = 0;
inline constexpr int16_t grant_general_error = -1;
inline constexpr int16_t grant_bad_domain = -2;
inline constexpr int16_t grant_permission_denied = -8;

struct GrantSetupTable {
    uint16_t domain, padding0;
    uint32_t frame_count;
    int16_t status; // out
    uint16_t padding1[3];
    uint64_t frames; // pointer
};
struct GrantQuerySize {
    uint16_t domain, padding0;
    uint32_t frame_count, max_frame_count; // out
    int16_t status;
    uint16_t padding1;
};
struct GrantSetVersion {
    uint32_t version;
};
struct GrantGetVersion {
    uint16_t domain, padding;
    uint32_t version;
};

} // namespace hearth::abi
