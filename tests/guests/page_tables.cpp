// What a guest must not be able to do with its page tables. (The classes of XSA-148, 182, 212, 213,
// 240, 242)
#include "library/guest.h"

char const guest_name[] = "page_tables";
using namespace guest;
using namespace hearth::abi;

namespace {

void writable_mapping_of_a_table() {
    // A page that is in use as a table cannot be mapped writable, and a writable one cannot become
    // a table.
    void* const spare = page();
    uint64_t const l1 = entry_address(spare, 1) / page_size;
    EXPECT(update_va_mapping(spare, entry(l1, present | writable | user)) == busy);
    EXPECT(update_va_mapping(spare, entry(l1, present | user)) == 0);
    void* const data = page();
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, mfn_of(data)) == inval);
}

void superpages_and_reserved_bits() {
    void* const spare = page();
    uint64_t const l2_entry = entry_address(spare, 2);
    EXPECT(mmu_update(l2_entry, read_entry(l2_entry) | large) == inval);
    uint64_t const l3_entry = entry_address(spare, 3);
    EXPECT(mmu_update(l3_entry, read_entry(l3_entry) | large) == inval);
}

void bits_left_to_software() {
    void* const spare = page();
    for (unsigned level = 1; level <= 3; ++level) {
        uint64_t const at = entry_address(spare, level);
        uint64_t const before = read_entry(at);
        for (unsigned const bit : {9u, 10u, 11u, 52u, 53u, 58u, 61u, 62u}) {
            uint64_t const with = before | uint64_t{1} << bit;
            EXPECT(mmu_update(at, with) == 0 && read_entry(at) == with);
        }
        EXPECT(mmu_update(at, before) == 0);
    }
}

void own_and_foreign_frames() {
    void* const spare = page();
    // Frames of the hypervisor, of nobody, and beyond all memory.
    EXPECT(update_va_mapping(spare, entry(0x200, present | writable)) != 0);
    EXPECT(update_va_mapping(spare, entry(0xffffffffff, present | writable)) != 0);
    EXPECT(update_va_mapping(spare, entry(0xfee00, present | writable)) != 0); // the local APIC
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, 0x200) != 0);
    EXPECT(mmuext(MmuExtCommand::pin_l4_table, ~uint64_t{0}) != 0);
    EXPECT(mmuext(MmuExtCommand::new_baseptr, 0x200) != 0);
}

void shared_frames() {
    // Hearth itself writes to these, so they must never pass for tables, mapped or not.
    uint64_t const shared = start_info->shared_info / page_size;
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, shared) == inval);
    static uint64_t frames[1];
    static struct {
        uint16_t domain = 0x7ff0, padding0 = 0;
        uint32_t count = 1;
        int16_t status = 0;
        uint16_t padding1[3] = {};
        uint64_t* list = frames;
    } set_up;
    EXPECT(hypercall(Hypercall::grant_table_op, 2, &set_up, 1) == 0 && set_up.status == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, frames[0]) == inval);
    EXPECT(mmuext(MmuExtCommand::pin_l4_table, frames[0]) == inval);
    void* const spare = page();
    EXPECT(update_va_mapping(spare, entry(frames[0], present | writable)) == 0);
    EXPECT(update_va_mapping(spare, 0) == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, frames[0]) == inval);
}

void reserved_slots() {
    uint64_t const root = entry_address(reinterpret_cast<void*>(virt_base), 4) & ~uint64_t{4095};
    for (unsigned slot = 256; slot < 272; ++slot)
        EXPECT(mmu_update(root + slot * 8, 0) != 0);
    // A root that refers to itself would make tables writable through a walk of its own.
    EXPECT(mmu_update(root + 300 * 8, entry(root / page_size, present | writable | user)) != 0);
}

void pins_and_counts() {
    auto* const table = static_cast<uint64_t*>(page());
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, mfn_of(table)) == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, mfn_of(table)) == inval);
    EXPECT(mmuext(MmuExtCommand::pin_l2_table, mfn_of(table)) == inval);
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | writable | user)) == busy);
    // A table whose entry maps the table itself writable.
    EXPECT(mmu_update(mfn_of(table) * page_size, entry(mfn_of(table), present | writable)) == busy);
    EXPECT(mmuext(MmuExtCommand::unpin_table, mfn_of(table)) == 0);
    EXPECT(mmuext(MmuExtCommand::unpin_table, mfn_of(table)) == inval);
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | writable | user)) == 0);
    table[0] = 0x123;
    // Now that it holds the mapping of itself, it does not pass any more.
    table[0] = entry(mfn_of(table), present | writable | user);
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, mfn_of(table)) == busy);
}

void writes_by_emulation() {
    EXPECT(hypercall(Hypercall::vm_assist, 0, 2) == 0);
    auto* const table = static_cast<uint64_t*>(page());
    void* const data = page();
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, mfn_of(table)) == 0);
    static uint64_t volatile* slot;
    slot = table;
    static uint64_t good, bad;
    good = entry(mfn_of(data), present | writable | user);
    bad = entry(mfn_of(table), present | writable | user);
    EXPECT(survives([] { slot[3] = good; }));
    EXPECT(table[3] == good);
    Fault const refused = attempt([] { slot[4] = bad; });
    EXPECT(refused.vector == 13 || refused.vector == 14);
    EXPECT(table[4] == 0);
    EXPECT(survives([] { __atomic_exchange_n(&slot[3], uint64_t{0}, __ATOMIC_SEQ_CST); }));
    EXPECT(table[3] == 0);
    EXPECT(mmuext(MmuExtCommand::unpin_table, mfn_of(table)) == 0);
}

} // namespace

void guest_main() {
    writable_mapping_of_a_table();
    superpages_and_reserved_bits();
    bits_left_to_software();
    own_and_foreign_frames();
    shared_frames();
    reserved_slots();
    pins_and_counts();
    writes_by_emulation();
}
