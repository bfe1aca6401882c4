#include "library/pv/tables.h"

#include "library/guest.h"

#include <cstring>

namespace guest {

using namespace hearth::abi;

namespace {

auto const* const machine_to_physical = reinterpret_cast<uint64_t const*>(0xffff800000000000);

uint64_t end_of_frames() {
    static uint64_t frame = 0;
    if (frame == 0)
        frame = static_cast<uint64_t>(
            operation(Hypercall::memory_op, MemoryOperation::maximum_ram_page, nullptr));
    return frame;
}

} // namespace

uint64_t mfn_of_pfn(uint64_t pfn) { return reinterpret_cast<uint64_t*>(start_info->p2m_list)[pfn]; }
uint64_t pfn_of_mfn(uint64_t mfn) {
    uint64_t pfn = ~uint64_t{0};
    attempt([&] { pfn = machine_to_physical[mfn]; });
    return pfn;
}
bool is_ours(uint64_t mfn) {
    uint64_t const pfn = pfn_of_mfn(mfn);
    return pfn < start_info->page_count && mfn_of_pfn(pfn) == mfn;
}
void* page_of_frame(uint64_t mfn) {
    return reinterpret_cast<void*>(virt_base + pfn_of_mfn(mfn) * page_size);
}

uint64_t foreign_frame(unsigned n) {
    // From 16 MiB on, where a machine has memory and nothing else.
    for (uint64_t mfn = 0x1000; mfn < end_of_frames(); mfn += 0x101)
        if (!is_ours(mfn) && n-- == 0)
            return mfn;
    return 0;
}

int64_t update_va_mapping(void const* address, uint64_t value, uint64_t flags) {
    return hypercall(Hypercall::update_va_mapping, address, value, flags);
}
int64_t mmu_update(uint64_t pointer, uint64_t value) {
    MmuUpdate request{pointer, value};
    return hypercall(Hypercall::mmu_update, &request, 1, 0, self);
}
int64_t mmuext(MmuExtCommand command, uint64_t argument1, uint64_t argument2) {
    MmuExtOp op{static_cast<uint32_t>(command), 0, argument1, argument2};
    return hypercall(Hypercall::mmuext_op, &op, 1, 0, self);
}

int64_t map_other(void const* where, uint64_t mfn, uint64_t flags) {
    return update_va_mapping(where, entry(mfn, flags));
}
int64_t map_read_only(void const* page) { return map_other(page, mfn_of(page), present | user); }
int64_t map_writable(void const* page) { return map_other(page, mfn_of(page), all_rights); }
int64_t unmap(void const* page) { return update_va_mapping(page, 0); }

int64_t pin(unsigned level, void const* table) {
    return mmuext(static_cast<MmuExtCommand>(level - 1), mfn_of(table));
}
int64_t unpin(void const* table) { return mmuext(MmuExtCommand::unpin_table, mfn_of(table)); }

void make_table(unsigned level, void* table) {
    EXPECT_EQUAL(map_read_only(table), 0);
    EXPECT_EQUAL(pin(level, table), 0);
}
void end_table(void* table) {
    EXPECT_EQUAL(unpin(table), 0);
    EXPECT_EQUAL(map_writable(table), 0);
    memset(table, 0, page_size);
}

uint64_t read_entry(uint64_t machine_address) {
    // Our tables are mapped, read-only, from page_table_base on.
    auto const* const table = static_cast<char const*>(page_of_frame(machine_address / page_size));
    return *reinterpret_cast<uint64_t const volatile*>(table + machine_address % page_size);
}

uint64_t root_frame() { return mfn_of(reinterpret_cast<void*>(start_info->page_table_base)); }

uint64_t entry_address(void const* address, unsigned level) {
    uint64_t const a = reinterpret_cast<uint64_t>(address);
    uint64_t table = root_frame();
    for (unsigned l = 4;; --l) {
        uint64_t const at = table * page_size + (a >> (12 + 9 * (l - 1)) & 511) * 8;
        if (l == level)
            return at;
        table = read_entry(at) >> 12 & 0xffffffffff;
    }
}

void* kernel_only_page() {
    constexpr unsigned slot = 4;
    static uint64_t* l1 = nullptr;
    static unsigned used = 0;
    if (!l1) {
        l1 = static_cast<uint64_t*>(page());
        auto* const l2 = static_cast<uint64_t*>(page());
        auto* const l3 = static_cast<uint64_t*>(page());
        l2[0] = entry(mfn_of(l1), all_rights);
        l3[0] = entry(mfn_of(l2), all_rights);
        for (void* const table : {static_cast<void*>(l1), static_cast<void*>(l2)})
            EXPECT_EQUAL(map_read_only(table), 0);
        make_table(3, l3);
        EXPECT_EQUAL(mmu_update(root_frame() * page_size + slot * 8, entry(mfn_of(l3), all_rights)),
                     0);
    }
    EXPECT_EQUAL(mmu_update(slot_of(l1, used), entry(mfn_of(page()), all_rights)), 0);
    return reinterpret_cast<void*>((uint64_t{slot} << 39) + used++ * page_size);
}

} // namespace guest
