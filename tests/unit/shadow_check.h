// What must hold between a guest's page tables and the shadow that the processor walks instead.
#pragma once

#include "fake_machine.h"

#include "domain/dirty_log.h"
#include "pv/contents.h"

#include <string>

namespace hearth::test {

/// Whether a shadow table and what is below it has anything that the guest's own has not, or lets
/// the guest write to what is not in the log.
inline std::string compare_tables(Domain const& domain, Mfn shadow, Mfn guest, unsigned level) {
    char line[160];
    for (unsigned i = 0; i < entries_per_table; ++i) {
        Pte const ours = direct<Pte>(shadow)[i], theirs = direct<Pte>(guest)[i];
        if (level == 4 && pv::is_reserved_slot(i)) {
            if (ours != theirs)
                return "the hypervisor's slots differ";
            continue;
        }
        if (!ours.present())
            continue;
        bool wrong = !theirs.present() || (ours.writable() && !theirs.writable()) ||
                     (theirs.v & pte::no_execute && !(ours.v & pte::no_execute)) ||
                     !(theirs.v & pte::accessed);
        if (level == 1)
            wrong = wrong || ours.mfn() != theirs.mfn() ||
                    (ours.writable() && !(theirs.v & pte::dirty));
        if (wrong) {
            snprintf(line, sizeof line, "L%u entry %u: shadow %lx, guest %lx", level, i, ours.v,
                     theirs.v);
            return line;
        }
        if (level > 1) {
            if (auto below = compare_tables(domain, ours.mfn(), theirs.mfn(), level - 1);
                !below.empty())
                return below;
        } else if (ours.writable() && is_ram(ours.mfn()) &&
                   page_at(ours.mfn()).owner == domain.id && get_m2p(ours.mfn()) < 64 &&
                   !domain.dirty_log.load()->has(get_m2p(ours.mfn()))) {
            snprintf(line, sizeof line, "frame %lx can be written to and is not in the log",
                     ours.mfn().raw());
            return line;
        }
    }
    return {};
}

/// On the CPU that the vCPU runs on.
inline std::string shadow_has_no_more(pv::PvVcpu& v) {
    Mfn const root = frame_of(PhysicalAddress{host::cpu_state(v.cpu()).cr3});
    if (v.active_table() == invalid_mfn || root == frame_of(PhysicalAddress{idle_cr3()}))
        return {};
    if (page_at(root).state != PageState::hypervisor)
        return "the guest's own tables are loaded";
    return compare_tables(v.domain, root, v.active_table(), 4);
}

} // namespace hearth::test
