#include "pv/descriptor_tables.h"

#include "arch/descriptors.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "memory/address_slots.h"
#include "memory/direct_map.h"
#include "memory/guest_view.h"
#include "memory/image.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/contents.h"

#include <algorithm>
#include <span>

namespace hearth::pv {
namespace {

constinit AddressSlots windows_close_together{layout::descriptor_windows, window_size};
// Each has an L1 table of its own, so that a guest can be shown no other (memory/guest_view.h).
constinit AddressSlots windows_apart{layout::descriptor_windows, entries_per_table* page_size};
/// Which of them is decided when the first vCPU is made, Domain 0's.
AddressSlots& windows() {
    static constinit AddressSlots* chosen = nullptr;
    if (!chosen)
        chosen = guests_are_isolated() ? &windows_apart : &windows_close_together;
    return *chosen;
}

// Writable, since the processor sets accessed bits; never global, since vCPUs of one CPU come and
// go.
constexpr uint64_t window_flags = mapping::data & ~pte::global;
constexpr unsigned entries_per_frame = page_size / 8;

/// What the processor finds where a guest's GDT has no frame: that there is no descriptor. To find
/// no page would be a fault of whoever only asks (`lar`), which kernels do with any selector.
alignas(page_size) constinit char const empty_page[page_size] = {};

Result<> map_window_page(PvVcpu& vcpu, unsigned index, void const* page) {
    return map_hypervisor_page(vcpu.window + index * page_size,
                               frame_of(image_physical(reinterpret_cast<uint64_t>(page))),
                               mapping::constant & ~pte::global);
}

/// Only CPUs that have run the domain since they last dropped everything have looked through its
/// windows.
void flush_window_page(PvVcpu const& vcpu, uint64_t offset) {
    flush_tlb_page(vcpu.domain.dirty(), vcpu.window + offset);
}

void release_ldt(PvVcpu& vcpu) {
    for (unsigned i = 0; i < ldt_frames; ++i) {
        Mfn const frame = std::exchange(vcpu.ldt[i], invalid_mfn);
        if (frame == invalid_mfn)
            continue;
        unmap_hypervisor_page(vcpu.window + ldt_offset + i * page_size);
        flush_window_page(vcpu, ldt_offset + i * page_size);
        put_page_and_type(vcpu.domain, frame);
    }
}

/// References to the frames are taken over; those to what was there are dropped.
void replace_gdt(PvVcpu& vcpu, std::span<Mfn const> frames, unsigned entries) {
    for (unsigned i = 0; i < gdt_guest_frames; ++i) {
        Mfn const frame = i < frames.size() ? frames[i] : invalid_mfn;
        Mfn const old = std::exchange(vcpu.gdt[i], frame);
        // Neither can fail: the window's tables are there.
        if (frame != invalid_mfn)
            (void)map_hypervisor_page(vcpu.window + i * page_size, frame, window_flags);
        else if (old != invalid_mfn)
            (void)map_window_page(vcpu, i, empty_page);
        else
            continue;
        flush_window_page(vcpu, i * page_size);
        if (old != invalid_mfn)
            put_page_and_type(vcpu.domain, old);
    }
    vcpu.gdt_entries = entries;
}

} // namespace

Result<> create_window(PvVcpu& vcpu) {
    vcpu.window = TRY(windows().take());
    for (Mfn& frame : vcpu.gdt)
        frame = invalid_mfn;
    for (Mfn& frame : vcpu.ldt)
        frame = invalid_mfn;
    for (unsigned i = 0; i < ldt_offset / page_size; ++i)
        TRY(map_window_page(vcpu, i,
                            i == gdt_guest_frames ? arch::reserved_gdt_page() : empty_page));
    return {};
}

Result<> set_gdt(PvVcpu& vcpu, Mfn const* frames, unsigned entries) {
    unsigned const count = (entries + entries_per_frame - 1) / entries_per_frame;
    if (count > gdt_guest_frames)
        return Errno::inval;
    // All are checked before any changes.
    for (unsigned i = 0; i < count; ++i)
        if (auto held = get_page_and_type(vcpu.domain, frames[i], PageType::descriptors); !held) {
            while (i-- > 0)
                put_page_and_type(vcpu.domain, frames[i]);
            return Errno::inval;
        }
    replace_gdt(vcpu, {frames, count}, entries);
    return {};
}

Result<> set_ldt(PvVcpu& vcpu, uint64_t base, uint32_t entries) {
    if (entries > 8192 || (base & page_mask) != 0 ||
        (entries != 0 && !layout::guest_range_ok(base, uint64_t{entries} * 8)))
        return Errno::inval;
    if (vcpu.ldt_base == base && vcpu.ldt_entries == entries)
        return {};
    arch::load_ldt(vcpu.cpu(), 0, 0);
    release_ldt(vcpu);
    vcpu.ldt_base = base;
    vcpu.ldt_entries = entries;
    load_descriptor_tables(vcpu);
    return {};
}

void release_descriptor_tables(PvVcpu& vcpu) {
    replace_gdt(vcpu, {}, 0);
    release_ldt(vcpu);
}

// Hearth's own segments stay mapped there: a CPU that has been idle since the vCPU left it still
// finds them through its GDTR.
void free_window(PvVcpu& vcpu) {
    if (vcpu.window != 0)
        windows().give_back(std::exchange(vcpu.window, 0));
}

bool map_ldt_page(PvVcpu& vcpu, uint64_t offset) {
    if (offset < ldt_offset || offset >= ldt_offset + ldt_frames * page_size)
        return false;
    unsigned const index = static_cast<unsigned>((offset - ldt_offset) / page_size);
    if (index * entries_per_frame >= vcpu.ldt_entries || vcpu.ldt[index] != invalid_mfn)
        return false;
    // The kernel's mapping counts, also for a fault in user mode: there the user's own address
    // space is loaded.
    auto const entry = peek_l1_entry(vcpu.kernel_table, vcpu.ldt_base + index * page_size);
    if (!entry || !entry->present() || !is_ram(entry->mfn()))
        return false;
    if (!get_page_and_type(vcpu.domain, entry->mfn(), PageType::descriptors))
        return false;
    if (!map_hypervisor_page(vcpu.window + ldt_offset + index * page_size, entry->mfn(),
                             window_flags)) {
        put_page_and_type(vcpu.domain, entry->mfn());
        return false;
    }
    vcpu.ldt[index] = entry->mfn();
    return true;
}

void load_descriptor_tables(PvVcpu const& vcpu) {
    if (guests_are_isolated())
        guest_view(vcpu.cpu()).show_window(vcpu.window);
    arch::load_ldt(vcpu.cpu(), vcpu.window + ldt_offset, vcpu.ldt_entries);
    arch::load_gdt_window(vcpu.window);
}

Result<int64_t> do_set_gdt(Context& c, uint64_t frames, uint32_t entries) {
    if (entries > gdt_guest_frames * entries_per_frame)
        return Errno::inval;
    unsigned const count = (entries + entries_per_frame - 1) / entries_per_frame;
    Mfn list[gdt_guest_frames];
    for (unsigned i = 0; i < count; ++i)
        list[i] = Mfn{TRY(GuestPointer<uint64_t>{frames}.read(i))};
    PvVcpu& vcpu = pv_vcpu(c.vcpu);
    TRY(set_gdt(vcpu, list, entries));
    load_descriptor_tables(vcpu);
    return 0;
}

Result<int64_t> do_update_descriptor(Context& c, uint64_t machine_address, uint64_t descriptor) {
    if (machine_address & 7)
        return Errno::inval;
    uint64_t const checked = TRY(check_descriptor(descriptor));
    Mfn const mfn = frame_of(PhysicalAddress{machine_address});
    PageRef const page = TRY(PageRef::get(mfn, c.domain.id));
    TypeWord const word = page_at(mfn).type_word();
    PageType const type = word.count() && word.type() == PageType::descriptors
                              ? PageType::descriptors
                              : PageType::writable;
    TypeRef const held = TRY(TypeRef::get(c.domain, mfn, type));
    __atomic_store_n(direct<uint64_t>(PhysicalAddress{machine_address}), checked, __ATOMIC_RELAXED);
    note_written(c.domain, mfn);
    return 0;
}

} // namespace hearth::pv
