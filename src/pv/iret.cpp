// The iret hypercall: the way out of a handler.
#include "arch/x86/asm.h"
#include "domain/guest_memory.h"
#include "pv/address_space.h"
#include "pv/way_back.h"

namespace hearth::pv {
namespace {

[[gnu::noinline]] SyscallResult crash(PvVcpu& vcpu, std::string_view reason) {
    crash_domain(vcpu.domain, reason);
    return {0, WayBack::border};
}

constexpr uint64_t selector(uint64_t wanted) { return (wanted & 0xffff) | 3; }

/// What the frame says of the registers, all but rax. True: as `sysret` loads them.
[[gnu::always_inline]] inline bool take_registers(PvVcpu& vcpu, Registers& r,
                                                  abi::IretContext const& frame) {
    r.rip = frame.rip;
    r.rsp = frame.rsp;
    r.rflags = (frame.rflags &
                (rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::tf |
                 rflags::df | rflags::of | rflags::rf | rflags::nt | rflags::ac | rflags::id)) |
               rflags::fixed | rflags::interrupts;
    if (vcpu.domain.assists(abi::VmAssist::architectural_iopl))
        vcpu.iopl = frame.rflags & rflags::iopl;
    // Who makes this hypercall came by `syscall`, and has the selectors that `sysret` loads.
    bool const in_syscall = frame.flags & abi::iret_in_syscall;
    // As `sysret` leaves them, whichever way is taken: what they hold now is the kernel's.
    r.rcx = r.rip;
    r.r11 = r.rflags;
    if (in_syscall && selector(frame.cs) != RING3_CS32) [[likely]]
        return true;
    r.cs = selector(frame.cs);
    r.vector = 0;
    if (in_syscall)
        return false;
    r.ss = selector(frame.ss);
    r.r11 = frame.r11;
    r.rcx = frame.rcx;
    return false;
}

} // namespace

// Apart, so that its frame is not every hypercall's.
[[gnu::noinline]] SyscallResult do_iret(PvVcpu& vcpu, Registers& r) {
    abi::IretContext frame;
    if (!GuestPointer<abi::IretContext>{r.rsp}.read_to(frame)) [[unlikely]]
        return crash(vcpu, "iret with an unreadable frame");
    bool const flat = take_registers(vcpu, r, frame);
    bool const masks_events = !(frame.rflags & rflags::interrupts);
    vcpu.info->upcall_mask = masks_events;
    if ((frame.cs & 3) == 3) {
        if (vcpu.user_table == invalid_mfn) [[unlikely]]
            return crash(vcpu, "iret to user mode without a user address space");
        enter_mode(vcpu, false);
    }
    if (!masks_events && vcpu.upcall_pending()) [[unlikely]]
        return way_back_by_upcall(vcpu, r, frame.rax);
    return way_back_of(flat, vcpu, r, frame.rax);
}

} // namespace hearth::pv
