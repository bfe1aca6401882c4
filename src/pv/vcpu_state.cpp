// A vCPU's state as guests and the toolstack give and take it.
#include "abi/domctl.h"
#include "abi/xen.h"
#include "arch/fpu.h"
#include "arch/register_bits.h"
#include "cpuid/pv_msr.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "pv/address_space.h"
#include "pv/callbacks.h"
#include "pv/cpuid_view.h"
#include "pv/descriptor_tables.h"
#include "pv/domain.h"
#include "pv/privileged.h"

#include <cstring>

namespace hearth::pv {
namespace {

constexpr uint64_t settable_flags = 0x240dd5;

Result<> check_context(abi::VcpuGuestContext const& c) {
    for (uint64_t address : {c.registers.rip, c.event_callback, c.failsafe_callback,
                             c.syscall_callback, c.fs_base, c.gs_base_kernel, c.gs_base_user})
        if (!layout::is_canonical(address))
            return Errno::inval;
    if (c.gdt_entries > gdt_guest_frames * 512 || c.ldt_entries > 8192)
        return Errno::inval;
    return {};
}

void set_registers(PvVcpu& v, abi::UserRegisters const& u) {
    Registers& r = v.registers();
    memcpy(&r, &u, offsetof(Registers, error_code));
    r.error_code = r.vector = 0;
    r.rip = u.rip;
    r.cs = u.cs | 3u;
    r.rflags = (u.rflags & settable_flags) | rflags::fixed | rflags::interrupts;
    r.rsp = u.rsp;
    r.ss = u.ss | 3u;
    v.iopl = u.rflags & rflags::iopl;
    v.ds = u.ds;
    v.es = u.es;
    v.fs = u.fs;
    v.gs = u.gs;
}

bool is_set(abi::TrapInfo const& trap) {
    return trap.address && layout::is_canonical(trap.address);
}
Result<> make_room_for_traps(PvVcpu& v, abi::VcpuGuestContext const& c) {
    for (abi::TrapInfo const& trap : c.traps)
        if (is_set(trap))
            TRY(v.traps.make_room(trap.vector));
    return {};
}

/// What there is room for.
void set_handlers(PvVcpu& v, abi::VcpuGuestContext const& c) {
    for (abi::TrapInfo const& trap : c.traps)
        if (is_set(trap))
            (void)v.traps.set(trap.vector,
                              {trap.address, static_cast<uint16_t>(trap.cs | 3), trap.flags});
    v.event_callback = {c.event_callback, true};
    v.failsafe_callback = {c.failsafe_callback,
                           (c.flags & abi::context_failsafe_disables_events) != 0};
    v.syscall_callback = {c.syscall_callback,
                          (c.flags & abi::context_syscall_disables_events) != 0};
    v.kernel_ss = c.kernel_ss | 3;
    v.kernel_sp = c.kernel_sp;
}

/// The bases, by the mode that the vCPU is in: the kernel's are active in the kernel. And what a
/// kernel has of control registers.
void set_bases(PvVcpu& v, abi::VcpuGuestContext const& c) {
    v.fs_base = c.fs_base;
    v.gs_base_active = v.kernel_mode ? c.gs_base_kernel : c.gs_base_user;
    v.gs_base_other = v.kernel_mode ? c.gs_base_user : c.gs_base_kernel;
    v.task_switched = c.control[0] & 8;
    store_control_register_4(v, c.control[4]);
}

Result<> set_debug_registers(PvVcpu& v, abi::VcpuGuestContext const& c) {
    for (unsigned const i : {0u, 1u, 2u, 3u, 6u, 7u})
        TRY(store_debug_register(v, i, c.debug[i]));
    return {};
}

constexpr uint64_t frame_bits_of_cr3 = 0x000ffffffffff000;
Mfn table_of(uint64_t control) { return frame_of(PhysicalAddress{control & frame_bits_of_cr3}); }

/// References for what a first context names: descriptor tables and address spaces. All or none.
Result<> take_tables(PvVcpu& v, abi::VcpuGuestContext const& c) {
    Mfn frames[gdt_guest_frames];
    for (unsigned i = 0; i < gdt_guest_frames; ++i)
        frames[i] = Mfn{c.gdt_frames[i]};
    TRY(set_gdt(v, frames, static_cast<unsigned>(c.gdt_entries)));
    Mfn const root = table_of(c.control[3]), user = table_of(c.control[1]);
    auto held = get_page_and_type(v.domain, root, PageType::l4);
    if (held && c.control[1] != 0) {
        held = get_page_and_type(v.domain, user, PageType::l4);
        if (!held)
            put_page_and_type(v.domain, root);
    }
    if (!held) {
        release_descriptor_tables(v);
        return held;
    }
    v.kernel_table = root;
    v.user_table = c.control[1] != 0 ? user : invalid_mfn;
    v.ldt_base = c.ldt_base;
    v.ldt_entries =
        is_aligned(c.ldt_base, page_size) && layout::guest_range_ok(c.ldt_base, c.ldt_entries * 8)
            ? static_cast<unsigned>(c.ldt_entries)
            : 0;
    return {};
}

Result<> set_context(PvVcpu& v, abi::VcpuGuestContext const& c) {
    bool const first = v.setup.load() != VcpuSetup::done;
    bool const in_kernel = c.flags & abi::context_in_kernel;
    TRY(check_context(c));
    if (!first && (table_of(c.control[3]) != v.kernel_table || in_kernel != v.kernel_mode))
        return Errno::inval;
    if (first && !in_kernel && c.control[1] == 0)
        return Errno::inval;
    TRY(make_room_for_traps(v, c));
    TRY(set_debug_registers(v, c));
    if (first)
        TRY(take_tables(v, c));
    v.kernel_mode = in_kernel;
    set_registers(v, c.registers);
    set_handlers(v, c);
    set_bases(v, c);
    if (c.flags & abi::context_fpu_valid)
        arch::fpu_set_legacy(v.fpu, c.fpu);
    forget(v); // what a CPU may still have loaded is old
    return {};
}

} // namespace

/// Each slot pushes rcx and r11, which `syscall` uses up, loads its number and traps.
/// (public/arch-x86/xen-x86_64.h)
void write_hypercall_stubs(std::byte* page) {
    constexpr unsigned slot_size = 32, slots = page_size / slot_size;
    constexpr unsigned iret = static_cast<unsigned>(abi::Hypercall::iret);
    memset(page, 0xcc, page_size);
    for (unsigned n = 0; n < slots; ++n) {
        auto const number = static_cast<uint8_t>(n);
        uint8_t const ordinary[] = {0x51, 0x41, 0x53, 0xb8, number, 0,    0,
                                    0,    0x0f, 0x05, 0x41, 0x5b,   0x59, 0xc3};
        uint8_t const returning[] = {0x51, 0x41, 0x53, 0x50, 0xb8, number, 0, 0, 0, 0x0f, 0x05};
        if (n == iret)
            memcpy(page + n * slot_size, returning, sizeof returning);
        else
            memcpy(page + n * slot_size, ordinary, sizeof ordinary);
    }
}

namespace {
bool xcr0_is_sound(uint64_t xcr0) {
    constexpr uint64_t x87 = 1, sse = 2, avx = 4, avx512 = 0xe0;
    return (xcr0 & x87) && !(xcr0 & ~arch::fpu_features()) && (!(xcr0 & avx) || (xcr0 & sse)) &&
           (!(xcr0 & avx512) || ((xcr0 & avx512) == avx512 && (xcr0 & avx)));
}
} // namespace

} // namespace hearth::pv

namespace hearth {

using namespace pv;

Result<> load_vcpu_context(Vcpu& vcpu, abi::VcpuGuestContext const& context) {
    PvVcpu& v = pv_vcpu(vcpu);
    TRY(set_context(v, context));
    // Assists are the domain's; the toolstack gives them with the first vCPU.
    v.domain.vm_assist.fetch_or(context.vm_assist & known_vm_assists);
    v.setup.store(VcpuSetup::done);
    v.online.store(context.flags & abi::context_online);
    return {};
}

Result<> initialise_vcpu(Vcpu& vcpu, uint64_t guest_context) {
    auto expected = VcpuSetup::none;
    if (!vcpu.setup.compare_exchange_strong(expected, VcpuSetup::under_way))
        return Errno::exist;
    auto const result = [&]() -> Result<> {
        // Too large for a stack.
        auto* const context =
            static_cast<abi::VcpuGuestContext*>(TRY(allocate_bytes(sizeof(abi::VcpuGuestContext))));
        auto done = copy_from_guest(context, GuestAddress{guest_context}, sizeof *context);
        if (done)
            done = context->flags & abi::context_in_kernel
                       ? set_context(pv_vcpu(vcpu), *context)
                       : Result<>{Errno::inval}; // a new vCPU starts in the kernel
        free_bytes(context);
        return done;
    }();
    vcpu.setup.store(result ? VcpuSetup::done : VcpuSetup::none);
    return result;
}

void store_vcpu_context(Vcpu& vcpu, abi::VcpuGuestContext& c) {
    PvVcpu& v = pv_vcpu(vcpu);
    Registers const& r = v.registers();
    arch::fpu_get_legacy(v.fpu, c.fpu);
    c.flags = abi::context_fpu_valid | (v.kernel_mode ? abi::context_in_kernel : 0) |
              (v.failsafe_callback.masks_events ? abi::context_failsafe_disables_events : 0) |
              (v.syscall_callback.masks_events ? abi::context_syscall_disables_events : 0) |
              (v.online.load() ? abi::context_online : 0);
    memcpy(&c.registers, &r, offsetof(Registers, error_code));
    c.registers.rip = r.rip;
    c.registers.cs = static_cast<uint16_t>(r.cs);
    c.registers.rflags = r.rflags | v.iopl;
    c.registers.rsp = r.rsp;
    c.registers.ss = static_cast<uint16_t>(r.ss);
    c.registers.ds = v.ds;
    c.registers.es = v.es;
    c.registers.fs = v.fs;
    c.registers.gs = v.gs;
    for (unsigned i = 0; i < 256; ++i) {
        auto const vector = static_cast<uint8_t>(i);
        TrapHandler const& handler = v.traps[vector];
        c.traps[i] = {vector, handler.flags, handler.cs, 0, handler.address};
    }
    c.ldt_base = v.ldt_base;
    c.ldt_entries = v.ldt_entries;
    for (unsigned i = 0; i < gdt_guest_frames && v.gdt[i] != invalid_mfn; ++i)
        c.gdt_frames[i] = v.gdt[i].raw();
    c.gdt_entries = v.gdt_entries;
    c.kernel_ss = v.kernel_ss;
    c.kernel_sp = v.kernel_sp;
    c.control[0] = v.task_switched ? 8 : 0;
    c.control[1] = v.user_table == invalid_mfn ? 0 : address_of(v.user_table).raw();
    c.control[3] = v.kernel_table == invalid_mfn ? 0 : address_of(v.kernel_table).raw();
    c.control[4] = control_register_4(v);
    memcpy(c.debug, v.debug, sizeof c.debug);
    c.event_callback = v.event_callback.address;
    c.failsafe_callback = v.failsafe_callback.address;
    c.syscall_callback = v.syscall_callback.address;
    c.vm_assist = v.domain.vm_assist.load();
    c.fs_base = v.fs_base;
    c.gs_base_kernel = v.kernel_mode ? v.gs_base_active : v.gs_base_other;
    c.gs_base_user = v.kernel_mode ? v.gs_base_other : v.gs_base_active;
}

Result<> load_extended_context(Vcpu& vcpu, abi::DomctlExtendedContext const& c) {
    PvVcpu& v = pv_vcpu(vcpu);
    if (!layout::is_canonical(c.syscall32_callback) || !layout::is_canonical(c.sysenter_callback))
        return Errno::inval;
    v.syscall32_callback = {c.syscall32_callback, c.syscall32_disables_events != 0};
    v.sysenter_callback = {c.sysenter_callback, c.sysenter_disables_events != 0};
    return {};
}

void store_extended_context(Vcpu& vcpu, abi::DomctlExtendedContext& c) {
    PvVcpu const& v = pv_vcpu(vcpu);
    c.syscall32_callback = v.syscall32_callback.address;
    c.sysenter_callback = v.sysenter_callback.address;
    c.syscall32_disables_events = v.syscall32_callback.masks_events;
    c.sysenter_disables_events = v.sysenter_callback.masks_events;
    c.syscall32_callback_cs = c.sysenter_callback_cs = 0;
    memset(c.padding, 0, sizeof c.padding);
    memset(c.machine_check, 0, sizeof c.machine_check);
}

ExtendedState extended_state(Vcpu& vcpu) {
    PvVcpu const& v = pv_vcpu(vcpu);
    return {{static_cast<std::byte const*>(v.fpu), arch::fpu_area_size()},
            arch::fpu_features(),
            v.xcr0};
}

Result<> load_extended_state(Vcpu& vcpu, uint64_t xcr0, std::span<std::byte const> area) {
    PvVcpu& v = pv_vcpu(vcpu);
    if (!xcr0_is_sound(xcr0))
        return Errno::inval;
    if (!arch::fpu_set_area(v.fpu, area))
        return Errno::inval;
    v.xcr0 = xcr0;
    forget(v);
    return {};
}

unsigned store_msrs(Vcpu const& vcpu, std::span<abi::VcpuMsr, most_vcpu_msrs> out) {
    auto const& v = static_cast<PvVcpu const&>(vcpu);
    unsigned count = 0;
    if (v.speculation_control != 0)
        out[count++] = {arch::msr::spec_ctrl, 0, v.speculation_control};
    if (v.tsc_aux != 0)
        out[count++] = {arch::msr::tsc_aux, 0, v.tsc_aux};
    return count;
}

Result<> load_msr(Vcpu& vcpu, abi::VcpuMsr const& msr) {
    PvVcpu& v = pv_vcpu(vcpu);
    if (pv_write_msr(msr.index, msr.value, machine_cpuid(), policy_of(v)).kind !=
        MsrWrite::Kind::vcpu)
        return Errno::inval;
    switch (msr.index) {
    case arch::msr::spec_ctrl:
        v.speculation_control = msr.value;
        break;
    case arch::msr::tsc_aux:
        v.tsc_aux = static_cast<uint32_t>(msr.value);
        break;
    default: // what the context names, or what is no state
        return Errno::inval;
    }
    forget(v);
    return {};
}

Result<> write_hypercall_page(Domain& domain, uint64_t frame) {
    TypeRef const page = TRY(TypeRef::get(domain, Mfn{frame}, PageType::writable));
    write_hypercall_stubs(direct<std::byte>(page.mfn()));
    note_written(domain, page.mfn());
    return {};
}

FrameUse frame_use(Mfn mfn) {
    TypeWord const word = page_at(mfn).type_word();
    bool const table = word.count() != 0 && is_page_table(word.type());
    return {static_cast<uint8_t>(table ? level_of(word.type()) : 0),
            table && word.has(TypeWord::pinned)};
}

} // namespace hearth
