// The way out through the airlock; the rest is in arch/x86/airlock.S.
#include "arch/x86/airlock.h"

#include "cpu/cpu.h"
#include "memory/tlb.h"

extern "C" {
/// CR3 for the guest, and the stack to leave by, which every address space has.
struct Opened {
    uint64_t cr3;
    hearth::arch::ExitFrame* stack;
};
/// Makes the running CPU's airlock ready for the guest, and for its next entry.
Opened open_airlock(hearth::Registers const& r);
}

Opened open_airlock(hearth::Registers const& r) {
    hearth::arch::Airlock& airlock = airlocks[hearth::this_cpu_id()];
    airlock.entry.cr3 = hearth::cr3_for_hearth();
    hearth::arch::ExitFrame& out = airlock.exit_frame();
    out = {r.rdx, r.rdi, r.rip, r.cs, r.rflags, r.rsp, r.ss};
    return {hearth::cr3_for_guest(), &out};
}
