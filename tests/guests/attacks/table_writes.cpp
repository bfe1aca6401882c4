// Page tables written by plain instructions, which the hypervisor carries out: over borders, in
// parts, by odd instructions, from user mode, and all at once.
#include "library/guest.h"
#include "library/pv/user.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "table_writes";
using namespace guest;
using namespace hearth::abi;

namespace {

uint64_t* table; // an L1 table, pinned, mapped for reading
uint64_t* after; // the page behind it
uint64_t good, evil;

void prepare() {
    EXPECT_EQUAL(hypercall(Hypercall::vm_assist, 0, VmAssist::writable_pagetables), 0);
    table = static_cast<uint64_t*>(page());
    after = static_cast<uint64_t*>(page());
    EXPECT(table + 512 == after);
    make_table(1, table);
    good = entry(mfn_of(after), present | user);
    evil = entry(mfn_of(table), all_rights);
}

/// No entry gives anything but a page of ours, or what may be a device of Domain 0's, and the table
/// itself not for writing.
void expect_sound() {
    auto const end = static_cast<uint64_t>(
        operation(Hypercall::memory_op, MemoryOperation::maximum_ram_page, nullptr));
    for (unsigned i = 0; i < 512; ++i) {
        uint64_t const value = static_cast<uint64_t volatile*>(table)[i];
        uint64_t const frame = value >> 12 & 0xffffffffff;
        EXPECT(!(value & present) || frame < 0x100 || frame >= end || is_ours(frame));
        EXPECT(!(value & present) || !(value & writable) || frame != mfn_of(table));
    }
}
void clear_all() {
    for (unsigned i = 0; i < 512; ++i)
        if (table[i] != 0)
            EXPECT_EQUAL(mmu_update(slot_of(table, i), 0), 0);
}
/// As though nobody emulated it.
void expect_refused(Fault const& fault) { EXPECT_EQUAL(fault.vector, 14); }

void bad_entries_by_each_width() {
    auto* const bytes = reinterpret_cast<uint8_t*>(table + 4);
    expect_refused(attempt([] { *static_cast<uint64_t volatile*>(table + 4) = evil; }));
    // First the upper part, which does not matter yet, then the present bit.
    survives([=] { *reinterpret_cast<uint32_t volatile*>(bytes + 4) = evil >> 32; });
    expect_refused(attempt(
        [=] { *reinterpret_cast<uint32_t volatile*>(bytes) = static_cast<uint32_t>(evil); }));
    for (unsigned i = 1; i < 8; ++i)
        survives([=] {
            *static_cast<uint8_t volatile*>(bytes + i) = static_cast<uint8_t>(evil >> i * 8);
        });
    expect_refused(
        attempt([=] { *static_cast<uint8_t volatile*>(bytes) = static_cast<uint8_t>(evil); }));
    expect_sound();
    clear_all();
    // The present bit first, of what is harmless, and the frame under it afterwards.
    EXPECT(survives([] { *static_cast<uint64_t volatile*>(table + 4) = good; }));
    for (unsigned i = 0; i < 8; ++i)
        survives([=] {
            *static_cast<uint8_t volatile*>(bytes + i) = static_cast<uint8_t>(evil >> i * 8);
        });
    for (uint64_t const bit : {writable, large, global, uint64_t{1} << 51, uint64_t{1} << 40})
        survives([=] {
            asm volatile("lock orq %1, (%0)" : : "r"(table + 4), "r"(bit) : "memory");
        });
    expect_sound();
    clear_all();
}

void writes_over_borders() {
    auto* const bytes = reinterpret_cast<uint8_t*>(table);
    // Over two entries, into the next page, and from the page before.
    for (unsigned const at : {3u, 9u, 12u, 4089u, 4092u, 4095u}) {
        attempt([=] { *reinterpret_cast<uint64_t volatile*>(bytes + at) = evil; });
        attempt([=] { *reinterpret_cast<uint64_t volatile*>(bytes + at) = ~uint64_t{0}; });
        attempt([=] {
            asm volatile("lock xaddq %0, (%1)" : : "r"(evil), "r"(bytes + at) : "memory");
        });
        attempt([=] {
            asm volatile("cmpxchgq %0, (%1)" : : "r"(evil), "r"(bytes + at), "a"(0) : "memory");
        });
    }
    expect_sound();
    auto* const before = static_cast<uint64_t*>(page());
    auto* const second = static_cast<uint64_t*>(page());
    make_table(1, second);
    EXPECT(before + 512 == second);
    attempt([=] {
        *reinterpret_cast<uint64_t volatile*>(reinterpret_cast<uint8_t*>(second) - 4) =
            evil << 32 | 7;
    });
    EXPECT(second[0] == 0);
    end_table(second);
    clear_all();
}

/// Xen has bits of its own in entries.
bool same(uint64_t a, uint64_t b) {
    constexpr uint64_t frame = 0xf'ffff'ffff'f000;
    return ((a ^ b) & (frame | present | writable)) == 0;
}

/// Each gives back what was there, or changes nothing.
void exchanged_entries() {
    uint64_t value = 0;
    auto const exchange = [&](uint64_t with) {
        value = with;
        return attempt([&] {
            asm volatile("xchg %0, (%1)" : "+r"(value) : "r"(table + 4) : "memory");
        });
    };
    exchange(good);
    EXPECT(value == 0 && same(table[4], good));
    expect_refused(exchange(evil));
    EXPECT(value == evil && same(table[4], good));
    exchange(good | writable);
    EXPECT(same(value, good) && same(table[4], good | writable));
    exchange(0);
    EXPECT(same(value, good | writable) && table[4] == 0);
    EXPECT_EQUAL(map_writable(after), 0); // no reference is left
    // The register that says where is the one that gets the former value. What it says maps
    // nothing.
    uint64_t const where = value = reinterpret_cast<uint64_t>(table + 4);
    EXPECT(survives([&] { asm volatile("xchg %0, (%0)" : "+r"(value) : : "memory"); }));
    EXPECT(value == 0 && table[4] == where);
    clear_all();
    expect_sound();
}

void repeated_strings() {
    uint64_t list[16];
    for (uint64_t& value : list)
        value = evil;
    auto const copy = [&](uint64_t* to, uint64_t count, bool backwards) {
        attempt([&] {
            uint64_t const* from = backwards ? list + count - 1 : list;
            if (backwards)
                asm volatile("std; rep movsq; cld"
                             : "+S"(from), "+D"(to), "+c"(count)
                             :
                             : "memory");
            else
                asm volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
        });
        asm volatile("cld");
    };
    copy(table + 8, 16, false);
    copy(table + 504, 16, false); // out of its end
    copy(table + 20, 16, true);
    copy(table + 3, 16, true); // out of its beginning
    expect_sound();
    attempt([] {
        uint64_t* to = table;
        uint64_t count = 1024;
        asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(evil) : "memory");
    });
    attempt([] {
        uint64_t* to = table + 500;
        uint64_t count = ~uint64_t{0};
        asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0xff) : "memory");
    });
    // From a table to itself, and from the hypervisor's memory.
    attempt([] {
        uint64_t* to = table;
        auto const* from = reinterpret_cast<uint64_t const*>(0xffff828000200000);
        asm volatile("movsq" : "+S"(from), "+D"(to) : : "memory");
    });
    expect_sound();
    clear_all();
    memset(after, 0, page_size);
}

void odd_instructions() {
    attempt([] {
        uint64_t low = 0, high = 0;
        asm volatile("lock cmpxchg16b (%2)"
                     : "+a"(low), "+d"(high)
                     : "r"(table + 6), "b"(evil), "c"(evil)
                     : "memory");
    });
    attempt([] {
        asm volatile("lock cmpxchg8b (%0)"
                     :
                     : "r"(table + 6), "a"(0), "d"(0), "b"(static_cast<uint32_t>(evil)),
                       "c"(evil >> 32)
                     : "memory");
    });
    // Bit offsets that reach far from the address.
    for (int64_t const offset : {int64_t{0}, int64_t{1}, int64_t{-64}, int64_t{4096 * 8},
                                 int64_t{1} << 40, -(int64_t{1} << 40)})
        attempt([=] {
            asm volatile("lock btsq %1, (%0)" : : "r"(table + 10), "r"(offset) : "memory");
        });
    attempt([] { asm volatile("movnti %1, (%0)" : : "r"(table + 11), "r"(evil) : "memory"); });
    attempt([] {
        asm volatile("movq %1, %%xmm0; punpcklqdq %%xmm0, %%xmm0; movdqa %%xmm0, (%0)"
                     :
                     : "r"(table + 12), "r"(evil)
                     : "memory");
    });
    attempt([] { asm volatile("fxsave (%0)" : : "r"(table + 64) : "memory"); });
    if (on_hearth()) // Xen 4.17.7 calls a function there that it has not
        attempt([] { asm volatile("fldpi; fstpl (%0)" : : "r"(table + 13) : "memory"); });
    attempt([] { asm volatile("sgdt (%0)" : : "r"(table + 14) : "memory"); });
    attempt([] { asm volatile("xchg %1, (%0)" : : "r"(table + 15), "r"(evil) : "memory"); });
    attempt([] { asm volatile("lock incq (%0)" : : "r"(table + 16) : "memory"); });
    attempt([] { asm volatile("addq %1, (%0)" : : "r"(table + 16), "r"(evil) : "memory"); });
    expect_sound();
    clear_all();
}

void tables_above_the_lowest() {
    auto* const l2 = static_cast<uint64_t*>(page());
    make_table(2, l2);
    // Xen emulates these, too; neither takes an evil one.
    attempt([=] { static_cast<uint64_t volatile*>(l2)[1] = entry(mfn_of(table), all_rights); });
    expect_refused(
        attempt([=] { static_cast<uint64_t volatile*>(l2)[2] = entry(mfn_of(l2), all_rights); }));
    expect_refused(
        attempt([=] { static_cast<uint64_t volatile*>(l2)[3] = entry(0, all_rights | large); }));
    auto* const root = reinterpret_cast<uint64_t*>(start_info->page_table_base);
    for (unsigned slot : {256u, 271u})
        expect_refused(attempt([=] { static_cast<uint64_t volatile*>(root)[slot] = 0; }));
    EXPECT_EQUAL(mmu_update(slot_of(l2, 1), 0), 0);
    end_table(l2);
}

void nothing_for_user_mode() {
    use_user_table();
    for (uint64_t const value : {good, evil, uint64_t{0}}) {
        UserExit const left =
            run_user([=] { *static_cast<uint64_t volatile*>(table + 30) = value; });
        EXPECT_EQUAL(left.vector, 14);
        EXPECT_EQUAL(left.error & 7, 7);
    }
    EXPECT_EQUAL(table[30], 0);
}

/// What is a descriptor table, a table of others or a read-only page is not written to for anybody.
void nothing_but_page_tables() {
    auto* const descriptors = static_cast<uint64_t*>(page());
    EXPECT_EQUAL(map_read_only(descriptors), 0);
    uint64_t const frame = mfn_of(descriptors);
    EXPECT_EQUAL(hypercall(Hypercall::set_gdt, &frame, 512), 0);
    expect_refused(attempt([=] { *static_cast<uint64_t volatile*>(descriptors) = 0x123; }));
    EXPECT_EQUAL(hypercall(Hypercall::set_gdt, &frame, 0), 0);
    expect_refused(attempt([=] { *static_cast<uint64_t volatile*>(descriptors) = 0x123; }));
    EXPECT_EQUAL(descriptors[0], 0);
    EXPECT_EQUAL(map_writable(descriptors), 0);
    expect_refused(attempt([] { *reinterpret_cast<uint64_t volatile*>(0xffff800000000000) = 0; }));
}

void the_same_entries_at_once() {
    auto const all = [] {
        for (unsigned i = 0; i < 8; ++i) {
            attempt([=] { static_cast<uint64_t volatile*>(table)[i] = good; });
            attempt([=] { static_cast<uint64_t volatile*>(table)[i] = evil; });
            attempt([=] {
                asm volatile("lock xorq %1, (%0)" : : "r"(table + i), "r"(good ^ evil) : "memory");
            });
            mmu_update(slot_of(table, i), good);
            attempt([=] { static_cast<uint64_t volatile*>(table)[i] = 0; });
            attempt([=] {
                uint64_t value = i % 2 ? evil : good;
                asm volatile("xchg %0, (%1)" : "+r"(value) : "r"(table + i) : "memory");
            });
        }
    };
    race(300, all, all);
    expect_sound();
    clear_all();
    // All references are back.
    EXPECT_EQUAL(map_writable(after), 0);
    end_table(table);
}

/// A table that stops being one while it is written to.
void a_table_that_comes_and_goes() {
    EXPECT_EQUAL(map_read_only(table), 0);
    auto const all = [] {
        pin(1, table);
        attempt([] { static_cast<uint64_t volatile*>(table)[3] = good; });
        attempt([] { static_cast<uint64_t volatile*>(table)[5] = evil; });
        unpin(table);
    };
    race(200, all, all);
    unpin(table);
    expect_sound();
    EXPECT_EQUAL(map_writable(table), 0);
}

constexpr Case cases[] = {
    {"bad_entries_by_each_width", "XSA-182 XSA-286", bad_entries_by_each_width},
    {"writes_over_borders", "XSA-123", writes_over_borders},
    {"exchanged_entries", "XSA-242", exchanged_entries},
    {"repeated_strings", "XSA-123 XSA-45", repeated_strings},
    {"odd_instructions", "XSA-195 XSA-200", odd_instructions},
    {"tables_above_the_lowest", "XSA-182 XSA-185", tables_above_the_lowest},
    {"nothing_for_user_mode", "XSA-106", nothing_for_user_mode},
    {"nothing_but_page_tables", "XSA-248", nothing_but_page_tables},
    {"the_same_entries_at_once", "XSA-242 XSA-401", the_same_entries_at_once},
    {"a_table_that_comes_and_goes", "XSA-299 XSA-401", a_table_that_comes_and_goes},
};

} // namespace

void guest_main() {
    prepare();
    run_cases(cases);
}
