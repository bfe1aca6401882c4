// Page tables and the types of frames: what would give a guest a writable mapping of a table, or of
// what is not its own.
#include "library/guest.h"
#include "library/pv/user.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "tables";
using namespace guest;
using namespace hearth::abi;

namespace {

constexpr uint16_t domid_io = 0x7ff1, domid_xen = 0x7ff2;
constexpr uint64_t read_rights = present | user;

/// A small tree of its own: one table of each level, the root's slot 0 down to one page.
struct Tree {
    uint64_t* tables[5]; // by level; 0: the page
    Tree() {
        for (unsigned level = 0; level < 5; ++level)
            tables[level] = static_cast<uint64_t*>(page());
        link();
    }
    void link() const {
        for (unsigned level = 1; level < 5; ++level)
            tables[level][0] = entry(mfn_of(tables[level - 1]), all_rights);
    }
    void protect() const {
        for (unsigned level = 1; level < 5; ++level)
            EXPECT_EQUAL(map_read_only(tables[level]), 0);
    }
    /// Nothing may be left that keeps them from being plain pages.
    void expect_free() const {
        for (unsigned level = 1; level < 5; ++level)
            EXPECT_EQUAL(map_writable(tables[level]), 0);
    }
};
Tree& tree() {
    static Tree one;
    return one;
}

void tables_that_refer_to_themselves() {
    // The root in use: writable never, and on Hearth not at all.
    uint64_t const slot = root_frame() * page_size + uint64_t{300} * 8;
    EXPECT(mmu_update(slot, entry(root_frame(), all_rights)) < 0);
    if (mmu_update(slot, entry(root_frame(), read_rights)) == 0) {
        EXPECT(!on_hearth());
        EXPECT(mmu_update(slot, entry(root_frame(), all_rights)) < 0);
        EXPECT_EQUAL(mmu_update(slot, 0), 0);
    }
    Tree& t = tree();
    for (unsigned level = 2; level < 5; ++level) {
        t.protect();
        EXPECT_EQUAL(pin(level, t.tables[level]), 0);
        EXPECT(mmu_update(slot_of(t.tables[level], 5), entry(mfn_of(t.tables[level]), all_rights)) <
               0);
        EXPECT_EQUAL(unpin(t.tables[level]), 0);
        t.expect_free();
        // Already there when it is looked at.
        t.tables[level][7] = entry(mfn_of(t.tables[level]), all_rights);
        t.protect();
        EXPECT(pin(level, t.tables[level]) < 0);
        t.expect_free();
        t.tables[level][7] = 0;
    }
}

/// Two tables of one level that contain each other.
void tables_that_refer_to_each_other() {
    auto* const a = static_cast<uint64_t*>(page());
    auto* const b = static_cast<uint64_t*>(page());
    for (unsigned level = 2; level < 5; ++level) {
        a[0] = entry(mfn_of(b), all_rights);
        b[0] = entry(mfn_of(a), all_rights);
        EXPECT_EQUAL(map_read_only(a), 0);
        EXPECT_EQUAL(map_read_only(b), 0);
        EXPECT(pin(level, a) < 0);
        EXPECT(pin(level, b) < 0);
        EXPECT_EQUAL(map_writable(a), 0);
        EXPECT_EQUAL(map_writable(b), 0);
    }
}

void large_pages_by_every_route() {
    void* const somewhere = page();
    for (unsigned level = 2; level < 5; ++level) {
        uint64_t const at = entry_address(somewhere, level);
        uint64_t const value = read_entry(at);
        for (uint64_t const how :
             {mmu_normal_pt_update, mmu_pt_update_preserve_ad, mmu_pt_update_no_translate}) {
            EXPECT(mmu_update(at | how, value | large) < 0);
            EXPECT(mmu_update(at | how, entry(0, all_rights | large)) < 0);
        }
    }
    Tree& t = tree();
    for (unsigned level = 2; level < 5; ++level) {
        t.tables[level][3] = entry(mfn_of(t.tables[0]) & ~uint64_t{511}, all_rights | large);
        t.protect();
        EXPECT(pin(level, t.tables[level]) < 0);
        t.expect_free();
        t.tables[level][3] = 0;
    }
}

void bits_that_must_be_zero() {
    void* const data = page();
    uint64_t const at = entry_address(data, 1);
    for (unsigned level = 2; level < 5; ++level) {
        uint64_t const above = entry_address(data, level);
        for (unsigned const bit : {3u, 4u, 7u, 8u})
            EXPECT(mmu_update(above, read_entry(above) | uint64_t{1} << bit) < 0);
    }
    // Beyond all memory, and with every bit of an address.
    for (uint64_t const frame : {uint64_t{1} << 28, uint64_t{1} << 36, (uint64_t{1} << 40) - 1}) {
        EXPECT(mmu_update(at, entry(frame, all_rights)) < 0);
        EXPECT(update_va_mapping(data, entry(frame, read_rights)) < 0);
    }
    EXPECT(writable_at(data, 1));
}

void reserved_slots_of_a_root() {
    Tree& t = tree();
    for (unsigned slot = 256; slot < 272; ++slot) {
        uint64_t const at = root_frame() * page_size + slot * 8;
        uint64_t const value = read_entry(at);
        EXPECT(mmu_update(at, 0) < 0);
        EXPECT(mmu_update(at, entry(mfn_of(t.tables[3]), all_rights)) < 0);
        EXPECT(mmu_update(at | mmu_pt_update_preserve_ad, value) < 0);
        EXPECT_EQUAL(read_entry(at), value);
    }
    // A new one that comes with entries of its own there.
    for (unsigned slot = 256; slot < 272; ++slot)
        t.tables[4][slot] = entry(mfn_of(t.tables[0]), all_rights);
    t.tables[4][511] = read_entry(root_frame() * page_size + uint64_t{511} * 8);
    t.protect();
    if (pin(4, t.tables[4]) == 0) {
        for (unsigned slot = 256; slot < 272; ++slot)
            EXPECT(t.tables[4][slot] != entry(mfn_of(t.tables[0]), all_rights));
        EXPECT_EQUAL(mmuext(MmuExtCommand::new_baseptr, mfn_of(t.tables[4])), 0);
        EXPECT(!readable(reinterpret_cast<void*>(0xffff828000200000)));
        EXPECT_EQUAL(mmuext(MmuExtCommand::new_baseptr, root_frame()), 0);
        EXPECT_EQUAL(unpin(t.tables[4]), 0);
    }
    t.expect_free();
    memset(t.tables[4], 0, page_size);
    t.link();
}

void frames_of_others() {
    void* const place = page();
    uint64_t const l1 = entry_address(place, 1);
    for (unsigned n = 0; n < 40; ++n) {
        uint64_t const frame = foreign_frame(n);
        if (frame == 0)
            break;
        EXPECT(update_va_mapping(place, entry(frame, all_rights)) < 0);
        EXPECT(update_va_mapping(place, entry(frame, read_rights)) < 0);
        EXPECT(mmu_update(l1, entry(frame, all_rights)) < 0);
        for (unsigned level = 1; level < 5; ++level)
            EXPECT(mmuext(static_cast<MmuExtCommand>(level - 1), frame) < 0);
        EXPECT(mmuext(MmuExtCommand::unpin_table, frame) < 0);
        EXPECT(mmuext(MmuExtCommand::new_baseptr, frame) < 0);
        EXPECT(mmuext(MmuExtCommand::new_user_baseptr, frame) < 0);
        EXPECT(mmuext(MmuExtCommand::clear_page, frame) < 0);
        EXPECT(mmuext(MmuExtCommand::copy_page, mfn_of(place), frame) < 0);
        EXPECT(mmu_update(frame * page_size | mmu_machphys_update, 5) < 0);
        EXPECT(mmu_update(frame * page_size, entry(mfn_of(place), all_rights)) < 0);
        EXPECT(mmu_update(root_frame() * page_size + 100 * 8, entry(frame, all_rights)) < 0);
        EXPECT(mmu_update(entry_address(place, 2) + 8, entry(frame, all_rights)) < 0);
        EXPECT(mmu_update(entry_address(place, 3) & ~uint64_t{4095}, entry(frame, all_rights)) < 0);
    }
}

/// The table of machine frames is for reading.
void tables_of_the_hypervisor() {
    void* const place = page();
    auto const map_of = [&](uint64_t frame, uint64_t rights, uint16_t owner) {
        return hypercall(Hypercall::update_va_mapping_otherdomain, place, entry(frame, rights),
                         uvmf_invlpg, owner);
    };
    uint64_t frames[4] = {};
    MachphysMfnList list{4, 0, reinterpret_cast<uint64_t>(frames), 0, 0};
    EXPECT_EQUAL(operation(Hypercall::memory_op, MemoryOperation::machphys_mfn_list, &list), 0);
    EXPECT(list.extent_count > 0);
    for (unsigned i = 0; i < list.extent_count; ++i) {
        uint64_t const frame = frames[i];
        EXPECT(map_of(frame, all_rights, domid_xen) < 0);
        EXPECT(map_of(frame, all_rights, self) < 0);
        EXPECT(map_of(frame, all_rights, domid_io) < 0);
    }
    for (unsigned n = 0; n < 20; ++n)
        EXPECT(map_of(foreign_frame(n), all_rights, domid_xen) < 0);
    for (uint16_t const owner : {0x7ff3, 0x7ff4, 0x7fff, 0x8000, 0xffff, 1})
        EXPECT(map_of(mfn_of(place), all_rights, owner) < 0);
    EXPECT_EQUAL(map_writable(place), 0);
    EXPECT(!writable_at(reinterpret_cast<void*>(0xffff800000000000), 0));
}

void shared_frames_become_no_tables() {
    uint64_t const frame = start_info->shared_info / page_size;
    for (unsigned level = 1; level < 5; ++level)
        EXPECT(mmuext(static_cast<MmuExtCommand>(level - 1), frame) < 0);
    EXPECT(mmuext(MmuExtCommand::new_baseptr, frame) < 0);
    EXPECT(hypercall(Hypercall::set_gdt, &frame, 512) < 0);
}

/// More rights by the ways that only change bits of an entry.
void rights_by_small_changes() {
    auto* const table = static_cast<uint64_t*>(page());
    make_table(1, table);
    uint64_t const at = entry_address(table, 1), evil = entry(mfn_of(table), all_rights);
    for (uint64_t const how :
         {mmu_normal_pt_update, mmu_pt_update_preserve_ad, mmu_pt_update_no_translate})
        for (uint64_t const more : {uint64_t{0}, accessed, dirty, accessed | dirty, global,
                                    uint64_t{0xe00}, no_execute}) {
            mmu_update(at | how, entry(mfn_of(table), read_rights | more));
            EXPECT(mmu_update(at | how, entry(mfn_of(table), all_rights | more)) < 0);
            EXPECT(!writable_at(table + 3, evil));
        }
    EXPECT(update_va_mapping(table, entry(mfn_of(table), all_rights), uvmf_none) < 0);
    EXPECT(!writable_at(table + 3, evil));
    EXPECT_EQUAL(map_read_only(table), 0);
    end_table(table);
}

/// A bad entry at each of many places, in each level: whatever was taken before is let go.
void validation_that_fails_late() {
    Tree& t = tree();
    uint64_t const bad[] = {entry(root_frame(), all_rights), entry(foreign_frame(0), all_rights),
                            entry(uint64_t{1} << 38, all_rights)};
    for (unsigned level = 1; level < 5; ++level)
        for (unsigned const place : {1u, 2u, 100u, 255u, 272u, 400u, 511u})
            for (uint64_t const value : bad) {
                t.tables[level][place] = value;
                t.protect();
                for (unsigned top = level; top < 5; ++top)
                    EXPECT(pin(top, t.tables[top]) < 0);
                t.expect_free();
                t.tables[level][place] = 0;
            }
}

/// Each order in which the tables of a tree can be given up.
void pins_given_up_in_any_order() {
    Tree& t = tree();
    for (unsigned order = 0; order < 24; ++order) {
        t.protect();
        for (unsigned level = 1; level < 5; ++level)
            EXPECT_EQUAL(pin(level, t.tables[level]), 0);
        unsigned levels[] = {1, 2, 3, 4};
        for (unsigned i = 0, rest = order; i < 4; rest /= 4 - i, ++i) {
            unsigned const pick = i + rest % (4 - i);
            unsigned const level = levels[pick];
            levels[pick] = levels[i];
            levels[i] = level;
            EXPECT_EQUAL(unpin(t.tables[level]), 0);
            EXPECT(unpin(t.tables[level]) < 0);
            // As long as one above refers to it, it stays a table.
            bool used = level < 4;
            for (unsigned k = 0; k <= i; ++k)
                used = used && levels[k] <= level;
            if (used)
                EXPECT(map_writable(t.tables[level]) < 0);
        }
        t.expect_free();
    }
}

void unpin_what_is_in_use() {
    EXPECT_EQUAL(mmuext(MmuExtCommand::unpin_table, root_frame()), 0);
    EXPECT(mmuext(MmuExtCommand::unpin_table, root_frame()) < 0);
    // It is the root still, and nothing else.
    EXPECT(map_writable(reinterpret_cast<void*>(start_info->page_table_base)) < 0);
    EXPECT(readable(start_info));
    EXPECT_EQUAL(mmuext(MmuExtCommand::pin_l4_table, root_frame()), 0);
    use_user_table();
    EXPECT_EQUAL(run_user([] { asm volatile("nop"); }).done(), true);
}

void roots_that_are_none() {
    void* const data = page();
    auto* const l3 = static_cast<uint64_t*>(page());
    make_table(3, l3);
    for (MmuExtCommand const what : {MmuExtCommand::new_baseptr, MmuExtCommand::new_user_baseptr})
        for (uint64_t const frame :
             {mfn_of(data), mfn_of(l3), foreign_frame(1), ~uint64_t{0}, uint64_t{1} << 40,
              start_info->shared_info / page_size, uint64_t{0xfee00}})
            EXPECT(mmuext(what, frame) < 0);
    EXPECT(mmuext(MmuExtCommand::new_baseptr, 0) < 0);
    end_table(l3);
    // A user process finds nothing where there is no table.
    use_user_table();
    EXPECT_EQUAL(mmuext(MmuExtCommand::new_user_baseptr, 0), 0);
    use_user_table();
}

// --- Races

/// One makes a table of a frame that others map writable, write to and unmap, all the time.
void table_and_data_at_once() {
    auto* const frame = static_cast<uint64_t*>(page());
    void* const others[] = {page(), page(), page(), page()};
    uint64_t const evil = entry(root_frame(), all_rights);
    uint64_t const mfn = mfn_of(frame);
    EXPECT_EQUAL(map_read_only(frame), 0);
    uint64_t writes = 0;
    race(
        400,
        [&] {
            if (pin(1, frame) != 0)
                return;
            for (unsigned i = 0; i < 20; ++i)
                EXPECT_EQUAL(static_cast<uint64_t volatile*>(frame)[9], 0);
            EXPECT_EQUAL(unpin(frame), 0);
        },
        [&] {
            auto* const mine = static_cast<uint64_t*>(others[this_vcpu().id]);
            if (update_va_mapping(mine, entry(mfn, all_rights), uvmf_none) != 0)
                return;
            ++writes;
            attempt([=] {
                __atomic_store_n(&mine[9], evil, __ATOMIC_SEQ_CST);
                __atomic_store_n(&mine[9], 0, __ATOMIC_SEQ_CST);
            });
            update_va_mapping(mine, 0, uvmf_none);
            // What the TLB still knows must not matter.
            attempt([=] { mine[9] = 0; });
            if (writes % 4 == 0)
                yield(); // on few CPUs: lets the other one see it unmapped
        });
    EXPECT(writes > 0); // a pin may have no chance on a busy machine
    for (void* const other : others)
        EXPECT_EQUAL(map_writable(other), 0);
    EXPECT_EQUAL(map_writable(frame), 0);
}

/// A translation that nobody flushed is gone before the frame is a table.
void stale_translations() {
    if (vcpu_count() < 2)
        return;
    static uint64_t* data;
    data = static_cast<uint64_t*>(page());
    auto* const table = static_cast<uint64_t*>(page());
    static bool volatile ready, go, done;
    uint64_t const mfn = mfn_of(table);
    for (unsigned round = 0; round < 20; ++round) {
        ready = false;
        go = false;
        done = false;
        EXPECT_EQUAL(map_read_only(table), 0);
        EXPECT_EQUAL(map_other(data, mfn, all_rights), 0);
        start_on(
            1,
            [](void*) {
                data[1] = 0; // now it is in this CPU's TLB
                ready = true;
                while (!go)
                    ;
                attempt([] { data[2] = 0x7777; });
                done = true;
            },
            nullptr);
        while (!ready)
            yield();
        EXPECT_EQUAL(update_va_mapping(data, 0, uvmf_none), 0);
        EXPECT_EQUAL(pin(1, table), 0);
        go = true;
        while (!done)
            yield();
        EXPECT_EQUAL(static_cast<uint64_t volatile*>(table)[2], 0);
        join(1);
        EXPECT_EQUAL(unpin(table), 0);
    }
    EXPECT_EQUAL(map_writable(data), 0);
    EXPECT_EQUAL(map_writable(table), 0);
}

void pins_at_once() {
    Tree& t = tree();
    t.protect();
    uint64_t const evil = entry(root_frame(), all_rights);
    auto const all = [&] {
        for (unsigned level = 1; level < 5; ++level) {
            pin(level, t.tables[level]);
            pin(level % 4 + 1, t.tables[level]);
            mmu_update(slot_of(t.tables[level], 8 + level),
                       entry(mfn_of(t.tables[level - 1]), read_rights));
            mmu_update(slot_of(t.tables[level], 8 + level), 0);
            unpin(t.tables[level]);
        }
        EXPECT(!writable_at(t.tables[1] + 20, evil));
    };
    race(300, all, all);
    for (unsigned level = 1; level < 5; ++level)
        unpin(t.tables[level]);
    t.expect_free();
    for (unsigned level = 1; level < 5; ++level)
        memset(t.tables[level], 0, page_size);
    t.link();
}

/// The root of one vCPU, changed under another that runs on it.
void root_changed_by_others() {
    Tree& t = tree();
    uint64_t const slot = root_frame() * page_size + uint64_t{9} * 8;
    t.protect();
    auto* const window = reinterpret_cast<uint64_t*>(uint64_t{9} << 39);
    auto const change = [&] {
        mmu_update(slot, entry(mfn_of(t.tables[3]), all_rights));
        attempt([=] { *static_cast<uint64_t volatile*>(window) = 1; });
        mmu_update(slot, 0);
        attempt([=] { *static_cast<uint64_t volatile*>(window) = 1; });
    };
    race(200, change, change);
    mmu_update(slot, 0);
    EXPECT_EQUAL(mmuext(MmuExtCommand::tlb_flush_all, 0), 0);
    EXPECT(!writable_at(window, 1));
    t.expect_free();
}

constexpr Case cases[] = {
    {"tables_that_refer_to_themselves", "XSA-182 XSA-240 XSA-309", tables_that_refer_to_themselves},
    {"tables_that_refer_to_each_other", "XSA-240 XSA-309", tables_that_refer_to_each_other},
    {"large_pages_by_every_route", "XSA-148 XSA-167", large_pages_by_every_route},
    {"bits_that_must_be_zero", "XSA-109 XSA-148", bits_that_must_be_zero},
    {"reserved_slots_of_a_root", "XSA-182 XSA-213", reserved_slots_of_a_root},
    {"frames_of_others", "XSA-109 XSA-113 XSA-248", frames_of_others},
    {"tables_of_the_hypervisor", "XSA-109 XSA-248", tables_of_the_hypervisor},
    {"shared_frames_become_no_tables", "XSA-248", shared_frames_become_no_tables},
    {"rights_by_small_changes", "XSA-148 XSA-182", rights_by_small_changes},
    {"validation_that_fails_late", "XSA-242 XSA-299 XSA-310", validation_that_fails_late},
    {"pins_given_up_in_any_order", "XSA-58 XSA-242", pins_given_up_in_any_order},
    {"unpin_what_is_in_use", "XSA-58 XSA-213", unpin_what_is_in_use},
    {"roots_that_are_none", "XSA-109 XSA-213", roots_that_are_none},
    {"table_and_data_at_once", "XSA-401", table_and_data_at_once},
    {"stale_translations", "XSA-241 XSA-286 XSA-401", stale_translations},
    {"pins_at_once", "XSA-242 XSA-299 XSA-310", pins_at_once},
    {"root_changed_by_others", "XSA-286", root_changed_by_others},
};

} // namespace

void guest_main() { run_cases(cases); }
