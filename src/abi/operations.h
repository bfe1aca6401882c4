// Sub-operations and arguments of sched_op, vcpu_op, callback_op, nmi_op, xen_version and
// memory_op. (public/sched.h, vcpu.h, callback.h, nmi.h, version.h, memory.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

enum class SchedOperation : uint32_t {
    yield = 0,
    block = 1,
    shutdown = 2,
    poll = 3,
    remote_shutdown = 4,
    shutdown_code = 5,
    watchdog = 6,
    pin_override = 7,
};
struct SchedShutdown {
    uint32_t reason;
};
struct SchedPoll {
    uint64_t ports; // pointer
    uint32_t port_count, padding;
    uint64_t timeout; // absolute, ns; 0: none
};
struct SchedRemoteShutdown {
    uint16_t domain, padding;
    uint32_t reason;
};
struct SchedWatchdog {
    uint32_t id, timeout;
};
struct SchedPinOverride {
    int32_t cpu;
};
enum class ShutdownReason : uint32_t {
    poweroff = 0,
    reboot = 1,
    suspend = 2,
    crash = 3,
    watchdog = 4,
    soft_reset = 5
};

enum class VcpuOperation : uint32_t {
    initialise = 0,
    up = 1,
    down = 2,
    is_up = 3,
    get_runstate_info = 4,
    register_runstate_memory_area = 5,
    set_periodic_timer = 6,
    stop_periodic_timer = 7,
    set_singleshot_timer = 8,
    stop_singleshot_timer = 9,
    register_vcpu_info = 10,
    send_nmi = 11,
    get_physid = 12,
    register_vcpu_time_memory_area = 13,
};
struct RunstateInfo {
    uint32_t state, padding;
    uint64_t state_entry_time;
    uint64_t time[4];
};
inline constexpr uint64_t runstate_update = uint64_t{1} << 63;
struct MemoryArea { // a linear address in the guest
    uint64_t address;
};
struct SetPeriodicTimer {
    uint64_t period;
};
struct SetSingleshotTimer {
    uint64_t timeout;
    uint32_t flags, padding;
};
inline constexpr uint32_t timer_must_be_future = 1;
struct RegisterVcpuInfo {
    uint64_t mfn;
    uint32_t offset, reserved;
};
struct VcpuPhysicalId {
    uint64_t id;
};

enum class CallbackOperation : uint32_t { register_callback = 0, unregister_callback = 1 };
enum class CallbackType : uint16_t {
    event = 0,
    failsafe = 1,
    syscall = 2,
    sysenter_deprecated = 3,
    nmi = 4,
    sysenter = 5,
    syscall32 = 7
};
struct CallbackRegister {
    uint16_t type, flags;
    uint32_t padding;
    uint64_t address;
};
inline constexpr uint16_t callback_masks_events = 1;
struct CallbackUnregister {
    uint16_t type, unused;
};

enum class NmiOperation : uint32_t { register_callback = 0, unregister_callback = 1 };
struct NmiCallback {
    uint64_t handler, padding;
};

enum class VersionOperation : uint32_t {
    version = 0,
    extra_version = 1,
    compile_info = 2,
    capabilities = 3,
    changeset = 4,
    platform_parameters = 5,
    get_features = 6,
    page_size = 7,
    guest_handle = 8,
    command_line = 9,
    build_id = 10,
};
struct CompileInfo {
    char compiler[64], compiled_by[16], domain[32], date[32];
};
struct FeatureInfo {
    uint32_t index, map; // map: out
};
namespace feature {
inline constexpr uint32_t writable_page_tables = 0;
inline constexpr uint32_t mmu_pt_update_preserve_ad = 5;
inline constexpr uint32_t highmem_assist = 6;
inline constexpr uint32_t gnttab_map_avail_bits = 7;
inline constexpr uint32_t pae_pgdir_above_4gb = 4;
inline constexpr uint32_t dom0 = 11;
inline constexpr uint32_t direct_mapped = 17;
} // namespace feature

enum class MemoryOperation : uint32_t {
    increase_reservation = 0,
    decrease_reservation = 1,
    maximum_ram_page = 2,
    current_reservation = 3,
    maximum_reservation = 4,
    machphys_mfn_list = 5,
    populate_physmap = 6,
    add_to_physmap = 7,
    memory_map = 9,
    machine_memory_map = 10,
    exchange = 11,
    machphys_mapping = 12,
    set_memory_map = 13,
    maximum_gpfn = 14,
    remove_from_physmap = 15,
    add_to_physmap_batch = 23,
    claim_pages = 24,
    get_vnumainfo = 26,
    reserved_device_memory_map = 27,
    acquire_resource = 28,
};
struct MemoryReservation {
    uint64_t extents; // pointer to frame numbers
    uint64_t extent_count;
    uint32_t extent_order, flags; // flags: low 8 bits, address bits the frames must fit
    uint16_t domain, padding[3];
};
struct MemoryExchange {
    MemoryReservation in, out;
    uint64_t exchanged;
};
struct MemoryMapRequest {
    uint32_t entries, padding;
    uint64_t buffer; // pointer to e820 entries
};
#pragma pack(push, 4)
struct E820Entry {
    uint64_t address, size;
    uint32_t type;
};
#pragma pack(pop)
static_assert(sizeof(E820Entry) == 20);
struct ForeignMemoryMap {
    uint16_t domain, padding[3];
    MemoryMapRequest map;
};
struct MachphysMapping {
    uint64_t start, end, max_mfn;
};
struct MachphysMfnList {
    uint32_t max_extents, padding0;
    uint64_t extents;
    uint32_t extent_count, padding1;
};
struct DomainIdArgument {
    uint16_t domain;
};
struct AcquireResource {
    uint16_t domain, type;
    uint32_t id, frame_count, padding;
    uint64_t first_frame;
    uint64_t frames; // pointer to frame numbers
};
inline constexpr uint16_t resource_grant_table = 1;
inline constexpr uint32_t grant_table_shared = 0;
inline constexpr uint32_t grant_table_status = 1;

} // namespace hearth::abi
