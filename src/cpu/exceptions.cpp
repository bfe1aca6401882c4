// Exceptions that Hearth's own code causes: expected ones are fixed up, all others are bugs.
#include "arch/descriptors.h"
#include "arch/intrinsics.h"
#include "arch/registers.h"
#include "arch/x86/asm.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"

#include <cstddef>

extern "C" {
struct ExceptionFixup {
    uint64_t faulting, resume;
};
extern ExceptionFixup const exception_table_start[], exception_table_end[];
extern char guest_iret[], airlock_iret[];
extern char const sysenter_entry[], sysenter_flags_off[];
void guest_iret_fault(hearth::Registers& fault);
bool resolve_guest_fault(uint64_t address, uint32_t error_code);
void hypervisor_exception(hearth::Registers& frame);
void paranoid_exception(hearth::Registers& frame);
hearth::Registers* move_to_entry_stack(hearth::Registers const& frame);
}

namespace hearth {

static_assert(sizeof(Registers) == 168 && offsetof(Registers, rip) == 128 &&
                  offsetof(Registers, cs) == 136,
              "entry.S knows these");

static_assert(max_cpus == MAX_CPUS, "entry.S has a stub for each CPU");

namespace {

uint64_t find_fixup(uint64_t rip) {
    for (auto const* fixup = exception_table_start; fixup < exception_table_end; ++fixup)
        if (fixup->faulting == rip)
            return fixup->resume;
    return 0;
}

/// `sysenter` leaves the guest's TF on until the entry has saved and cleared it.
bool is_about_to_save_flags(uint64_t rip) {
    return rip >= reinterpret_cast<uint64_t>(sysenter_entry) &&
           rip < reinterpret_cast<uint64_t>(sysenter_flags_off);
}

} // namespace

} // namespace hearth

using namespace hearth;

void hypervisor_exception(Registers& frame) {
    if (frame.vector == static_cast<uint32_t>(Vector::debug)) {
        // A guest's watchpoint on memory that Hearth reads or writes for it, or its single step
        // into an entry point. The guest set it, the guest has lost nothing; a copy that it
        // interrupted goes on, and the next exception of a guest's does not tell of it.
        arch::write_dr6(arch::dr6::none);
        if (!is_about_to_save_flags(frame.rip))
            frame.rflags &= ~rflags::tf;
        return;
    }
    if (frame.rip == reinterpret_cast<uint64_t>(guest_iret) ||
        frame.rip == reinterpret_cast<uint64_t>(airlock_iret))
        return guest_iret_fault(frame);
    if (uint64_t const resume = find_fixup(frame.rip)) {
        // Guest memory that the guest itself would reach: the same instruction again.
        if (frame.vector == static_cast<uint32_t>(Vector::page_fault) &&
            resolve_guest_fault(arch::read_cr2(), frame.error_code))
            return;
        frame.rip = resume;
        return;
    }
    crash_report(frame, "Hearth caused an exception");
}

void paranoid_exception(Registers& frame) {
    if (frame.vector == static_cast<uint32_t>(Vector::nmi))
        return handle_nmi(frame);
    crash_report(frame, frame.vector == static_cast<uint32_t>(Vector::double_fault)
                            ? "double fault"
                            : "machine check");
}

Registers* move_to_entry_stack(Registers const& frame) {
    auto* const moved =
        reinterpret_cast<Registers*>(arch::entry_stack(this_cpu_id()) - sizeof(Registers));
    *moved = frame;
    return moved;
}
