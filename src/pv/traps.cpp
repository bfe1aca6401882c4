// Exceptions and system calls that come out of a PV guest: which are Hearth's business, and which
// the guest's own.
#include "arch/descriptors.h"
#include "arch/intrinsics.h"
#include "arch/x86/asm.h"
#include "console/log.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "memory/layout.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/bounce.h"
#include "pv/descriptor_tables.h"
#include "pv/hypercall.h"
#include "pv/privileged.h"
#include "pv/way_back.h"

#include <cstring>

extern "C" {
void guest_exception(hearth::Thread& vcpu, hearth::Registers& frame);
void guest_syscall32(hearth::Registers& frame);
void guest_sysenter(hearth::Registers& frame);
void guest_iret_fault(hearth::Registers& fault);
bool resolve_guest_fault(uint64_t address, uint32_t error_code);
[[noreturn]] void resume_guest_frame(hearth::Registers* frame);
}

namespace hearth::pv {
namespace {

/// The processor has looked for a descriptor at a place of the vCPU's window where none is. The
/// guest's LDT lies in its own addresses, as far as it can tell; of a GDT it may be the rest.
[[gnu::noinline]] void deliver_descriptor_fault(PvVcpu& v, uint64_t offset) {
    if (offset >= ldt_offset)
        return deliver_page_fault(v, v.ldt_base + (offset - ldt_offset), 0);
    deliver_trap(v, Vector::general_protection, static_cast<uint32_t>(offset & 0xfff8));
}

[[gnu::noinline]] void handle_page_fault(PvVcpu& v, Registers& r, uint64_t address) {
    if (layout::is_ours(address)) {
        uint64_t const offset = address - v.window;
        // Not the guest itself, who has no access there.
        if (offset < window_size && !(r.error_code & page_fault::user)) {
            if (!map_ldt_page(v, offset))
                deliver_descriptor_fault(v, offset);
            return;
        }
        return deliver_page_fault(v, address, r.error_code & ~page_fault::present);
    }
    SpaceFault fault{.resolved = false, .error_code = r.error_code};
    if (v.domain.shadow.load(std::memory_order_acquire)) [[unlikely]]
        fault = resolve_fault(v, address, r.error_code);
    if (fault.resolved)
        return;
    constexpr uint32_t write_to_present = page_fault::present | page_fault::write;
    if ((fault.error_code & write_to_present) == write_to_present && v.kernel_mode &&
        v.domain.assists(abi::VmAssist::writable_pagetables) &&
        emulate_page_table_write(v, address))
        return;
    if (renew_guest_view(address))
        return;
    deliver_page_fault(v, address, fault.error_code);
}

[[gnu::noinline]] void handle_general_protection(PvVcpu& v, Registers& r) {
    // `int n` in ring 3 where the IDT says ring 0: the guest's own table decides. The error code
    // names the gate.
    if (r.error_code & 2) {
        if (auto const vector = software_interrupt_at(v)) {
            TrapHandler const& handler = v.traps[*vector];
            unsigned const least = v.kernel_mode ? 1 : 3; // arch-x86/xen.h, TI_GET_DPL
            if (handler.address && handler.privilege() >= least) {
                r.rip += 2;
                return deliver_software_interrupt(v, handler);
            }
            return deliver_trap(v, Vector::general_protection, *vector * 8u + 2);
        }
    }
    if (r.error_code == 0 && emulate_privileged(v))
        return;
    deliver_trap(v, Vector::general_protection, r.error_code);
}

/// The instructions whose gates are open to ring 3: the guest's own table says to whom.
[[gnu::noinline]] void handle_gate_for_all(PvVcpu& v, Registers& r, TrapHandler const& handler) {
    bool const open = v.kernel_mode || handler.privilege() == 3;
    if (open && handler.address) [[likely]]
        return deliver_software_interrupt(v, handler);
    auto const vector = static_cast<uint8_t>(r.vector);
    r.rip -= vector >= 32 ? 2 : 1; // back to the instruction, as where the processor refuses it
    deliver_trap(v, Vector::general_protection, vector * 8u + 2);
}

[[gnu::noinline]] void handle_invalid_opcode(PvVcpu& v) {
    if (!emulate_forced_cpuid(v))
        deliver_trap(v, Vector::invalid_opcode);
}

[[gnu::noinline]] void handle_debug(PvVcpu& v) {
    // The processor's own has nothing in it from before, so that no vCPU finds another's.
    v.debug[6] |= arch::read_dr6() & arch::dr6::conditions;
    arch::write_dr6(arch::dr6::none);
    deliver_trap(v, Vector::debug);
}

[[gnu::noinline]] void handle_no_device(PvVcpu& v) {
    arch::clear_task_switched();
    if (!v.task_switched)
        return;
    // The fault itself ends the state that caused it: what the kernel's handler would do first.
    v.task_switched = false;
    deliver_trap(v, Vector::device_not_available);
}

} // namespace
} // namespace hearth::pv

using namespace hearth;
using namespace hearth::pv;

void guest_exception(Thread& vcpu, Registers& r) {
    PvVcpu& v = pv_vcpu(vcpu);
    auto const vector = static_cast<Vector>(r.vector);
    if (vector == Vector::page_fault) [[likely]] // nothing has touched guest memory since
        return handle_page_fault(v, r, arch::read_cr2());
    switch (vector) {
    case Vector::general_protection:
        return handle_general_protection(v, r);
    case Vector::device_not_available:
        return handle_no_device(v);
    case Vector::debug:
        return handle_debug(v);
    case Vector::invalid_opcode:
        return handle_invalid_opcode(v);
    case Vector::breakpoint: // numbers that are known here take less to look up
        return handle_gate_for_all(v, r, v.traps[static_cast<uint8_t>(Vector::breakpoint)]);
    case Vector::overflow:
        return handle_gate_for_all(v, r, v.traps[static_cast<uint8_t>(Vector::overflow)]);
    default:
        if (r.vector >= 32) // int 0x80
            return handle_gate_for_all(v, r, v.traps[static_cast<uint8_t>(r.vector)]);
        return deliver_trap(v, vector, r.error_code);
    }
}

namespace {
/// Without a callback it is as where the processor has no such instruction. Saves the registers of
/// whoever calls it, who need not.
[[gnu::noinline, clang::preserve_most]] void deliver_syscall_without_callback(PvVcpu& v,
                                                                              Registers& r) {
    constexpr uint64_t instruction_size = 2;
    r.rip -= instruction_size;
    deliver_trap(v, Vector::invalid_opcode);
}

[[gnu::noinline]] SyscallResult system_call_of_user(PvVcpu& v, Registers& r) {
    if (!v.syscall_callback.address) [[unlikely]] {
        deliver_syscall_without_callback(v, r);
        return way_back(v, r, r.rax);
    }
    if (!deliver_system_call(v, r)) [[unlikely]]
        return {r.rax, WayBack::border};
    return v.upcall_due() ? way_back_by_upcall(v, r, r.rax) : way_back_to_handler(v, r.rax);
}

[[gnu::noinline]] SyscallResult hypercall_of_kernel(PvVcpu& v, Registers& r) {
    uint64_t const result = hypercall(v, r);
    if (v.upcall_due()) [[unlikely]]
        return way_back_by_upcall(v, r, result);
    // Nobody has changed the frame; who wants to has the vCPU come to its border.
    return way_back_of(true, v, r, result);
}
} // namespace

// Only chooses, so that none pays for another's stack frame.
SyscallResult guest_syscall(Thread& vcpu, Registers& r) {
    PvVcpu& v = pv_vcpu(vcpu);
    if (!v.kernel_mode) [[unlikely]]
        return system_call_of_user(v, r);
    if (r.rax == static_cast<uint64_t>(abi::Hypercall::iret))
        return do_iret(v, r);
    return hypercall_of_kernel(v, r);
}

void guest_syscall32(Registers& r) {
    PvVcpu& v = current();
    if (v.syscall32_callback.address)
        deliver_callback(v, v.syscall32_callback);
    else
        deliver_syscall_without_callback(v, r);
}

void guest_sysenter(Registers& r) {
    PvVcpu& v = current();
    r.rip =
        0; // the instruction saves neither; the ABI's callback knows where its callers come from
    if (v.sysenter_callback.address == 0)
        return deliver_trap(v, Vector::general_protection);
    deliver_callback(v, v.sysenter_callback);
}

bool resolve_guest_fault(uint64_t address, uint32_t error_code) {
    return !layout::is_ours(address) && resolve_fault(current(), address, error_code).resolved;
}

void guest_iret_fault(Registers& fault) {
    PvVcpu& v = current();
    Registers& guest = v.registers();
    uint64_t const address = arch::read_cr2();
    bool const page_fault = fault.vector == static_cast<uint32_t>(Vector::page_fault);
    // SAFETY: the general registers were already the guest's when iretq faulted; they move back up
    // to where rip, cs, rflags, rsp and ss still stand. The two places may overlap.
    memmove(&guest, &fault, offsetof(Registers, error_code));
    guest.vector = 0;
    uint64_t const offset = address - v.window;
    if (!page_fault || offset >= window_size)
        deliver_failsafe(v);
    else if (!map_ldt_page(v, offset))
        deliver_descriptor_fault(v, offset);
    resume_guest_frame(&guest);
}

namespace hearth {
void print_guest_state(LogSource source, Vcpu& vcpu) {
    PvVcpu& v = pv_vcpu(vcpu);
    print_registers(source, v.registers());
    log(source, Level::error, "in the guest's {} mode, kernel stack {:x}, last fault address {:x}",
        v.kernel_mode ? "kernel" : "user", v.kernel_sp, v.info ? v.info->cr2 : 0);
}
} // namespace hearth
