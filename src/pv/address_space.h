// A guest's address spaces: walking them, switching them, and finding the entry behind a linear
// address.
#pragma once

#include "arch/paging_bits.h"
#include "pv/page_type.h"
#include "pv/vcpu.h"

#include <optional>
#include <utility>

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

/// Between the guest's kernel and user mode: address space and GS base.
void toggle_mode(PvVcpu& vcpu);
void load_active_space(PvVcpu& vcpu);
/// The same for a vCPU whose other mode's space is loaded: translations may stay.
void switch_active_space(PvVcpu& vcpu);
/// Certainly; with shadow page tables nothing is certain.
bool active_space_is_loaded(PvVcpu const& vcpu);

/// The kernel's address space for as long as this lives: what a kernel gave the address of may be
/// mapped nowhere else.
class InKernelSpace {
    PvVcpu& vcpu_;
    bool from_user_;

public:
    explicit InKernelSpace(PvVcpu& vcpu)
        : vcpu_{vcpu}, from_user_{!std::exchange(vcpu.kernel_mode, true)} {
        if (from_user_)
            switch_active_space(vcpu_);
    }
    ~InKernelSpace() {
        vcpu_.kernel_mode = !from_user_;
        if (from_user_)
            switch_active_space(vcpu_);
    }
    InKernelSpace(InKernelSpace const&) = delete;
    InKernelSpace& operator=(InKernelSpace const&) = delete;
};

/// Makes the frame the vCPU's kernel or user address space, loading it if active. inval.
Result<> set_kernel_table(PvVcpu& vcpu, Mfn table);
Result<> set_user_table(PvVcpu& vcpu, Mfn table);
/// Bits of a page fault's error code. (Intel SDM vol. 3A, 4.7)
namespace page_fault {
inline constexpr uint32_t present = 1, write = 2, fetch = 16;
} // namespace page_fault

/// What becomes of a page fault at an address of the guest's: nothing, if shadow page tables alone
/// were the cause. Otherwise the error code says what its own tables do.
struct SpaceFault {
    bool resolved;
    uint32_t error_code;
};
SpaceFault resolve_fault(PvVcpu& vcpu, uint64_t address, uint32_t error_code);

} // namespace hearth::pv
