// The guest's GDT and LDT: its frames, seen by the processor through a window of the hypervisor's.
#pragma once

#include "pv/vcpu.h"

namespace hearth::pv {

/// Reserves the vCPU's window and puts Hearth's own segments at selector 0xe000. nomem.
Result<> create_window(PvVcpu& vcpu);
/// Maps up to 14 frames as the GDT; each must pass as a descriptor table. inval.
Result<> set_gdt(PvVcpu& vcpu, Mfn const* frames, unsigned entries);
/// `base` page aligned, at most 8192 entries; frames are checked and mapped when first used. inval.
Result<> set_ldt(PvVcpu& vcpu, uint64_t base, uint32_t entries);
void release_descriptor_tables(PvVcpu& vcpu);
/// The vCPU's last: its window may be another's then.
void free_window(PvVcpu& vcpu);
/// A fault inside the window: true if it was an LDT page not yet mapped, and now is.
bool map_ldt_page(PvVcpu& vcpu, uint64_t window_offset);
/// On the vCPU's way to a CPU.
void load_descriptor_tables(PvVcpu const& vcpu);

inline constexpr uint64_t window_size = 32 * page_size;
inline constexpr uint64_t ldt_offset = 16 * page_size;

Result<int64_t> do_set_gdt(Context& context, uint64_t frames, uint32_t entries);
Result<int64_t> do_update_descriptor(Context& context, uint64_t machine_address,
                                     uint64_t descriptor);

} // namespace hearth::pv
