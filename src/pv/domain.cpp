#include "pv/domain.h"

#include "abi/xen.h"
#include "arch/context.h"
#include "arch/fpu.h"
#include "cpu/features.h"
#include "domain/dirty_log.h"
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
#include "sched/mutex.h"
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
    free_bytes(v.first_info);
    destroy(&v);
}

/// With the state of its FPU behind it, so that both share what is left of a frame.
Result<PvVcpu*> make_vcpu(Domain& domain, unsigned number) {
    constexpr size_t fpu_alignment = 64, fpu_offset = align_up(sizeof(PvVcpu), fpu_alignment);
    constexpr size_t area_with_avx512 = 2688;
    static_assert(fpu_offset + area_with_avx512 <= page_size);
    auto* const place =
        static_cast<std::byte*>(TRY(allocate_bytes(fpu_offset + arch::fpu_area_size())));
    auto* const v = new (place) PvVcpu(domain, number);
    v->fpu = place + fpu_offset;
    arch::fpu_reset_area(v->fpu);
    return v;
}

/// The first thing a vCPU's thread does: into the guest.
void enter_guest(void* vcpu) { resume_guest_frame(&static_cast<PvVcpu*>(vcpu)->registers()); }

Result<> create_vcpu(Domain& domain, unsigned number) {
    PvVcpu* const v = TRY(make_vcpu(domain, number));
    auto const prepared = [&]() -> Result<> {
        if (number >= abi::legacy_max_vcpus)
            v->first_info = static_cast<abi::VcpuInfo*>(TRY(allocate_bytes(sizeof(abi::VcpuInfo))));
        v->info = v->first_info ? v->first_info : &domain.shared_info->vcpu_info[number];
        v->info->upcall_mask = 1;
        update_time_info(*v);
        TRY(create_window(*v));
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
    if (number != 0)
        add_sibling(*v, *domain.vcpus[0]);
    domain.vcpus[number] = v;
    domain.vcpu_count = number + 1;
    return {};
}

} // namespace

Result<Domain*> create_domain(DomainId id, bool hardware, GuestLimits const& limits) {
    // No frame may pass for another domain's, not even for a moment.
    [[clang::no_destroy]] static constinit Mutex one_at_a_time;
    MutexGuard const guard{one_at_a_time};
    if (find_domain(id))
        return Errno::exist;
    Domain* const d = TRY(make<Domain>());
    d->id = id;
    d->hardware = d->privileged = hardware;
    d->absent_entries_matter = absent_entries_matter(hardware);
    if (!hardware) // until the toolstack has built it
        d->pauses.store(d->toolstack_pauses = 1);
    d->settings.max_vcpus = limits.vcpus;
    auto const prepared = [&]() -> Result<> {
        TRY(events_create(*d));
        events_limit_ports(*d, limits.event_ports);
        TRY(grants_create(*d, limits.grant_frames, limits.maptrack_frames, limits.grant_version));
        d->shared_info_frame = TRY(allocate_shared_frame(*d));
        d->shared_info = direct<abi::SharedInfo>(d->shared_info_frame);
        update_wall_clock(*d);
        // Now it can be found, so all that others look at is there.
        return register_domain(*d);
    }();
    if (prepared)
        return d;
    if (d->shared_info)
        free_shared_frame(d->shared_info_frame);
    free_domain(*d);
    return prepared.error();
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

Result<Domain*> make_guest(DomainId id, GuestLimits const& limits) {
    return pv::create_domain(id, false, limits);
}

Result<> create_guest_vcpus(Domain& domain) {
    while (domain.vcpu_count < domain.settings.max_vcpus) {
        TRY(pv::create_vcpu(domain, domain.vcpu_count));
        preempt_point();
    }
    return {};
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
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count}) {
        pv::free_vcpu(pv::pv_vcpu(*vcpu));
        preempt_point();
    }
    events_destroy(domain);
    grants_destroy(domain);
    domain.memory_map.with([](GuestMemoryMap& map) { free_bytes(map.entries); });
    domain.permissions.with([](Permissions* permissions) { destroy(permissions); });
    destroy(&domain);
}

void drop_pin(Domain& domain, Mfn mfn) { (void)pv::unpin(domain, mfn); }

Result<Mfn> hold_writable_page(Domain& domain, uint64_t frame) {
    TRY(pv::get_page_and_type(domain, Mfn{frame}, PageType::writable));
    return Mfn{frame};
}
void release_writable_page(Domain& domain, Mfn mfn) {
    note_written(domain, mfn);
    pv::put_page_and_type(domain, mfn);
}
Result<> hold_writable_use(Domain& domain, Mfn mfn) {
    return pv::get_type(domain, mfn, PageType::writable);
}
void release_writable_use(Domain& domain, Mfn mfn) {
    note_written(domain, mfn);
    pv::put_type(domain, mfn);
}

void set_io_privilege(Vcpu& vcpu, uint8_t iopl) { pv::pv_vcpu(vcpu).iopl = uint64_t{iopl} << 12; }
void set_io_bitmap(Vcpu& vcpu, uint64_t bitmap, uint32_t ports) {
    pv::pv_vcpu(vcpu).io_bitmap = bitmap;
    pv::pv_vcpu(vcpu).io_bitmap_ports = ports;
}

} // namespace hearth
