// A vCPU's way onto a CPU and off it: segments, FPU, descriptor tables, address space, and what its
// guest is told.
#include "abi/operations.h"
#include "arch/descriptors.h"
#include "arch/fpu.h"
#include "arch/intrinsics.h"
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "domain/guest_memory.h"
#include "memory/layout.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/bounce.h"
#include "pv/descriptor_tables.h"
#include "pv/way_back.h"
#include "time/clock.h"

namespace hearth::pv {
namespace {

/// Whose registers a CPU still holds; it may be idle meanwhile.
constinit std::atomic<PvVcpu*> loaded[max_cpus]{};
constinit std::atomic<Domain*> space_owner[max_cpus]{};

template <class T>
void remove_everywhere(std::atomic<T*> (&places)[max_cpus], T& what) {
    for (std::atomic<T*>& place : places) {
        T* expected = &what;
        (void)place.compare_exchange_strong(expected, nullptr);
    }
}

void save_segments(PvVcpu& v) {
    save_selectors(v);
    v.fs_base = arch::read_msr(arch::msr::fs_base);
    v.gs_base_active = arch::read_msr(arch::msr::gs_base);
    v.gs_base_other = arch::read_msr(arch::msr::kernel_gs_base);
}

void load_segments(PvVcpu& v) {
    // A selector that does not load any more becomes null. Loading gs spoils the active base, which
    // comes after.
    if (!arch::load_segment_ds(v.ds))
        v.ds = 0;
    if (!arch::load_segment_es(v.es))
        v.es = 0;
    if (!arch::load_segment_fs(v.fs))
        v.fs = 0;
    if (!arch::load_segment_gs(v.gs))
        v.gs = 0;
    arch::write_msr(arch::msr::fs_base, v.fs_base);
    arch::write_msr(arch::msr::gs_base, v.gs_base_active);
    arch::write_msr(arch::msr::kernel_gs_base, v.gs_base_other);
    (void)arch::try_write_msr(arch::msr::tsc_aux, v.tsc_aux); // where there is RDTSCP
    set_speculation_control(v.speculation_control);
    set_guest_control(v.cr4);
}

void load_debug_registers(PvVcpu const& v) {
    for (unsigned i = 0; i < 4; ++i)
        arch::write_debug_address(i, v.debug[i]);
    arch::write_dr7(v.debug[7]);
}

/// Copies what the guest wants to see of its vCPU's times into its memory, which only its kernel's
/// address space maps.
void publish_times(PvVcpu& v) {
    if (v.runstate_area.raw() == 0 && v.time_area.raw() == 0)
        return;
    InKernelSpace const space{v};
    if (v.runstate_area.raw() != 0) {
        RunTimes const times = v.times();
        abi::RunstateInfo info{static_cast<uint32_t>(RunState::running), 0, times.since, {}};
        for (unsigned i = 0; i < 4; ++i)
            info.time[i] = times.spent[i];
        if (v.domain.assists(abi::VmAssist::runstate_update_flag)) {
            uint64_t const flagged = info.state_entry_time | abi::runstate_update;
            (void)copy_to_guest(v.runstate_area + offsetof(abi::RunstateInfo, state_entry_time),
                                &flagged, 8);
            abi::RunstateInfo marked = info;
            marked.state_entry_time = flagged;
            (void)copy_to_guest(v.runstate_area, &marked, sizeof marked);
            (void)copy_to_guest(v.runstate_area + offsetof(abi::RunstateInfo, state_entry_time),
                                &info.state_entry_time, 8);
        } else {
            (void)copy_to_guest(v.runstate_area, &info, sizeof info);
        }
    }
    if (v.time_area.raw() != 0) {
        auto const time = v.info->time; // a guest may have the one lie over the other
        (void)copy_to_guest(v.time_area, &time, sizeof time);
    }
}

/// What brings a vCPU back into the hypervisor's loop before it may run guest code.
void before_guest(PvVcpu& v) {
    for (;;) {
        v.settle(attention::border);
        if (v.must_stay_out()) {
            park_current();
            continue;
        }
        if (reschedule_pending()) {
            reschedule_if_needed();
            continue;
        }
        if (v.time_area_stale) {
            v.time_area_stale = false;
            publish_times(v);
        }
        return;
    }
}

} // namespace

void forget(PvVcpu& v) { remove_everywhere(loaded, v); }
void forget(Domain& domain) { remove_everywhere(space_owner, domain); }

PvVcpu& current() { return static_cast<PvVcpu&>(current_thread()); }

void PvVcpu::switch_in() {
    unsigned const cpu_number = this_cpu_id();
    Cpu& cpu_here = this_cpu();
    uint64_t const top = stack_end() - 16;
    arch::set_entry_stack(cpu_number, top);
    cpu_here.stack_top_word = top;
    Domain* const before = space_owner[cpu_number];
    if (before != &domain) {
        domain.dirty_cpus.fetch_or(CpuMask::of(cpu_number).bits);
        space_owner[cpu_number] = &domain;
        forget_predictions();
        arch::empty_airlock(cpu_number);
    }
    bool const still_here = loaded[cpu_number] == this && loaded_on == static_cast<int>(cpu_number);
    bool const stale = guest_comes();
    // Left loaded while the CPU was idle, unless it had to be given up meanwhile.
    if (!still_here || stale || before != &domain || !active_space_is_loaded(*this))
        load_active_space(*this);
    if (before && before != &domain)
        before->dirty_cpus.fetch_and(~CpuMask::of(cpu_number).bits);
    if (!still_here) {
        load_descriptor_tables(*this);
        load_segments(*this);
        arch::fpu_restore(fpu, xcr0);
        if (debug[7] & 0xff)
            load_debug_registers(*this);
        else
            arch::write_dr7(0x400);
        loaded[cpu_number] = this;
        loaded_on = static_cast<int>(cpu_number);
    } else if (xcr0 != arch::fpu_features()) {
        arch::fpu_set_xcr0(xcr0); // all features were enabled to save them
    }
    arch::set_task_switched(task_switched);
    arch::reload_stack_segment(); // an interrupt of another's may have emptied it
    time_area_stale = true;
    demand(attention::border);
}

void save_selectors(PvVcpu& v) {
    v.ds = arch::read_ds();
    v.es = arch::read_es();
    v.fs = arch::read_fs();
    v.gs = arch::read_gs();
}

void PvVcpu::switch_out() {
    guest_leaves();
    save_segments(*this);
    arch::set_task_switched(false);
    arch::fpu_save(fpu, xcr0);
}

} // namespace hearth::pv

namespace {
using namespace hearth;
using namespace hearth::pv;

[[gnu::noinline]] bool see_to_border(PvVcpu& v, Registers& frame) {
    do { // what comes while it stays out is delivered, too
        before_guest(v);
        deliver_pending(v);
    } while (v.must_stay_out());
    return sysret_is_safe(frame);
}

/// Said here, since processors differ in where they notice: in iretq, in sysretq, or behind it.
/// Handlers' addresses are canonical. Without one, or room for its frame, the domain is crashed:
/// the vCPU stays out, and if somebody resumes it, it still is where it cannot go on.
[[gnu::noinline]] bool go_nowhere(PvVcpu& v, Registers& frame) {
    while (!layout::is_canonical(frame.rip)) {
        deliver_trap(v, Vector::general_protection);
        before_guest(v);
    }
    return see_to_border(v, frame);
}
} // namespace

bool prepare_return_to_guest(Thread& vcpu, Registers& frame) {
    PvVcpu& v = pv_vcpu(vcpu);
    if (!layout::is_canonical(frame.rip)) [[unlikely]]
        return go_nowhere(v, frame);
    if (v.attention() != 0 || v.upcall_due()) [[unlikely]]
        return see_to_border(v, frame);
    return sysret_is_safe_if_canonical(frame);
}
