// The guest ABI's common part: hypercall numbers, shared memory layouts. (public/xen.h,
// public/arch-x86/xen.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

enum class Hypercall : uint32_t {
    set_trap_table = 0,
    mmu_update = 1,
    set_gdt = 2,
    stack_switch = 3,
    set_callbacks = 4,
    fpu_taskswitch = 5,
    sched_op_compat = 6,
    platform_op = 7,
    set_debugreg = 8,
    get_debugreg = 9,
    update_descriptor = 10,
    memory_op = 12,
    multicall = 13,
    update_va_mapping = 14,
    set_timer_op = 15,
    event_channel_op_compat = 16,
    xen_version = 17,
    console_io = 18,
    physdev_op_compat = 19,
    grant_table_op = 20,
    vm_assist = 21,
    update_va_mapping_otherdomain = 22,
    iret = 23,
    vcpu_op = 24,
    set_segment_base = 25,
    mmuext_op = 26,
    xsm_op = 27,
    nmi_op = 28,
    sched_op = 29,
    callback_op = 30,
    xenoprof_op = 31,
    event_channel_op = 32,
    physdev_op = 33,
    hvm_op = 34,
    sysctl = 35,
    domctl = 36,
    kexec_op = 37,
    tmem_op = 38,
    argo_op = 39,
    xenpmu_op = 40,
    dm_op = 41,
    hypfs_op = 42,
    mca = 48,
};
inline constexpr unsigned hypercall_count = 64;

struct TrapInfo {
    uint8_t vector;
    uint8_t flags; // 0-3: privilege level; 4: clear event enable
    uint16_t cs;
    uint32_t padding;
    uint64_t address;
};

struct MmuUpdate {
    uint64_t pointer; // low two bits: the command
    uint64_t value;
};
inline constexpr uint64_t mmu_normal_pt_update = 0;
inline constexpr uint64_t mmu_machphys_update = 1;
inline constexpr uint64_t mmu_pt_update_preserve_ad = 2;
inline constexpr uint64_t mmu_pt_update_no_translate = 3;

enum class MmuExtCommand : uint32_t {
    pin_l1_table = 0,
    pin_l2_table = 1,
    pin_l3_table = 2,
    pin_l4_table = 3,
    unpin_table = 4,
    new_baseptr = 5,
    tlb_flush_local = 6,
    invlpg_local = 7,
    tlb_flush_multi = 8,
    invlpg_multi = 9,
    tlb_flush_all = 10,
    invlpg_all = 11,
    flush_cache = 12,
    set_ldt = 13,
    new_user_baseptr = 15,
    clear_page = 16,
    copy_page = 17,
    flush_cache_global = 18,
    mark_super = 19,
    unmark_super = 20,
};
struct MmuExtOp {
    uint32_t command;
    uint32_t padding0;
    uint64_t argument1; // frame or linear address
    uint64_t argument2; // entries (low 32), source frame, or pointer to a vCPU bitmap
};

inline constexpr uint64_t uvmf_flush_mask = 3;
inline constexpr uint64_t uvmf_none = 0;
inline constexpr uint64_t uvmf_tlb_flush = 1;
inline constexpr uint64_t uvmf_invlpg = 2;
inline constexpr uint64_t uvmf_all = 4;

struct MulticallEntry {
    uint64_t op;
    int64_t result;
    uint64_t arguments[6];
};

/// A flag in this word of done_out: the batch was preempted. Hearth never sets it: its hypercalls
/// do not restart.
inline constexpr uint32_t preempted = 0x80000000;

enum class ConsoleOperation : uint32_t { write = 0, read = 1 };

enum class VmAssist : uint32_t {
    four_gb_segments = 0,
    four_gb_segments_notify = 1,
    writable_pagetables = 2,
    pae_extended_cr3 = 3,
    architectural_iopl = 4,
    runstate_update_flag = 5,
    m2p_strict = 32,
};

// Virtual interrupts.
inline constexpr uint32_t virq_timer = 0;
inline constexpr uint32_t virq_debug = 1;
inline constexpr uint32_t virq_console = 2;
inline constexpr uint32_t virq_dom_exc = 3;
inline constexpr uint32_t virq_debugger = 6;
inline constexpr uint32_t virq_xenoprof = 7;
inline constexpr uint32_t virq_con_ring = 8;
inline constexpr uint32_t virq_pcpu_state = 9;
inline constexpr uint32_t virq_mem_event = 10;
inline constexpr uint32_t virq_enomem = 12;
inline constexpr uint32_t virq_xenpmu = 13;
inline constexpr uint32_t virq_count = 24;

struct VcpuTimeInfo {
    uint32_t version; // odd while it is being written
    uint32_t padding0;
    uint64_t tsc_timestamp;
    uint64_t system_time; // ns since boot at tsc_timestamp
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t padding1[2];
};
inline constexpr uint8_t time_tsc_stable = 1;

struct VcpuInfo {
    uint8_t upcall_pending;
    uint8_t upcall_mask;
    uint8_t padding1[6];
    uint64_t pending_select;
    uint64_t cr2;
    uint64_t padding2;
    VcpuTimeInfo time;
};
static_assert(sizeof(VcpuInfo) == 64);

inline constexpr unsigned legacy_max_vcpus = 32;

struct SharedInfo {
    VcpuInfo vcpu_info[legacy_max_vcpus];
    uint64_t event_pending[64];
    uint64_t event_mask[64];
    uint32_t wallclock_version;
    uint32_t wallclock_seconds; // low 32 bits
    uint32_t wallclock_nanoseconds;
    uint32_t wallclock_seconds_high;
    // arch_shared_info
    uint64_t max_pfn;
    uint64_t p2m_frame_list_list;
    uint64_t nmi_reason;
    uint64_t p2m_cr3;
    uint64_t p2m_vaddr;
    uint64_t p2m_generation;
};

struct ConsoleStart {
    uint64_t mfn;
    uint32_t event_channel;
    uint32_t padding;
};
struct StartInfo {
    char magic[32];
    uint64_t page_count;
    uint64_t shared_info; // machine address
    uint32_t flags;
    uint32_t padding0;
    uint64_t store_mfn;
    uint32_t store_event_channel;
    uint32_t padding1;
    ConsoleStart console; // Domain 0: the offset and size of console information
    uint64_t page_table_base;
    uint64_t page_table_frames;
    uint64_t p2m_list;
    uint64_t module_start; // linear address, or a frame number where flags say so
    uint64_t module_size;
    int8_t command_line[1024];
    uint64_t first_p2m_pfn;
    uint64_t p2m_frames;
};
inline constexpr uint32_t start_privileged = 1;
inline constexpr uint32_t start_initial_domain = 2;
inline constexpr uint32_t start_multiboot_module = 4;
inline constexpr uint32_t start_module_is_pfn = 8;
inline constexpr uint32_t start_p2m_mapped = 16;

/// What the kernel of Domain 0 learns of the text console. (dom0_vga_console_info)
struct VgaConsoleInfo {
    uint8_t video_type;
    uint8_t padding0[3];
    uint16_t font_height, cursor_x, cursor_y, rows, columns;
    uint8_t padding1[26];
};
inline constexpr uint8_t video_type_vga_text = 3;

struct UserRegisters {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint32_t error_code, entry_vector;
    uint64_t rip;
    uint16_t cs, padding0;
    uint8_t saved_upcall_mask, padding1[3];
    uint64_t rflags, rsp;
    uint16_t ss, padding2[3];
    uint16_t es, padding3[3];
    uint16_t ds, padding4[3];
    uint16_t fs, padding5[3];
    uint16_t gs, padding6[3];
};
static_assert(sizeof(UserRegisters) == 200);

struct VcpuGuestContext {
    uint8_t fpu[512];
    uint64_t flags;
    UserRegisters registers;
    TrapInfo traps[256];
    uint64_t ldt_base, ldt_entries;
    uint64_t gdt_frames[16], gdt_entries;
    uint64_t kernel_ss, kernel_sp;
    uint64_t control[8];
    uint64_t debug[8];
    uint64_t event_callback, failsafe_callback, syscall_callback;
    uint64_t vm_assist;
    uint64_t fs_base, gs_base_kernel, gs_base_user;
};
static_assert(sizeof(VcpuGuestContext) == 0x1430);
inline constexpr uint64_t context_fpu_valid = 1 << 0;
inline constexpr uint64_t context_in_kernel = 1 << 2;
inline constexpr uint64_t context_failsafe_disables_events = 1 << 3;
inline constexpr uint64_t context_syscall_disables_events = 1 << 4;
inline constexpr uint64_t context_online = 1 << 5;

/// Pushed by a guest before the iret hypercall. (struct iret_context)
struct IretContext {
    uint64_t rax, r11, rcx, flags, rip, cs, rflags, rsp, ss;
};
inline constexpr uint64_t iret_in_syscall = 256;

enum class SegmentBase : uint32_t { fs = 0, gs_user = 1, gs_kernel = 2, gs_user_selector = 3 };

} // namespace hearth::abi
