// The guests' extended state: x87, SSE, AVX and whatever else XCR0 names. Hearth itself never uses
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace hearth::arch {

/// Once per CPU; the first decides what is enabled.
void fpu_initialise_cpu(bool use_xsave);
/// Bytes of a save area, and the bits of XCR0 in use: 0 without XSAVE.
size_t fpu_area_size();
uint64_t fpu_features();
void fpu_reset_area(void* area);
/// x87 and SSE state as FXSAVE lays it out: into a save area, the rest of which becomes initial,
/// and out of it.
void fpu_set_legacy(void* area, uint8_t const (&image)[512]);
void fpu_get_legacy(void const* area, uint8_t (&image)[512]);
/// The whole state as XSAVE lays it out; false, and nothing changes, if its header names components
/// that there are not, or the compact form.
bool fpu_set_area(void* area, std::span<std::byte const> image);
/// `xcr0`: what the guest sees; all that exists is saved nevertheless.
void fpu_save(void* area, uint64_t xcr0);
/// Loads a guest's state and makes `xcr0` what it sees. Malformed state is replaced by the initial
/// one.
void fpu_restore(void* area, uint64_t xcr0);
void fpu_set_xcr0(uint64_t xcr0);
/// CR0.TS: the guest's next use of the FPU faults.
void set_task_switched(bool set);

} // namespace hearth::arch
