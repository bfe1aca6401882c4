#include "pv/bounce.h"

#include "arch/x86/asm.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "pv/address_space.h"

#include <array>
#include <bit>
#include <tuple>

namespace hearth {

bool nmi_is_due(Vcpu const& vcpu) {
    return vcpu.nmi_pending &&
           static_cast<pv::PvVcpu const&>(vcpu).traps[pv::PvVcpu::nmi_vector].address != 0;
}

} // namespace hearth

namespace hearth::pv {
namespace {

constexpr bool has_error_code(Vector v) {
    constexpr uint32_t with =
        1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 | 1u << 21;
    return with >> static_cast<unsigned>(v) & 1;
}

/// What stays of the flags while a handler starts.
/// A kernel counts on its system calls to find the direction of its strings as it has it.
constexpr uint64_t cleared_on_entry =
    rflags::tf | rflags::df | rflags::nt | rflags::rf | rflags::vm | rflags::ac;

/// Puts the frame that a handler finds on the kernel's stack: rcx, r11, `extra`, rip, cs with the
/// mask of events above it, rflags, rsp, ss. Which mode was left, and how, is known when this is
/// compiled, so that nobody pays for what is another's.
template <bool was_user, bool by_syscall, size_t extra_words>
[[gnu::always_inline]] inline bool push_frame(PvVcpu& vcpu, Registers& r,
                                              std::array<uint64_t, extra_words> const& extra) {
    uint64_t const masked = vcpu.info->upcall_mask & 1;
    uint64_t const left_cs = by_syscall ? RING3_CS64 : was_user ? r.cs : r.cs & ~uint64_t{3};
    uint64_t const cs = left_cs | masked << 32;
    // A guest runs with interrupts on.
    uint64_t flags = r.rflags ^ masked << std::countr_zero(rflags::interrupts);
    if (vcpu.domain.assists(abi::VmAssist::architectural_iopl))
        flags |= vcpu.iopl;
    uint64_t const ss = by_syscall ? RING3_DS : r.ss;
    uint64_t const top = (was_user ? vcpu.kernel_sp : r.rsp) & ~uint64_t{15};
    uint64_t const bottom = top - (7 + extra_words) * sizeof(uint64_t);
    auto const written = std::apply(
        [&](auto const&... words) {
            return write_units(GuestAddress{bottom}, r.rcx, r.r11, words..., r.rip, cs, flags,
                               r.rsp, ss);
        },
        extra);
    if (!written) [[unlikely]]
        return false;
    r.rsp = bottom;
    return true;
}

[[gnu::noinline]] void crash_without_handler(PvVcpu& vcpu) {
    crash_domain(vcpu.domain, "an event needs a handler that the kernel has not set");
}
// Saves the registers of whoever calls it, who need not.
[[gnu::noinline, clang::preserve_most]] void crash_without_stack(PvVcpu& vcpu) {
    crash_domain(vcpu.domain, "no room on the kernel's stack for an exception frame");
}

/// Leaves what the guest was doing on its kernel's stack. False: that cannot take it, and the guest
/// has crashed.
template <bool was_user, bool by_syscall, size_t extra_words>
[[gnu::always_inline]] inline bool leave(PvVcpu& vcpu, Registers& r,
                                         std::array<uint64_t, extra_words> const& extra) {
    if constexpr (was_user)
        enter_mode(vcpu, true);
    if (!push_frame<was_user, by_syscall>(vcpu, r, extra)) [[unlikely]] {
        crash_without_stack(vcpu);
        return false;
    }
    return true;
}
[[gnu::always_inline]] inline void start_at(PvVcpu& vcpu, Registers& r, uint64_t handler,
                                            bool masks_events) {
    if (masks_events)
        vcpu.info->upcall_mask = 1;
    r.rip = handler;
    r.rflags &= ~cleared_on_entry;
}
[[gnu::always_inline]] inline void go_to(PvVcpu& vcpu, Registers& r, uint64_t handler,
                                         bool masks_events) {
    start_at(vcpu, r, handler, masks_events);
    r.cs = RING3_CS64;
    r.ss = RING3_DS;
    // rcx and r11 are on the stack: the quick way out may spoil them.
    r.vector = ENTERED_BY_SYSCALL;
}

template <bool was_user, size_t extra_words>
[[gnu::noinline]] void enter_from(PvVcpu& vcpu, uint64_t handler, bool masks_events,
                                  std::array<uint64_t, extra_words> const& extra) {
    Registers& r = vcpu.registers();
    if (leave<was_user, false>(vcpu, r, extra)) [[likely]]
        go_to(vcpu, r, handler, masks_events);
}

template <size_t extra_words = 0>
[[gnu::always_inline]] inline void enter(PvVcpu& vcpu, uint64_t handler, bool masks_events,
                                         std::array<uint64_t, extra_words> const& extra = {}) {
    if (handler == 0) [[unlikely]]
        return crash_without_handler(vcpu);
    if (vcpu.kernel_mode)
        enter_from<false>(vcpu, handler, masks_events, extra);
    else
        enter_from<true>(vcpu, handler, masks_events, extra);
}

} // namespace

void deliver_trap(PvVcpu& vcpu, Vector vector, uint32_t error_code) {
    TrapHandler const& handler = vcpu.traps[static_cast<uint8_t>(vector)];
    if (has_error_code(vector))
        enter<1>(vcpu, handler.address, handler.masks_events(), {error_code});
    else
        enter(vcpu, handler.address, handler.masks_events());
}

void deliver_page_fault(PvVcpu& vcpu, uint64_t address, uint32_t error_code) {
    constexpr uint32_t user = 4, reserved = 8;
    vcpu.info->cr2 = address;
    // Both the guest's modes are ring 3 to the processor.
    error_code = (error_code & ~(user | reserved)) | (vcpu.kernel_mode ? 0 : user);
    deliver_trap(vcpu, Vector::page_fault, error_code);
}

void deliver_software_interrupt(PvVcpu& vcpu, TrapHandler const& handler) {
    enter(vcpu, handler.address, handler.masks_events());
}

void deliver_callback(PvVcpu& vcpu, Handler const& handler) {
    enter(vcpu, handler.address, handler.masks_events);
}

bool deliver_system_call(PvVcpu& vcpu, Registers& r) {
    if (!leave<true, true, 0>(vcpu, r, {})) [[unlikely]]
        return false;
    // Who came by `syscall` has the selectors of a handler, and the quick way out.
    start_at(vcpu, r, vcpu.syscall_callback.address, vcpu.syscall_callback.masks_events);
    return true;
}

void deliver_failsafe(PvVcpu& vcpu) {
    // A kernel holds them against those that it finds, to know what failed.
    save_selectors(vcpu);
    enter<4>(vcpu, vcpu.failsafe_callback.address, vcpu.failsafe_callback.masks_events,
             {vcpu.ds, vcpu.es, vcpu.fs, vcpu.gs});
}

void deliver_event(PvVcpu& vcpu) {
    if (vcpu.event_callback.address)
        enter(vcpu, vcpu.event_callback.address, true);
}

void deliver_pending(PvVcpu& vcpu) {
    if (nmi_is_due(vcpu)) [[unlikely]] {
        vcpu.nmi_pending = false;
        deliver_trap(vcpu, Vector::nmi);
    }
    if (vcpu.upcall_due())
        deliver_event(vcpu);
}

} // namespace hearth::pv
