// The guests' extended state: x87, SSE, AVX and whatever else XCR0 names. Hearth itself never uses
// it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hearth::arch {

/// Once per CPU; the first decides what is enabled.
void fpu_initialise_cpu();
/// Bytes of a save area, and the bits of XCR0 in use.
size_t fpu_area_size();
uint64_t fpu_features();
bool fpu_has_xsave();
void fpu_reset_area(void* area);
/// `xcr0`: what the guest sees; all that exists is saved nevertheless.
void fpu_save(void* area, uint64_t xcr0);
/// Loads a guest's state and makes `xcr0` what it sees. Malformed state is replaced by the initial
/// one.
void fpu_restore(void* area, uint64_t xcr0);
void fpu_set_xcr0(uint64_t xcr0);
/// CR0.TS: the guest's next use of the FPU faults.
void set_task_switched(bool set);

} // namespace hearth::arch
