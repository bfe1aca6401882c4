#include "memory/paging.h"

#include "arch/intrinsics.h"
#include "base/lock.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/image.h"
#include "memory/page.h"
#include "memory/tlb.h"

namespace hearth {
namespace {

constinit std::array<Pte, layout::slot_count> slots{};
constinit Mfn idle_l4;
constinit Mfn limit;
constinit SpinLock<Rank::mapping> tables_lock;
constinit uint64_t next_device_address = layout::device_mappings;

constexpr uint64_t table_flags = pte::present | pte::writable | pte::accessed;
constexpr unsigned frames_per_large = 512;
constexpr uint64_t frame_table_chunk =
    frames_per_large * page_size / sizeof(Page); // frames a 2 MiB chunk covers
constexpr uint64_t m2p_chunk = frames_per_large * page_size / sizeof(uint64_t);

/// Table memory from wherever it can be had at this time.
class TableSource {
public:
    virtual Result<Mfn> table() = 0;

protected:
    ~TableSource() = default;
};
class BootTables final : public TableSource {
    BootAllocator& boot_;

public:
    explicit BootTables(BootAllocator& boot) : boot_{boot} {}
    Result<Mfn> table() override {
        Mfn const mfn = boot_.take(0);
        zero_page(mfn);
        return mfn;
    }
};
class HeapTables final : public TableSource {
public:
    Result<Mfn> table() override { return allocate_zeroed_frame(); }
};

/// The entry at `level` for `address`, with tables made on the way.
Result<Pte*> entry_at(uint64_t address, unsigned level, TableSource& source, uint64_t extra = 0) {
    Pte* entry = &direct<Pte>(idle_l4)[table_index(address, 4)];
    for (unsigned l = 3; l >= level; --l) {
        if (!entry->present())
            *entry = Pte::make(TRY(source.table()), table_flags | extra);
        if (l < 3 && entry->large())
            return Errno::exist;
        entry = &direct<Pte>(entry->mfn())[table_index(address, l)];
    }
    return entry;
}

Pte& boot_entry(uint64_t address, unsigned level, TableSource& source, uint64_t extra = 0) {
    auto entry = entry_at(address, level, source, extra);
    if (!entry)
        __builtin_trap();
    return **entry;
}

void map_direct(RamRange range, bool gigabyte_pages, TableSource& source) {
    Mfn mfn = range.start;
    while (mfn < range.end) {
        uint64_t const address = layout::direct_map + address_of(mfn).raw();
        uint64_t const left = range.end - mfn;
        unsigned level = 1;
        if (gigabyte_pages && is_aligned(mfn.raw(), 512 * 512) && left >= 512 * 512)
            level = 3;
        else if (is_aligned(mfn.raw(), 512) && left >= 512)
            level = 2;
        boot_entry(address, level, source) =
            Pte::make(mfn, mapping::data | (level > 1 ? pte::large : 0));
        mfn += uint64_t{1} << (9 * (level - 1));
    }
}

void map_image(TableSource& source) {
    for (ImageSection const& section : image_sections())
        for (uint64_t a = section.start; a < section.end; a += page_size)
            boot_entry(a, 1, source) = Pte::make(frame_of(image_physical(a)), section.flags);
}

/// The frame table and the M2P cover RAM, in chunks of 2 MiB of table.
void map_frame_structures(RamRange range, BootAllocator& boot, TableSource& source) {
    auto const chunk = [&](uint64_t address, uint64_t fill) -> Mfn {
        Pte& entry = boot_entry(address, 2, source);
        if (entry.present())
            return entry.mfn();
        Mfn const mfn = boot.take(9);
        entry = Pte::make(mfn, mapping::data | pte::large);
        arch::fill_quads(direct<void>(mfn), fill, frames_per_large * page_size / 8);
        return mfn;
    };
    for (uint64_t c = range.start.raw() / frame_table_chunk;
         c <= (range.end.raw() - 1) / frame_table_chunk; ++c) {
        (void)chunk(layout::frame_table + c * frames_per_large * page_size, 0);
    }
    for (uint64_t c = range.start.raw() / m2p_chunk; c <= (range.end.raw() - 1) / m2p_chunk; ++c) {
        uint64_t const offset = c * frames_per_large * page_size;
        Mfn const mfn = chunk(layout::machine_to_physical_writable + offset, invalid_m2p_entry);
        boot_entry(layout::machine_to_physical + offset, 2, source, pte::user) =
            Pte::make(mfn, (mapping::constant & ~pte::global) | pte::user | pte::large);
    }
}

/// Where the frame table has no chunk, below the end of RAM, there is one page of zeros: frames
/// that are not RAM.
void map_frame_table_holes(BootAllocator& boot, TableSource& source) {
    Mfn const zeros = boot.take(0);
    zero_page(zeros);
    Mfn const table = *source.table();
    for (unsigned i = 0; i < entries_per_table; ++i)
        direct<Pte>(table)[i] = Pte::make(zeros, mapping::constant);
    for (uint64_t c = 0; c * frame_table_chunk < limit.raw(); ++c) {
        Pte& entry = boot_entry(layout::frame_table + c * frames_per_large * page_size, 2, source);
        if (!entry.present())
            entry = Pte::make(table, table_flags);
    }
}

} // namespace

void build_hypervisor_tables(std::span<RamRange const> ram, BootAllocator& boot) {
    BootTables source{boot};
    idle_l4 = *source.table();
    // Every shared slot gets its table now, so that no address space ever needs updating.
    for (unsigned i = 0; i < layout::slot_count; ++i) {
        uint64_t const user = i == 0 ? pte::user : 0;
        slots[i] = Pte::make(*source.table(), table_flags | user);
        direct<Pte>(idle_l4)[layout::first_slot + i] = slots[i];
    }
    bool const gigabyte_pages = arch::cpuid(0x80000001).edx & bit(26);
    map_image(source);
    for (RamRange const& range : ram) {
        map_direct(range, gigabyte_pages, source);
        map_frame_structures(range, boot, source);
        limit = range.end;
    }
    map_frame_table_holes(boot, source);
    arch::write_cr4(arch::read_cr4() | arch::cr4::pge);
    load_address_space(idle_cr3());
    for (RamRange const& range : ram)
        for (Mfn mfn = range.start; mfn < range.end; ++mfn)
            page_at(mfn).state = PageState::hypervisor;
    // The toolstack reads the M2P of the whole machine.
    for (RamRange const& range : ram)
        for (uint64_t c = range.start.raw() / m2p_chunk; c <= (range.end.raw() - 1) / m2p_chunk;
             ++c)
            if (auto const first = m2p_frame(Mfn{c * m2p_chunk}))
                for (uint64_t i = 0; i < frames_per_large; ++i)
                    show_frame(*first + i);
}

Result<> map_hypervisor_page(uint64_t address, Mfn mfn, uint64_t flags) {
    HeapTables source;
    LockGuard guard{tables_lock};
    Pte* const entry = TRY(entry_at(address, 1, source));
    *entry = Pte::make(mfn, flags);
    return {};
}

void unmap_hypervisor_page(uint64_t address) {
    HeapTables source;
    LockGuard guard{tables_lock};
    if (auto entry = entry_at(address, 1, source))
        **entry = Pte{};
}

namespace {
/// The entry of the lowest level that there is, down to `last`.
Pte find_entry(uint64_t address, unsigned last) {
    Pte entry = direct<Pte>(idle_l4)[table_index(address, 4)];
    for (unsigned level = 3; level >= last; --level) {
        if (!entry.present() || (level < 3 && entry.large()))
            return entry;
        entry = direct<Pte>(entry.mfn())[table_index(address, level)];
    }
    return entry;
}
} // namespace

Pte hypervisor_translation(uint64_t address) { return find_entry(address, 1); }
Mfn hypervisor_l1_table(uint64_t address) { return find_entry(address, 2).mfn(); }

unsigned physical_address_bits() {
    return arch::cpuid(0x80000000).eax >= 0x80000008 ? arch::cpuid(0x80000008).eax & 0xff : 36;
}

Result<void*> map_device(PhysicalAddress start, uint64_t size) {
    uint64_t const offset = start.raw() & page_mask;
    uint64_t const pages = pages_for(offset + size);
    uint64_t const end = frame_of(start).raw() + pages;
    if (end > uint64_t{1} << (physical_address_bits() - page_shift))
        return Errno::inval;
    for (uint64_t i = 0; i < pages; ++i)
        if (is_ram(frame_of(start) + i))
            return Errno::inval;
    uint64_t const address = next_device_address;
    next_device_address += (pages + 1) * page_size;
    for (uint64_t i = 0; i < pages; ++i)
        TRY(map_hypervisor_page(address + i * page_size, frame_of(start) + i, mapping::device));
    return reinterpret_cast<void*>(address + offset);
}

std::array<Pte, layout::slot_count> const& hypervisor_slots() { return slots; }
uint64_t idle_cr3() { return address_of(idle_l4).raw(); }

Page* find_page(Mfn mfn) {
    if (mfn >= limit)
        return nullptr;
    Page& page = page_at(mfn);
    return page.state == PageState::not_ram ? nullptr : &page;
}
Page& page_at(Mfn mfn) { return reinterpret_cast<Page*>(layout::frame_table)[mfn.raw()]; }
Mfn frame_of_entry(Page const& page) {
    return Mfn{static_cast<uint64_t>(&page - reinterpret_cast<Page const*>(layout::frame_table))};
}
Mfn frame_limit() { return limit; }
bool is_ram(Mfn mfn) { return find_page(mfn) != nullptr; }

void set_m2p(Mfn mfn, uint64_t gfn) {
    reinterpret_cast<uint64_t*>(layout::machine_to_physical_writable)[mfn.raw()] = gfn;
}
uint64_t get_m2p(Mfn mfn) {
    return reinterpret_cast<uint64_t*>(layout::machine_to_physical_writable)[mfn.raw()];
}

Result<Mfn> m2p_frame(Mfn mfn) {
    Pte const entry =
        hypervisor_translation(layout::machine_to_physical + mfn.raw() * sizeof(uint64_t));
    if (!entry.present())
        return Errno::nodata;
    return entry.mfn();
}

} // namespace hearth
