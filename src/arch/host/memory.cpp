// RAM, the frame table, the M2P and the hypervisor's mappings of the fake machine: arrays instead
// of page tables.
#include "arch/host/machine.h"
#include "arch/intrinsics.h"
#include "memory/direct_map.h"
#include "memory/image.h"
#include "memory/page.h"
#include "memory/paging.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <sys/mman.h>

namespace hearth {

uintptr_t direct_map_base = 0;

namespace {

using host::RamLayout;
constexpr uint64_t frame_count = RamLayout::high_end.raw();
constexpr uint64_t table_flags = pte::present | pte::writable | pte::accessed;

Page* frame_table = nullptr;
uint64_t* m2p = nullptr;
std::mutex mappings_mutex;

void* reserve(uint64_t size) {
    void* const p = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

} // namespace

namespace host {

void create_memory() {
    if (direct_map_base)
        return;
    direct_map_base = reinterpret_cast<uintptr_t>(reserve(frame_count * page_size));
    // SAFETY: zero bytes are a valid Page, of a frame that is not RAM.
    frame_table = static_cast<Page*>(reserve(frame_count * sizeof(Page)));
    m2p = static_cast<uint64_t*>(reserve(frame_count * sizeof(uint64_t)));
    for (Mfn mfn = RamLayout::low_start; mfn < RamLayout::high_end; ++mfn) {
        if (mfn == RamLayout::low_end)
            mfn = RamLayout::high_start;
        frame_table[mfn.raw()].state = PageState::hypervisor;
        m2p[mfn.raw()] = invalid_m2p_entry;
    }
}

std::map<uint64_t, Pte>& hypervisor_mappings() {
    static std::map<uint64_t, Pte> mappings;
    return mappings;
}

} // namespace host

Page& page_at(Mfn mfn) { return frame_table[mfn.raw()]; }
Mfn frame_of_entry(Page const& page) { return Mfn{static_cast<uint64_t>(&page - frame_table)}; }
Page* find_page(Mfn mfn) {
    if (mfn.raw() >= frame_count || page_at(mfn).state == PageState::not_ram)
        return nullptr;
    return &page_at(mfn);
}
Mfn frame_limit() { return RamLayout::high_end; }
bool is_ram(Mfn mfn) { return find_page(mfn) != nullptr; }
void set_m2p(Mfn mfn, uint64_t gfn) {
    std::atomic_ref{m2p[mfn.raw()]}.store(gfn, std::memory_order_relaxed);
}
uint64_t get_m2p(Mfn mfn) {
    return std::atomic_ref{m2p[mfn.raw()]}.load(std::memory_order_relaxed);
}
Result<Mfn> m2p_frame(Mfn mfn) {
    if (!is_ram(mfn))
        return Errno::nodata;
    return Mfn{0x20};
}

Result<> map_hypervisor_page(uint64_t address, Mfn mfn, uint64_t flags) {
    if (arch::allocation_fails()) // of a table
        return Errno::nomem;
    std::scoped_lock const guard{mappings_mutex};
    host::hypervisor_mappings()[address & ~page_mask] = Pte::make(mfn, flags);
    return {};
}
void unmap_hypervisor_page(uint64_t address) {
    std::scoped_lock const guard{mappings_mutex};
    host::hypervisor_mappings().erase(address & ~page_mask);
}
Pte hypervisor_translation(uint64_t address) {
    std::scoped_lock const guard{mappings_mutex};
    auto const found = host::hypervisor_mappings().find(address & ~page_mask);
    return found == host::hypervisor_mappings().end() ? Pte{} : found->second;
}
Mfn hypervisor_l1_table(uint64_t address) { return Mfn{0x60 + table_index(address, 2)}; }
void* (*host::device_at)(PhysicalAddress address) = nullptr;
Result<void*> map_device(PhysicalAddress address, uint64_t size) {
    return host::device_at ? host::device_at(address) : calloc(1, size);
}

std::array<Pte, layout::slot_count> const& hypervisor_slots() {
    static auto const slots = [] {
        std::array<Pte, layout::slot_count> s;
        for (unsigned i = 0; i < layout::slot_count; ++i)
            s[i] = Pte::make(Mfn{0x40 + i}, table_flags);
        return s;
    }();
    return slots;
}
uint64_t idle_cr3() { return address_of(Mfn{0x30}).raw(); }

// The image's one page: code.cpp.
PhysicalAddress image_physical(uint64_t linear) {
    return address_of(Mfn{0x50}) + (linear & page_mask);
}
PhysicalAddress image_start() { return address_of(Mfn{0x50}); }
PhysicalAddress image_end() { return address_of(Mfn{0x60}); }

} // namespace hearth
