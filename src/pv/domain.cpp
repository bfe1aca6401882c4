#include "pv/domain.h"

#include "abi/xen.h"
#include "arch/context.h"
#include "arch/fpu.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "domain/guest_page.h"
#include "event/event.h"
#include "grant/grant.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/paging.h"
#include "memory/stacks.h"
#include "pv/address_space.h"
#include "pv/descriptor_tables.h"
#include "time/clock.h"

#include <cstring>
#include <span>

extern "C" [[noreturn]] void resume_guest_frame(hearth::Registers* frame);

namespace hearth::pv {
namespace {

constexpr uint64_t ring3_code = 0xe033, ring3_data = 0xe02b;

void free_vcpu(PvVcpu& v) {
    if (v.stack_end() != 0)
        free_stack(v.stack_end() - arch::stack_size);
    free_window(v);
    free_bytes(v.fpu);
    free_bytes(v.first_info);
    destroy(&v);
}

/// The first thing a vCPU's thread does: into the guest.
void enter_guest(void* vcpu) { resume_guest_frame(&static_cast<PvVcpu*>(vcpu)->registers()); }

Result<> create_vcpu(Domain& domain, unsigned number) {
    PvVcpu* const v = TRY(make<PvVcpu>(domain, number));
    auto const prepared = [&]() -> Result<> {
        if (number >= abi::legacy_max_vcpus)
            v->first_info = static_cast<abi::VcpuInfo*>(TRY(allocate_bytes(sizeof(abi::VcpuInfo))));
        v->info = v->first_info ? v->first_info : &domain.shared_info->vcpu_info[number];
        v->info->upcall_mask = 1;
        update_time_info(*v);
        TRY(create_window(*v));
        v->fpu = TRY(allocate_bytes(arch::fpu_area_size()));
        arch::fpu_reset_area(v->fpu);
        v->xcr0 = 1;
        v->debug[6] = 0xffff0ff0;
        v->debug[7] = 0x400;
        thread_prepare(*v, TRY(allocate_stack()), enter_guest, v);
        return {};
    }();
    if (!prepared) {
        free_vcpu(*v);
        return prepared;
    }
    domain.vcpus[number] = v;
    domain.vcpu_count = number + 1;
    return {};
}

Result<> check_context(abi::VcpuGuestContext const& c) {
    for (uint64_t address : {c.registers.rip, c.event_callback, c.failsafe_callback,
                             c.syscall_callback, c.fs_base, c.gs_base_kernel, c.gs_base_user})
        if (!layout::is_canonical(address))
            return Errno::inval;
    if (!(c.flags & abi::context_in_kernel) || c.gdt_entries > gdt_guest_frames * 512 ||
        c.ldt_entries > 8192)
        return Errno::inval;
    return {};
}

void set_registers(PvVcpu& v, abi::UserRegisters const& u) {
    Registers& r = v.registers();
    memcpy(&r, &u, offsetof(Registers, error_code));
    r.error_code = r.vector = 0;
    r.rip = u.rip;
    r.cs = u.cs | 3u;
    r.rflags = (u.rflags & 0x240dd5) | rflags::fixed | rflags::interrupts;
    r.rsp = u.rsp;
    r.ss = u.ss | 3u;
    v.iopl = static_cast<uint8_t>(u.rflags >> 12 & 3);
    v.ds = u.ds;
    v.es = u.es;
    v.fs = u.fs;
    v.gs = u.gs;
}

void set_handlers(PvVcpu& v, abi::VcpuGuestContext const& c) {
    for (abi::TrapInfo const& trap : c.traps)
        if (trap.address && layout::is_canonical(trap.address))
            v.traps[trap.vector] = {trap.address, static_cast<uint16_t>(trap.cs | 3), trap.flags};
    v.event_callback = {c.event_callback, true};
    v.failsafe_callback = {c.failsafe_callback,
                           (c.flags & abi::context_failsafe_disables_events) != 0};
    v.syscall_callback = {c.syscall_callback,
                          (c.flags & abi::context_syscall_disables_events) != 0};
    v.kernel_ss = c.kernel_ss | 3;
    v.kernel_sp = c.kernel_sp;
    v.fs_base = c.fs_base;
    v.gs_base_active = c.gs_base_kernel;
    v.gs_base_other = c.gs_base_user;
    v.task_switched = c.control[0] & 8;
}

Result<> set_context(PvVcpu& v, abi::VcpuGuestContext const& c) {
    TRY(check_context(c));
    Mfn frames[gdt_guest_frames];
    for (unsigned i = 0; i < gdt_guest_frames; ++i)
        frames[i] = Mfn{c.gdt_frames[i]};
    TRY(set_gdt(v, frames, static_cast<unsigned>(c.gdt_entries)));
    Mfn const root = frame_of(PhysicalAddress{c.control[3] & 0x000ffffffffff000});
    if (auto held = get_page_and_type(v.domain, root, PageType::l4); !held) {
        release_descriptor_tables(v);
        return held;
    }
    v.kernel_table = root;
    v.kernel_mode = true;
    v.ldt_base = c.ldt_base;
    v.ldt_entries =
        is_aligned(c.ldt_base, page_size) && layout::guest_range_ok(c.ldt_base, c.ldt_entries * 8)
            ? static_cast<unsigned>(c.ldt_entries)
            : 0;
    set_registers(v, c.registers);
    set_handlers(v, c);
    return {};
}

} // namespace

Result<Domain*> create_domain(DomainId id, bool hardware, DomainLimits const& limits) {
    Domain* const d = TRY(make<Domain>());
    d->id = id;
    d->hardware = d->privileged = hardware;
    d->settings.max_vcpus = limits.vcpus;
    auto const prepared = [&]() -> Result<> {
        TRY(events_create(*d));
        TRY(grants_create(*d, limits.grant_frames));
        d->shared_info_frame = TRY(allocate_shared_frame(*d));
        d->shared_info = direct<abi::SharedInfo>(d->shared_info_frame);
        update_wall_clock(*d);
        // Now it can be found, so all that others look at is there.
        return register_domain(*d);
    }();
    if (prepared)
        return d;
    if (d->shared_info)
        free_frames(d->shared_info_frame, 0);
    free_domain(*d);
    return prepared.error();
}

Result<> create_vcpus(Domain& domain) {
    while (domain.vcpu_count < domain.settings.max_vcpus)
        TRY(create_vcpu(domain, domain.vcpu_count));
    return {};
}

void finish_vcpu(PvVcpu& v) { v.setup.store(VcpuSetup::done); }

void set_start_registers(PvVcpu& v, uint64_t entry, uint64_t stack, uint64_t start_info) {
    Registers& r = v.registers();
    r = {};
    r.rip = entry;
    r.cs = ring3_code;
    r.ss = ring3_data;
    r.rsp = stack;
    r.rsi = start_info;
    r.rflags = rflags::fixed | rflags::interrupts;
}

} // namespace hearth::pv

namespace hearth {

Result<> initialise_vcpu(Vcpu& vcpu, uint64_t guest_context) {
    auto expected = VcpuSetup::none;
    if (!vcpu.setup.compare_exchange_strong(expected, VcpuSetup::under_way))
        return Errno::exist;
    auto const result = [&]() -> Result<> {
        // Too large for a stack.
        auto* const context =
            static_cast<abi::VcpuGuestContext*>(TRY(allocate_bytes(sizeof(abi::VcpuGuestContext))));
        auto copied = copy_from_guest(context, GuestAddress{guest_context}, sizeof *context);
        if (copied)
            copied = pv::set_context(pv::pv_vcpu(vcpu), *context);
        free_bytes(context);
        return copied;
    }();
    vcpu.setup.store(result ? VcpuSetup::done : VcpuSetup::none);
    return result;
}

void release_guest_state(Domain& domain) {
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count}) {
        pv::PvVcpu& v = pv::pv_vcpu(*vcpu);
        pv::forget(v);
        pv::release_descriptor_tables(v);
        for (Mfn* const root : {&v.kernel_table, &v.user_table})
            if (Mfn const table = std::exchange(*root, invalid_mfn); table != invalid_mfn)
                pv::put_page_and_type(domain, table);
        v.info = nullptr;
        if (v.info_page)
            release_writable_page(domain, v.info_page.release());
        preempt_point();
    }
    pv::forget(domain);
}

void free_domain(Domain& domain) {
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count})
        pv::free_vcpu(pv::pv_vcpu(*vcpu));
    events_destroy(domain);
    grants_destroy(domain);
    free_bytes(domain.memory_map);
    destroy(&domain);
}

void drop_pin(Domain& domain, Mfn mfn) { (void)pv::unpin(domain, mfn); }

Result<Mfn> hold_writable_page(Domain& domain, uint64_t frame) {
    TRY(pv::get_page_and_type(domain, Mfn{frame}, PageType::writable));
    return Mfn{frame};
}
void release_writable_page(Domain& domain, Mfn mfn) { pv::put_page_and_type(domain, mfn); }

void set_io_privilege(Vcpu& vcpu, uint8_t iopl) { pv::pv_vcpu(vcpu).iopl = iopl; }
void set_io_bitmap(Vcpu& vcpu, uint64_t bitmap, uint32_t ports) {
    pv::pv_vcpu(vcpu).io_bitmap = bitmap;
    pv::pv_vcpu(vcpu).io_bitmap_ports = ports;
}

} // namespace hearth
