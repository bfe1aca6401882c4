// The system-wide part of the control interface, as far as it exists here. (public/sysctl.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

inline constexpr uint32_t sysctl_interface_version = 0x15;

enum class SysctlOperation : uint32_t {
    readconsole = 1,
    physinfo = 3,
    sched_id = 4,
    getdomaininfolist = 6,
    debug_keys = 7,
    getcpuinfo = 8,
    availheap = 9,
    get_pmstat = 10,
    cputopoinfo = 16,
    numainfo = 17,
    cpupool_op = 18,
    scheduler_op = 19,
    coverage_op = 20,
    psr_cmt_op = 21,
    pcitopoinfo = 22,
    psr_alloc = 23,
    get_cpu_levelling_caps = 25,
    get_cpu_featureset = 26,
    get_cpu_policy = 29,
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
inline constexpr uint32_t physinfo_grants_v1 = 1u << 8, physinfo_grants_v2 = 1u << 9;
struct SysctlDebugKeys {
    uint64_t keys;
    uint32_t count, padding;
};

struct SysctlSchedulerId {
    uint32_t scheduler;
};
struct SysctlDomainList {
    uint16_t first, padding0;
    uint32_t maximum;
    uint64_t buffer; // pointer to DomctlInfo
    uint32_t count, padding1;
};
struct SysctlCpuInfo {  // of each CPU
    uint64_t idle_time; // ns
};
struct SysctlGetCpuInfo {
    uint32_t maximum, padding0;
    uint64_t buffer;
    uint32_t count, padding1;
};
struct SysctlAvailableHeap {
    uint32_t min_width, max_width; // address bits
    int32_t node;
    uint32_t padding;
    uint64_t bytes;
};
struct CpuTopology {
    uint32_t core, socket, node;
};
struct SysctlCpuTopology {
    uint32_t count, padding;
    uint64_t buffer;
};
struct NodeMemory {
    uint64_t size, free; // bytes
};
struct SysctlNumaInfo {
    uint32_t count, padding;
    uint64_t memory, distances; // pointers
};
struct SysctlPciTopology {
    uint32_t count, padding;
    uint64_t devices, nodes; // pointers
};
inline constexpr uint32_t invalid_node = ~0u;
struct SysctlCpuPoolOp {
    uint32_t operation, pool, scheduler, domain, cpu, domain_count;
    uint64_t cpus; // pointer to a bitmap
    uint32_t cpus_bit_count, padding;
};
inline constexpr uint32_t cpu_pool_create = 1, cpu_pool_destroy = 2, cpu_pool_info = 3,
                          cpu_pool_add_cpu = 4, cpu_pool_remove_cpu = 5, cpu_pool_move_domain = 6,
                          cpu_pool_free_info = 7;
inline constexpr uint32_t cpu_pool_any = ~0u;                                     // pool or CPU
inline constexpr uint32_t rate_limit_minimum = 100, rate_limit_maximum = 500'000; // us
struct SysctlSchedulerOp {
    uint32_t pool, scheduler, command, padding0;
    uint32_t rate_limit, padding1; // us; credit2's
    uint64_t padding2;
};
struct SysctlLevellingCaps {
    uint32_t caps;
};
struct SysctlCpuFeatures {
    uint32_t index, word_count;
    uint64_t features; // pointer to words
};
struct SysctlCpuPolicy {
    uint32_t index, leaf_count, msr_count, reserved;
    uint64_t leaves, msrs; // pointers
};
inline constexpr uint32_t cpu_policy_raw = 0, cpu_policy_host = 1, cpu_policy_pv_max = 2,
                          cpu_policy_pv_default = 4, cpu_policy_last = 5;

} // namespace hearth::abi
