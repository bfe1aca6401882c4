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

[[gnu::always_inline]] inline SyscallResult resume_at(PvVcpu& vcpu, Registers& r,
                                                      abi::IretContext const& frame) {
    r.rip = frame.rip;
    r.cs = (frame.cs & 0xffff) | 3;
    r.ss = (frame.ss & 0xffff) | 3;
    r.rsp = frame.rsp;
    if (vcpu.domain.assists(abi::VmAssist::architectural_iopl))
        vcpu.iopl = static_cast<uint8_t>(frame.rflags >> 12 & 3);
    r.rflags = (frame.rflags &
                (rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::tf |
                 rflags::df | rflags::of | rflags::rf | rflags::nt | rflags::ac | rflags::id)) |
               rflags::fixed | rflags::interrupts;
    vcpu.info->upcall_mask = !(frame.rflags & rflags::interrupts);
    bool const in_syscall = frame.flags & abi::iret_in_syscall;
    if (!in_syscall) {
        r.r11 = frame.r11;
        r.rcx = frame.rcx;
    }
    if (!in_syscall || r.cs != RING3_CS64 || r.ss != RING3_DS)
        r.vector = 0;
    if (vcpu.upcall_due()) [[unlikely]]
        return way_back_by_upcall(vcpu, r, frame.rax);
    return in_syscall ? way_back(vcpu, r, frame.rax)
                      : way_back_by(WayBack::iret, vcpu, r, frame.rax);
}

[[gnu::always_inline]] inline SyscallResult resume_user(PvVcpu& vcpu, Registers& r,
                                                        abi::IretContext const& frame) {
    if (vcpu.user_table == invalid_mfn) [[unlikely]]
        return crash(vcpu, "iret to user mode without a user address space");
    enter_mode(vcpu, false);
    return resume_at(vcpu, r, frame);
}

} // namespace

// Apart, so that its frame is not every hypercall's.
[[gnu::noinline]] SyscallResult do_iret(PvVcpu& vcpu, Registers& r) {
    abi::IretContext frame;
    if (!GuestPointer<abi::IretContext>{r.rsp}.read_to(frame)) [[unlikely]]
        return crash(vcpu, "iret with an unreadable frame");
    if ((frame.cs & 3) == 3)
        return resume_user(vcpu, r, frame);
    return resume_at(vcpu, r, frame);
}

} // namespace hearth::pv
