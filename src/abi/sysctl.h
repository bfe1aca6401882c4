// The system-wide part of the control interface, as far as it exists here. (public/sysctl.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

inline constexpr uint32_t sysctl_interface_version = 0x15;

enum class SysctlOperation : uint32_t {
    readconsole = 1,
    physinfo = 3,
    debug_keys = 7,
};

/// The whole argument: command, version, and a union that is 128 bytes long.
struct Sysctl {
    uint32_t command, version;
    uint8_t body[128];
};
struct SysctlReadConsole {
    uint8_t clear, incremental, padding0, padding1;
    uint32_t index; // in with `incremental`, and out
    uint64_t buffer;
    uint32_t count; // in and out
    uint32_t padding2;
};
struct SysctlPhysinfo {
    uint32_t threads_per_core, cores_per_socket;
    uint32_t cpu_count, max_cpu_id;
    uint32_t node_count, max_node_id;
    uint32_t cpu_khz;
    uint32_t capabilities, arch_capabilities, padding;
    uint64_t total_pages, free_pages, scrub_pages, outstanding_pages, max_mfn;
    uint32_t hardware_capabilities[8];
};
static_assert(sizeof(SysctlPhysinfo) == 112);
inline constexpr uint32_t physinfo_pv = 1u << 1;
struct SysctlDebugKeys {
    uint64_t keys;
    uint32_t count, padding;
};

} // namespace hearth::abi
