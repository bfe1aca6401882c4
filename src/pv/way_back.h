// From the hypervisor back into a guest.
#pragma once

#include "arch/x86/asm.h"
#include "memory/layout.h"
#include "pv/bounce.h"
#include "pv/vcpu.h"

namespace hearth::pv {

/// How a vCPU gets back to its guest after a system call, as entry.S knows it.
enum class WayBack : uint8_t {
    border = WAY_BORDER, // there is something to see to first: prepare_return_to_guest()
    sysret = WAY_SYSRET,
    iret = WAY_IRET,
};
struct SyscallResult {
    uint64_t rax;
    WayBack way;
};

constexpr bool flags_allow_sysret(uint64_t flags) {
    return !(flags & (rflags::tf | rflags::rf | rflags::nt | rflags::vm));
}
/// `sysret` loads flat selectors and keeps rcx and r11 for itself: for frames whose guest expects
/// that. A frame that says it came by `syscall` has these selectors; whoever changes them says
/// otherwise. At an address that is not canonical the instruction would fault with the hypervisor's
/// privilege: the caller has looked at that.
inline bool sysret_is_safe_if_canonical(Registers const& r) {
    return r.vector == ENTERED_BY_SYSCALL && flags_allow_sysret(r.rflags);
}
inline bool sysret_is_safe(Registers const& r) {
    return r.vector == ENTERED_BY_SYSCALL && layout::is_canonical(r.rip) &&
           sysret_is_safe_if_canonical(r);
}

inline SyscallResult way_back(PvVcpu const& v, Registers const& r, uint64_t rax) {
    if (v.attention() != 0) [[unlikely]]
        return {rax, WayBack::border};
    if (sysret_is_safe(r))
        return {rax, WayBack::sysret};
    return {rax, layout::is_canonical(r.rip) ? WayBack::iret : WayBack::border};
}
/// Where the frame is as `syscall` would make it if `flat`, but for its address and flags.
[[gnu::always_inline]] inline SyscallResult way_back_of(bool flat, PvVcpu const& v,
                                                        Registers const& r, uint64_t rax) {
    if (v.attention() != 0 || !layout::is_canonical(r.rip)) [[unlikely]]
        return {rax, WayBack::border};
    if (flat && flags_allow_sysret(r.rflags)) [[likely]]
        return {rax, WayBack::sysret};
    return {rax, WayBack::iret};
}
/// A handler's frame has flat selectors, flags that are safe, and an address that was looked at
/// when the guest set it.
inline SyscallResult way_back_to_handler(PvVcpu const& v, uint64_t rax) {
    return {rax, v.attention() == 0 ? WayBack::sysret : WayBack::border};
}
/// By way of the event callback.
[[gnu::noinline]] inline SyscallResult way_back_by_upcall(PvVcpu& v, Registers const& r,
                                                          uint64_t rax) {
    if (v.attention() == 0)
        deliver_event(v);
    return way_back(v, r, rax);
}

/// The iret hypercall: out of a handler, on to where its frame says. A guest whose frame cannot be
/// read, or that has no such mode, has crashed.
SyscallResult do_iret(PvVcpu& vcpu, Registers& registers);

} // namespace hearth::pv

extern "C" {
/// The guest executed `syscall`.
hearth::pv::SyscallResult guest_syscall(hearth::Thread& vcpu, hearth::Registers& frame);
/// Sees to what there is to see to at the border; true if `sysret` is the way back.
bool prepare_return_to_guest(hearth::Thread& vcpu, hearth::Registers& frame);
}
