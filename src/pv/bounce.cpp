#include "pv/bounce.h"

#include "arch/x86/asm.h"
#include "domain/guest_memory.h"
#include "memory/layout.h"
#include "pv/address_space.h"

#include <span>

namespace hearth::pv {
namespace {

constexpr bool has_error_code(Vector v) {
    constexpr uint32_t with =
        1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 | 1u << 21;
    return with >> static_cast<unsigned>(v) & 1;
}

/// What stays of the flags while a handler starts.
constexpr uint64_t cleared_on_entry =
    rflags::tf | rflags::nt | rflags::rf | rflags::vm | rflags::ac;

/// The frame that a handler finds: rcx, r11, `extra`, rip, cs, rflags, rsp, ss. The mask of events
/// stands above cs.
bool push_frame(PvVcpu& vcpu, uint64_t stack, bool was_user, std::span<uint64_t const> extra) {
    Registers const& r = vcpu.registers();
    bool const masked = vcpu.info->upcall_mask & 1;
    uint64_t frame[16];
    unsigned n = 0;
    frame[n++] = r.rcx;
    frame[n++] = r.r11;
    for (uint64_t word : extra)
        frame[n++] = word;
    frame[n++] = r.rip;
    frame[n++] = (was_user ? r.cs : r.cs & ~uint64_t{3}) | uint64_t{masked} << 32;
    uint64_t flags = (r.rflags & ~rflags::interrupts) | (masked ? 0 : rflags::interrupts);
    if (vcpu.domain.assists(abi::VmAssist::architectural_iopl))
        flags = (flags & ~rflags::iopl) | uint64_t{vcpu.iopl} << 12;
    frame[n++] = flags;
    frame[n++] = r.rsp;
    frame[n++] = r.ss;
    uint64_t const bottom = stack - n * 8;
    if (!copy_to_guest(GuestAddress{bottom}, frame, n * 8))
        return false;
    vcpu.registers().rsp = bottom;
    return true;
}

void enter(PvVcpu& vcpu, uint64_t handler, bool masks_events, std::span<uint64_t const> extra) {
    if (handler == 0 || !layout::is_canonical(handler))
        return crash_domain(vcpu.domain, "an event needs a handler that the kernel has not set");
    Registers& r = vcpu.registers();
    bool const was_user = !vcpu.kernel_mode;
    if (was_user)
        toggle_mode(vcpu);
    uint64_t const stack = (was_user ? vcpu.kernel_sp : r.rsp) & ~uint64_t{15};
    if (!push_frame(vcpu, stack, was_user, extra))
        return crash_domain(vcpu.domain, "no room on the kernel's stack for an exception frame");
    if (masks_events)
        vcpu.info->upcall_mask = 1;
    r.rip = handler;
    r.cs = RING3_CS64;
    r.ss = RING3_DS;
    r.rflags &= ~cleared_on_entry;
    // rcx and r11 are on the stack: the quick way out may spoil them.
    r.vector = 0x100;
}

void enter_trap(PvVcpu& vcpu, uint8_t vector, std::span<uint64_t const> extra) {
    TrapHandler const& handler = vcpu.traps[vector];
    enter(vcpu, handler.address, handler.masks_events(), extra);
}

} // namespace

void deliver_trap(PvVcpu& vcpu, Vector vector, uint32_t error_code) {
    uint64_t const word = error_code;
    enter_trap(vcpu, static_cast<uint8_t>(vector),
               {&word, has_error_code(vector) ? size_t{1} : size_t{0}});
}

void deliver_page_fault(PvVcpu& vcpu, uint64_t address, uint32_t error_code) {
    constexpr uint32_t user = 4, reserved = 8;
    vcpu.info->cr2 = address;
    // Both the guest's modes are ring 3 to the processor.
    error_code = (error_code & ~(user | reserved)) | (vcpu.kernel_mode ? 0 : user);
    deliver_trap(vcpu, Vector::page_fault, error_code);
}

void deliver_software_interrupt(PvVcpu& vcpu, uint8_t vector) { enter_trap(vcpu, vector, {}); }

void deliver_callback(PvVcpu& vcpu, Handler const& handler) {
    enter(vcpu, handler.address, handler.masks_events, {});
}

void deliver_failsafe(PvVcpu& vcpu) {
    // A kernel holds them against those that it finds, to know what failed.
    save_selectors(vcpu);
    uint64_t const selectors[] = {vcpu.ds, vcpu.es, vcpu.fs, vcpu.gs};
    enter(vcpu, vcpu.failsafe_callback.address, vcpu.failsafe_callback.masks_events, selectors);
}

void deliver_pending(PvVcpu& vcpu) {
    if (vcpu.nmi_pending && vcpu.nmi_callback.address) {
        vcpu.nmi_pending = false;
        enter(vcpu, vcpu.nmi_callback.address, vcpu.nmi_callback.masks_events, {});
    }
    if (vcpu.upcall_pending() && !vcpu.info->upcall_mask && vcpu.event_callback.address)
        enter(vcpu, vcpu.event_callback.address, true, {});
}

Result<int64_t> do_iret(Context& c) {
    PvVcpu& vcpu = pv_vcpu(c.vcpu);
    Registers& r = vcpu.registers();
    auto const frame = GuestPointer<abi::IretContext>{r.rsp}.read();
    if (!frame) {
        crash_domain(c.domain, "iret with an unreadable frame");
        return frame.error();
    }
    if ((frame->cs & 3) == 3) {
        if (vcpu.user_table == invalid_mfn) {
            crash_domain(c.domain, "iret to user mode without a user address space");
            return Errno::inval;
        }
        toggle_mode(vcpu);
    }
    r.rip = frame->rip;
    r.cs = (frame->cs & 0xffff) | 3;
    r.ss = (frame->ss & 0xffff) | 3;
    r.rsp = frame->rsp;
    if (c.domain.assists(abi::VmAssist::architectural_iopl))
        vcpu.iopl = static_cast<uint8_t>(frame->rflags >> 12 & 3);
    r.rflags = (frame->rflags &
                (rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::tf |
                 rflags::df | rflags::of | rflags::rf | rflags::nt | rflags::ac | rflags::id)) |
               rflags::fixed | rflags::interrupts;
    if (!(frame->flags & abi::iret_in_syscall)) {
        r.vector = 0;
        r.r11 = frame->r11;
        r.rcx = frame->rcx;
    }
    vcpu.info->upcall_mask = !(frame->rflags & rflags::interrupts);
    return static_cast<int64_t>(frame->rax);
}

} // namespace hearth::pv
