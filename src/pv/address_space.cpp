#include "pv/address_space.h"

#include "arch/intrinsics.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "pv/shadow.h"

namespace hearth::pv {
namespace {

/// Replaces a root that a vCPU holds by one for which a reference has been taken.
void replace_root(Domain& domain, Mfn& root, Mfn table) {
    Mfn const old = std::exchange(root, table);
    if (old != invalid_mfn)
        put_page_and_type(domain, old);
}

} // namespace

std::optional<Pte> peek_l1_entry(Mfn root, uint64_t address) {
    Pte const l2_entry = l2_entry_for(root, address);
    if (!l2_entry.present() || !is_ram(l2_entry.mfn()))
        return std::nullopt;
    return entry_in(l2_entry.mfn(), address, 1);
}

Result<> set_kernel_table(PvVcpu& vcpu, Mfn table) {
    if (table == vcpu.kernel_table) {
        flush_local_tlb();
        return {};
    }
    TRY(get_page_and_type(vcpu.domain, table, PageType::l4));
    Mfn const old = std::exchange(vcpu.kernel_table, table);
    // Loaded before the old one can go.
    if (vcpu.kernel_mode)
        load_active_space(vcpu);
    if (old != invalid_mfn)
        put_page_and_type(vcpu.domain, old);
    return {};
}

Result<> set_user_table(PvVcpu& vcpu, Mfn table) {
    if (table == vcpu.user_table)
        return {};
    if (table.raw() != 0)
        TRY(get_page_and_type(vcpu.domain, table, PageType::l4));
    replace_root(vcpu.domain, vcpu.user_table, table.raw() != 0 ? table : invalid_mfn);
    forget_user_space();
    return {};
}

void load_active_space(PvVcpu& vcpu) {
    Mfn const table = vcpu.active_table();
    if (table == invalid_mfn)
        return load_address_space(idle_cr3());
    if (Shadow* const shadow = vcpu.domain.shadow.load(std::memory_order_acquire)) [[unlikely]]
        return shadow->load(table);
    load_address_space(address_of(table).raw(), space_tag(vcpu.kernel_mode));
}

void load_active_space_slowly(PvVcpu& vcpu) { load_active_space(vcpu); }

bool active_space_is_loaded(PvVcpu const& vcpu) {
    return !vcpu.domain.shadow.load(std::memory_order_acquire) &&
           loaded_address_space() == address_of(vcpu.active_table()).raw();
}

SpaceFault resolve_fault(PvVcpu& vcpu, uint64_t address, uint32_t error_code) {
    Shadow* const shadow = vcpu.domain.shadow.load(std::memory_order_acquire);
    if (!shadow || vcpu.active_table() == invalid_mfn)
        return {.resolved = false, .error_code = error_code};
    switch (shadow->resolve(vcpu.active_table(), address, error_code & page_fault::write,
                            error_code & page_fault::fetch)) {
    case Shadow::Fault::resolved:
        (void)renew_guest_view(address);
        return {.resolved = true, .error_code = error_code};
    case Shadow::Fault::not_present:
        return {.resolved = false, .error_code = error_code & ~page_fault::present};
    case Shadow::Fault::not_allowed:
        return {.resolved = false, .error_code = error_code | page_fault::present};
    }
}

} // namespace hearth::pv
