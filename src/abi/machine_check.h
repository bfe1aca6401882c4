// mca, of Domain 0. (public/arch-x86/xen-mca.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

inline constexpr uint32_t mca_interface_version = 0x01ecc003;

enum class McaOperation : uint32_t { fetch = 1, notify_domain = 2, cpu_info = 3, inject_msr = 4 };

/// The whole argument: command, version, and a union that is 144 bytes long.
struct McaOp {
    uint32_t command, version;
    uint8_t body[144];
};
struct McaFetch {
    uint32_t flags, padding; // in and out
    uint64_t id;             // out; of a record that is acknowledged: in
    uint64_t record;         // pointer
};
namespace mca {
inline constexpr uint32_t not_urgent = 1, urgent = 2, acknowledge = 4; // in
inline constexpr uint32_t no_record = 2;                               // out
} // namespace mca
struct McaCpuInfo {
    uint32_t count, padding; // in: room; out: as many as there are
    uint64_t cpus;           // pointer to McaCpu, or null
};
struct McaRegister {
    uint64_t index, value;
};
struct McaCpu {
    uint32_t number, chip;
    uint16_t core, thread;
    uint32_t apic_id, cluster;
    uint32_t cores, cores_active, threads;
    int32_t cpuid_level;
    uint32_t family, vendor, model, stepping;
    char vendor_name[16];
    char brand[64];
    uint32_t features[7]; // leaf 1 edx; extended edx; two of others'; leaf 1 ecx; another's;
                          // extended ecx
    uint32_t cache_size, cache_alignment;
    int32_t register_count;
    uint32_t padding;
    McaRegister registers[8];
};
static_assert(sizeof(McaOp) == 152 && sizeof(McaCpu) == 304);

} // namespace hearth::abi
