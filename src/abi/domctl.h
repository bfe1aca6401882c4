// The control interface for domains. (public/domctl.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

inline constexpr uint32_t domctl_interface_version = 0x15;

enum class DomctlOperation : uint32_t {
    createdomain = 1,
    destroydomain = 2,
    pausedomain = 3,
    unpausedomain = 4,
    getdomaininfo = 5,
    setvcpuaffinity = 9,
    shadow_op = 10,
    max_mem = 11,
    setvcpucontext = 12,
    getvcpucontext = 13,
    getvcpuinfo = 14,
    max_vcpus = 15,
    scheduler_op = 16,
    setdomainhandle = 17,
    setdebugging = 18,
    irq_permission = 19,
    iomem_permission = 20,
    ioport_permission = 21,
    hypercall_init = 22,
    settimeoffset = 24,
    getvcpuaffinity = 25,
    resumedomain = 27,
    sendtrigger = 28,
    subscribe = 29,
    gethvmcontext = 33,
    sethvmcontext = 34,
    set_address_size = 35,
    get_address_size = 36,
    assign_device = 37,
    bind_pt_irq = 38,
    memory_mapping = 39,
    ioport_mapping = 40,
    set_ext_vcpucontext = 42,
    get_ext_vcpucontext = 43,
    test_assign_device = 45,
    set_target = 46,
    deassign_device = 47,
    unbind_pt_irq = 48,
    get_device_group = 50,
    debug_op = 54,
    gethvmcontext_partial = 55,
    gettscinfo = 59,
    settscinfo = 60,
    getpageframeinfo3 = 61,
    setvcpuextstate = 62,
    getvcpuextstate = 63,
    set_virq_handler = 66,
    set_broken_page_p2m = 67,
    setnodeaffinity = 68,
    getnodeaffinity = 69,
    cacheflush = 71,
    get_vcpu_msrs = 72,
    set_vcpu_msrs = 73,
    setvnumainfo = 74,
    psr_cmt_op = 75,
    monitor_op = 77,
    psr_alloc = 78,
    soft_reset = 79,
    get_cpu_policy = 82,
    set_cpu_policy = 83,
    vmtrace_op = 84,
    get_paging_mempool_size = 85,
    set_paging_mempool_size = 86,
};

/// The whole argument: command, version, domain, and a union that is 128 bytes long.
struct Domctl {
    uint32_t command, version;
    uint16_t domain, padding[3];
    uint8_t body[128];
};

/// A set of CPUs or nodes in the caller's memory.
struct ControlBitmap {
    uint64_t bits;
    uint32_t bit_count, padding;
};

struct ArchDomainConfig {
    uint32_t emulation_flags, other_flags;
};
struct DomctlCreate {
    uint32_t security_id;
    uint8_t handle[16];
    uint32_t flags, iommu_options;
    uint32_t max_vcpus, max_event_port;
    int32_t max_grant_frames, max_maptrack_frames; // below 0: the hypervisor's own
    uint32_t grant_options;                        // low 4 bits: highest version
    uint32_t trace_size, cpu_pool;
    ArchDomainConfig arch;
};
inline constexpr uint32_t create_hvm = 1u << 0;
inline constexpr uint32_t create_xenstore = 1u << 4;
inline constexpr uint32_t create_iommu = 1u << 5;
inline constexpr uint32_t create_known_flags = 0xff;

struct DomctlInfo {
    uint16_t domain, padding0;
    uint32_t flags;
    uint64_t total_pages, max_pages, outstanding_pages, shared_pages, paged_pages;
    uint64_t shared_info_frame;
    uint64_t cpu_time; // ns
    uint32_t online_vcpus, max_vcpu_id;
    uint32_t security_id;
    uint8_t handle[16];
    uint32_t cpu_pool;
    uint8_t address_bits, padding1[7];
    ArchDomainConfig arch;
};
namespace info {
inline constexpr uint32_t dying = 1u << 0;
inline constexpr uint32_t shut_down = 1u << 2;
inline constexpr uint32_t paused = 1u << 3;
inline constexpr uint32_t blocked = 1u << 4;
inline constexpr uint32_t running = 1u << 5;
inline constexpr uint32_t debugged = 1u << 6;
inline constexpr uint32_t xenstore = 1u << 7;
inline constexpr unsigned shutdown_reason_shift = 16;
inline constexpr uint32_t no_vcpus = ~0u; // max_vcpu_id
} // namespace info

struct DomctlMaxMemory {
    uint64_t kibibytes;
};
struct DomctlVcpuContext {
    uint32_t vcpu, padding;
    uint64_t context; // pointer to VcpuGuestContext
};
struct DomctlVcpuInfo {
    uint32_t vcpu;
    uint8_t online, blocked, running, padding0;
    uint64_t cpu_time; // ns
    uint32_t cpu, padding1;
};
struct DomctlVcpuAffinity {
    uint32_t vcpu, flags;
    ControlBitmap hard, soft;
};
inline constexpr uint32_t affinity_hard = 1, affinity_soft = 2, affinity_force = 4;
struct DomctlNodeAffinity {
    ControlBitmap nodes;
};
struct DomctlMaxVcpus {
    uint32_t maximum;
};
struct DomctlSchedulerOp {
    uint32_t scheduler, command;
    uint16_t weight, cap; // credit2's
    uint32_t padding0;
    uint64_t padding1;
};
inline constexpr uint32_t scheduler_credit2 = 6;
inline constexpr uint32_t scheduler_put = 0, scheduler_get = 1;
struct DomctlHandle {
    uint8_t handle[16];
};
struct DomctlSetDebugging {
    uint8_t enable;
};
struct DomctlIrqPermission {
    uint32_t pirq;
    uint8_t allow, padding[3];
};
struct DomctlIomemPermission {
    uint64_t first_frame, frame_count;
    uint8_t allow, padding[7];
};
struct DomctlIoportPermission {
    uint32_t first_port, port_count;
    uint8_t allow, padding[3];
};
struct DomctlSetTarget {
    uint16_t target;
};
struct DomctlHypercallInit {
    uint64_t frame;
};
struct DomctlTimeOffset {
    int64_t seconds;
};
struct DomctlAddressSize {
    uint32_t bits;
};
struct DomctlSendTrigger {
    uint32_t trigger, vcpu;
};
inline constexpr uint32_t trigger_nmi = 0, trigger_power = 3, trigger_sleep = 4;
struct DomctlSubscribe {
    uint32_t port;
};
struct DomctlExtendedContext {
    uint32_t vcpu, size; // size: of this struct
    uint64_t syscall32_callback, sysenter_callback;
    uint16_t syscall32_callback_cs, sysenter_callback_cs;
    uint8_t syscall32_disables_events, sysenter_disables_events, padding[2];
    uint64_t machine_check[4];
};
struct DomctlTscInfo {
    uint32_t mode, khz, incarnation, padding;
    uint64_t elapsed; // ns
};
struct DomctlPageInfo {
    uint64_t count;
    uint64_t frames; // pointer; each is replaced by its type
};
namespace page_info {
inline constexpr uint64_t none = 0;
inline constexpr uint64_t table_shift = 28; // L1 to L4 as 1 to 4
inline constexpr uint64_t pinned = 1u << 31;
inline constexpr uint64_t invalid = 0xfu << 28;
} // namespace page_info
struct DomctlExtendedState {
    uint32_t vcpu, padding;
    uint64_t features, size;
    uint64_t buffer;
};
struct DomctlSetVirqHandler {
    uint32_t virq;
};
struct DomctlVcpuMsrs {
    uint32_t vcpu, count;
    uint64_t msrs; // pointer to VcpuMsr
};
struct VcpuMsr {
    uint32_t index, reserved;
    uint64_t value;
};
struct CpuidLeaf {
    uint32_t leaf, subleaf;
    uint32_t a, b, c, d;
};
inline constexpr uint32_t cpuid_no_subleaf = 0xffffffff;
struct MsrEntry {
    uint32_t index, flags;
    uint64_t value;
};
struct DomctlCpuPolicy {
    uint32_t leaf_count, msr_count;
    uint64_t leaves, msrs; // pointers
    uint32_t bad_leaf, bad_subleaf, bad_msr, padding;
};
struct DomctlShadowOp {
    uint32_t operation, mode, megabytes, padding;
    uint64_t dirty_bitmap, page_count;
    uint32_t faults, dirty;
};
inline constexpr uint32_t shadow_off = 0, shadow_clean = 11, shadow_peek = 12,
                          shadow_enable_log_dirty = 2, shadow_enable = 32;
inline constexpr uint32_t shadow_mode_log_dirty = 1u << 2;

} // namespace hearth::abi
