// A guest's address spaces: walking them, switching them, and finding the entry behind a linear
// address.
#pragma once

#include "arch/paging_bits.h"
#include "pv/page_type.h"
#include "pv/vcpu.h"

#include <optional>

namespace hearth::pv {

/// An L1 entry that cannot stop being one: its table is held.
struct HeldEntry {
    TypeRef table;
    Pte* slot;
};
/// The L1 entry that translates `address` in the vCPU's active address space. fault: no table
/// there.
Result<HeldEntry> find_l1_entry(PvVcpu& vcpu, uint64_t address);
/// What the entry says in the address space under `root`, without holding anything: a hint.
std::optional<Pte> peek_l1_entry(Mfn root, uint64_t address);

/// Makes the frame the vCPU's kernel or user address space, loading it if active. inval.
Result<> set_kernel_table(PvVcpu& vcpu, Mfn table);
Result<> set_user_table(PvVcpu& vcpu, Mfn table);
/// Between the guest's kernel and user mode: address space and GS base.
void toggle_mode(PvVcpu& vcpu);
void load_active_space(PvVcpu& vcpu);

} // namespace hearth::pv
