#include "memory/guest_view.h"

#include "arch/descriptors.h"
#include "arch/intrinsics.h"
#include "cpu/mask.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/paging.h"
#include "memory/tlb.h"

namespace hearth {
namespace {

constexpr uint64_t table_flags = pte::present | pte::writable | pte::accessed;
constexpr unsigned slots_end = layout::first_slot + layout::slot_count;

constinit GuestView views[max_cpus]{};
constinit bool isolated = false;

Pte& entry_in(Mfn table, uint64_t address, unsigned level) {
    return direct<Pte>(table)[table_index(address, level)];
}

/// Maps the page as Hearth's own tables do.
Result<> show(Mfn root, uint64_t address) {
    Mfn table = root;
    for (unsigned level = 4; level > 1; --level) {
        Pte& entry = entry_in(table, address, level);
        if (!entry.present())
            entry = Pte::make(TRY(allocate_zeroed_frame()), table_flags);
        table = entry.mfn();
    }
    entry_in(table, address, 1) = hypervisor_translation(address);
    return {};
}

} // namespace

Result<> GuestView::create(unsigned cpu) {
    for (Mfn* table : {&roots_[for_kernel], &roots_[for_user], &windows_, &window_directory_})
        *table = TRY(allocate_zeroed_frame());
    auto const parts = arch::parts_for_entry(cpu);
    TRY(map_hypervisor_page(parts.back().start, TRY(allocate_zeroed_frame()), mapping::data));
    Mfn const root = roots_[for_kernel];
    for (arch::AddressRange const& part : parts)
        for (uint64_t address = part.start; address < part.end; address += page_size)
            TRY(show(root, address));
    entry_in(root, layout::machine_to_physical, 4) = hypervisor_slots()[0];
    entry_in(root, layout::descriptor_windows, 4) = Pte::make(windows_, table_flags);
    arch::copy_quads(direct<Pte>(roots_[for_user]), direct<Pte>(root), entries_per_table);
    return {};
}

void GuestView::show_window(uint64_t window) {
    entry_in(windows_, window_, 3) = {};
    entry_in(window_directory_, window_, 2) = {};
    window_ = window;
    entry_in(windows_, window, 3) = Pte::make(window_directory_, table_flags);
    entry_in(window_directory_, window, 2) = Pte::make(hypervisor_l1_table(window), table_flags);
}

void GuestView::copy(unsigned mode, Mfn table) const {
    auto* const to = direct<Pte>(roots_[mode]);
    auto const* const from = direct<Pte>(table);
    arch::copy_quads(to, from, layout::first_slot);
    arch::copy_quads(to + slots_end, from + slots_end, entries_per_table - slots_end);
}

bool GuestView::differs(unsigned mode, Mfn table, uint64_t address) const {
    uint64_t const differs = entry_in(roots_[mode], address, 4).v ^ entry_in(table, address, 4).v;
    return (differs & ~(pte::accessed | pte::dirty)) != 0;
}

Result<> isolate_guests() {
    isolated = spaces_are_kept = true;
    return prepare_guest_view(0);
}
bool guests_are_isolated() { return isolated; }
Result<> prepare_guest_view(unsigned cpu) {
    if (isolated)
        return views[cpu].create(cpu);
    return {};
}
GuestView& guest_view(unsigned cpu) { return views[cpu]; }

} // namespace hearth
