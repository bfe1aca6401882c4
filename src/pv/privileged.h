// Instructions that a PV guest may write down but the processor does not carry out in ring 3.
#pragma once

#include "pv/vcpu.h"

#include <optional>

namespace hearth::pv {

/// The instruction at rip, which faulted with #GP: true if it was carried out or an exception
/// delivered for it.
bool emulate_privileged(PvVcpu& vcpu);
/// The instruction at rip, which wrote to a write-protected page at `address`: true if that was one
/// of its page tables.
bool emulate_page_table_write(PvVcpu& vcpu, uint64_t address);
/// ud2 "xen" cpuid. (public/arch-x86/xen.h, XEN_EMULATE_PREFIX)
bool emulate_forced_cpuid(PvVcpu& vcpu);
/// The n of an `int n` at rip.
std::optional<uint8_t> software_interrupt_at(PvVcpu const& vcpu);

/// CR4 as the guest finds it: what it has set, and what is always so.
uint64_t control_register_4(PvVcpu const& vcpu);
/// Keeps what is the guest's own, without loading it; the rest has no effect, as on Xen.
void store_control_register_4(PvVcpu& vcpu, uint64_t value);
Result<int64_t> do_fpu_taskswitch(Context& context, uint64_t set);
/// Checks and keeps one of registers 0 to 3, 6 and 7, without loading it. perm.
Result<> store_debug_register(PvVcpu& vcpu, unsigned index, uint64_t value);
Result<int64_t> do_set_debugreg(Context& context, uint32_t index, uint64_t value);
Result<int64_t> do_get_debugreg(Context& context, uint32_t index);

} // namespace hearth::pv
