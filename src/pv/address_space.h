// A guest's address spaces: walking them, switching them, and finding the entry behind a linear
// address.
#pragma once

#include "arch/intrinsics.h"
#include "arch/paging_bits.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/tlb.h"
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
inline Pte entry_in(Mfn table, uint64_t address, unsigned level) {
    return {
        __atomic_load_n(&direct<uint64_t>(table)[table_index(address, level)], __ATOMIC_ACQUIRE)};
}

/// The entry that names the L1 table for `address`, under a root that is held; not present if there
/// is none. The tables below the root are not held: by the time that they are read they may be
/// anything, so what an entry names may not even be RAM. The root's own entries name tables.
inline Pte l2_entry_for(Mfn root, uint64_t address) {
    if (!layout::guest_start_ok(address))
        return {};
    Pte entry = entry_in(root, address, 4);
    if (!entry.present())
        return {};
    entry = entry_in(entry.mfn(), address, 3);
    if (!entry.present() || !is_ram(entry.mfn()))
        return {};
    return entry_in(entry.mfn(), address, 2);
}

/// The L1 entry that translates `address` in the vCPU's active address space. fault: no table
/// there.
[[gnu::always_inline]] inline Result<HeldEntry> find_l1_entry(PvVcpu& vcpu, uint64_t address) {
    Pte const l2_entry = l2_entry_for(vcpu.active_table(), address);
    if (!l2_entry.present())
        return Errno::fault;
    Mfn const table = l2_entry.mfn();
    TypeRef ref = TRY(TypeRef::get(vcpu.domain, table, PageType::l1));
    return HeldEntry{std::move(ref), &direct<Pte>(table)[table_index(address, 1)]};
}

/// What the entry says in the address space under `root`, which is held; the tables below are not:
/// a hint.
std::optional<Pte> peek_l1_entry(Mfn root, uint64_t address);

inline SpaceTag space_tag(bool kernel) {
    return kernel ? SpaceTag::guest_kernel : SpaceTag::guest_user;
}
void load_active_space(PvVcpu& vcpu);
/// The same for who calls it seldom, and saves no registers for it.
[[gnu::cold, gnu::noinline, clang::preserve_most]] void load_active_space_slowly(PvVcpu& vcpu);
/// The same for a vCPU whose other mode's space is loaded: translations may stay.
[[gnu::always_inline]] inline void switch_active_space(PvVcpu& vcpu, bool kernel) {
    Mfn const table = kernel ? vcpu.kernel_table : vcpu.user_table;
    vcpu.kernel_mode = kernel;
    bool const none = !kernel && table == invalid_mfn; // a kernel's is what it runs on
    if (none || vcpu.domain.shadow.load(std::memory_order_acquire)) [[unlikely]]
        return load_active_space_slowly(vcpu);
    switch_address_space(address_of(table).raw(), space_tag(kernel));
}
/// To the guest's kernel from user mode, or the other way: address space and GS base.
[[gnu::always_inline]] inline void enter_mode(PvVcpu& vcpu, bool kernel) {
    switch_active_space(vcpu, kernel);
    arch::swap_gs();
}
/// Certainly; with shadow page tables nothing is certain.
bool active_space_is_loaded(PvVcpu const& vcpu);

/// The kernel's address space for as long as this lives: what a kernel gave the address of may be
/// mapped nowhere else.
class InKernelSpace {
    PvVcpu& vcpu_;
    bool from_user_;

public:
    explicit InKernelSpace(PvVcpu& vcpu) : vcpu_{vcpu}, from_user_{!vcpu.kernel_mode} {
        if (from_user_)
            switch_active_space(vcpu_, true);
    }
    ~InKernelSpace() {
        if (from_user_)
            switch_active_space(vcpu_, false);
    }
    InKernelSpace(InKernelSpace const&) = delete;
    InKernelSpace& operator=(InKernelSpace const&) = delete;
};

/// Makes the frame the vCPU's kernel or user address space, loading it if active. inval.
Result<> set_kernel_table(PvVcpu& vcpu, Mfn table);
Result<> set_user_table(PvVcpu& vcpu, Mfn table);
/// Bits of a page fault's error code. (Intel SDM vol. 3A, 4.7)
namespace page_fault {
inline constexpr uint32_t present = 1, write = 2, user = 4, fetch = 16;
} // namespace page_fault

/// What becomes of a page fault at an address of the guest's: nothing, if shadow page tables alone
/// were the cause. Otherwise the error code says what its own tables do.
struct SpaceFault {
    bool resolved;
    uint32_t error_code;
};
SpaceFault resolve_fault(PvVcpu& vcpu, uint64_t address, uint32_t error_code);

} // namespace hearth::pv
