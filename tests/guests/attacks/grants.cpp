// Grant tables: what is granted, to whom, for how long; of both versions, and while they change.
// The guest is granter and mapper at once.
#include "library/grants.h"

#include "library/guest.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "grants";
using namespace guest;
using namespace hearth::abi;

namespace {

namespace flag = grant_map;
constexpr uint32_t reference = 20;
constexpr int64_t general_error = +GrantStatus::general_error;

uint64_t at(void const* p) { return reinterpret_cast<uint64_t>(p); }

/// A page that grants are mapped over, and what lies there otherwise.
struct Window {
    void* place = page();
    Window() { EXPECT_EQUAL(unmap(place), 0); }
    ~Window() { EXPECT_EQUAL(map_writable(place), 0); }
};

void begin() {
    set_up_grants();
    EXPECT_EQUAL(set_grant_version(1), 0);
}

void mapping_without_a_grant() {
    begin();
    Window window;
    void* const data = page();
    EXPECT(map_grant(at(window.place), flag::host, reference).status != GrantStatus::okay);
    grant_to(reference, 77, mfn_of(data)); // to another
    EXPECT(map_grant(at(window.place), flag::host, reference).status != GrantStatus::okay);
    grant_to(reference, domain_0, mfn_of(data), grant::readonly);
    EXPECT(map_grant(at(window.place), flag::host, reference).status != GrantStatus::okay);
    for (uint32_t const beyond : {512u, 0x10000u, 0x7fffffffu, 0x80000000u, ~0u}) {
        EXPECT(map_grant(at(window.place), flag::host, beyond).status != GrantStatus::okay);
        EXPECT(map_grant(at(window.place), flag::device, beyond).status != GrantStatus::okay);
    }
    for (uint16_t const domain : {1, 77, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff})
        EXPECT(map_grant(at(window.place), flag::host, reference, domain).status !=
               GrantStatus::okay);
    EXPECT(!readable(window.place));
    EXPECT_EQUAL(uses_of(reference), 0);
    take_back(reference);
}

void mapping_what_is_not_the_granters() {
    begin();
    Window window;
    auto* const table = static_cast<uint64_t*>(page());
    make_table(1, table);
    for (uint64_t const frame : {mfn_of(table), root_frame(), foreign_frame(0), foreign_frame(5),
                                 uint64_t{0xffffffff}, uint64_t{0xfee00}, uint64_t{0x1000000}}) {
        grant_to(reference, domain_0, frame);
        for (uint32_t const how : {flag::host, flag::device, flag::host | flag::device}) {
            GrantMap const map = map_grant(at(window.place), how, reference);
            // Domain 0 may have what is no memory.
            EXPECT(map.status != GrantStatus::okay || (!on_hearth() && frame == 0xfee00));
        }
        EXPECT_EQUAL(uses_of(reference), 0);
    }
    take_back(reference);
    end_table(table);
}

void more_rights_than_granted() {
    begin();
    Window window;
    auto* const data = static_cast<uint64_t*>(page());
    grant_to(reference, domain_0, mfn_of(data), grant::readonly);
    GrantMap const map = map_grant(at(window.place), flag::host | flag::readonly, reference);
    EXPECT_EQUAL(+map.status, 0);
    EXPECT(!writable_at(window.place, 1));
    // The entry is not ours to change by another way.
    uint64_t const entry_at = entry_address(window.place, 1);
    if (mfn_of(data) != 0 && is_ours(mfn_of(data))) {
        // It is our own frame: as a plain mapping we may have it. That must not disturb the grant.
        mmu_update(entry_at, entry(mfn_of(data), present | user));
    }
    unmap_grant(at(window.place), map.handle);
    EXPECT_EQUAL(unmap(window.place), 0);
    grant_v1(reference).flags = 0;
}

void unmapping_something_else() {
    begin();
    Window window;
    auto* const data = static_cast<uint64_t*>(page());
    auto* const other = static_cast<uint64_t*>(page());
    grant_to(reference, domain_0, mfn_of(data));
    GrantMap const map = map_grant(at(window.place), flag::host, reference);
    EXPECT_EQUAL(+map.status, 0);
    for (uint32_t const handle : {map.handle + 1, 1000u, 0x7fffffffu, 0x80000000u, ~0u})
        EXPECT(unmap_grant(at(window.place), handle) != 0);
    for (uint64_t const address :
         {at(other), at(data) + page_size * 1000, uint64_t{0xffff830000000000},
          uint64_t{0x0000800000000000}, uint64_t{0x1000}, ~uint64_t{0}})
        EXPECT(unmap_grant(address, map.handle) != 0);
    EXPECT(uses_of(reference) != 0);
    EXPECT(writable_at(window.place, 5));
    EXPECT(writable_at(other, 5));
    EXPECT_EQUAL(unmap_grant(at(window.place), map.handle), 0);
    EXPECT(unmap_grant(at(window.place), map.handle) != 0);
    EXPECT(!readable(window.place));
    take_back(reference);
}

void mapping_at_bad_addresses() {
    begin();
    void* const data = page();
    auto* const table = static_cast<uint64_t*>(page());
    void* const plain = page();
    make_table(1, table);
    grant_to(reference, domain_0, mfn_of(data));
    for (uint64_t const address :
         {uint64_t{0xffff830000000000}, uint64_t{0xffff828000200000}, uint64_t{0xffff800000000000},
          uint64_t{0x0000800000000000}, uint64_t{0xdead00000000beef}, uint64_t{0x1000},
          uint64_t{0xfffffffffffff000}})
        EXPECT(map_grant(address, flag::host, reference).status != GrantStatus::okay);
    // By the address of an entry: of no table, of others', unaligned, of the root's.
    for (uint64_t const address :
         {mfn_of(plain) * page_size, foreign_frame(0) * page_size, slot_of(table, 1) + 4,
          slot_of(table, 1) + 1, root_frame() * page_size + uint64_t{256} * 8,
          root_frame() * page_size + uint64_t{5} * 8, uint64_t{1} << 50, ~uint64_t{7},
          start_info->shared_info}) {
        GrantMap const map = map_grant(address, flag::host | flag::contains_pte, reference);
        EXPECT(map.status != GrantStatus::okay);
    }
    EXPECT_EQUAL(uses_of(reference), 0);
    GrantMap const map = map_grant(slot_of(table, 7), flag::host | flag::contains_pte, reference);
    EXPECT_EQUAL(+map.status, 0);
    EXPECT(unmap_grant(slot_of(table, 8), map.handle) != 0);
    EXPECT(unmap_grant(mfn_of(plain) * page_size, map.handle) != 0);
    EXPECT_EQUAL(unmap_grant(slot_of(table, 7), map.handle), 0);
    EXPECT_EQUAL(table[7], 0);
    take_back(reference);
    end_table(table);
}

/// What is granted cannot become a table while somebody may write to it.
void tables_of_what_is_granted() {
    begin();
    Window window;
    void* const data = page();
    grant_to(reference, domain_0, mfn_of(data));
    for (uint32_t const how : {flag::host, flag::device, flag::host | flag::device}) {
        GrantMap const map = map_grant(at(window.place), how, reference);
        EXPECT_EQUAL(+map.status, 0);
        EXPECT_EQUAL(map_read_only(data), 0);
        EXPECT(pin(1, data) < 0);
        EXPECT_EQUAL(unmap_grant(how & flag::host ? at(window.place) : 0, map.handle,
                                 how & flag::device ? map.device_address : 0),
                     0);
        EXPECT_EQUAL(uses_of(reference), 0);
        EXPECT_EQUAL(pin(1, data), 0);
        EXPECT(map_grant(at(window.place), how, reference).status != GrantStatus::okay);
        EXPECT_EQUAL(unpin(data), 0);
        EXPECT_EQUAL(map_writable(data), 0);
    }
    take_back(reference);
}

GrantCopy copy_of(uint64_t source, uint16_t source_offset, uint64_t target, uint16_t target_offset,
                  uint16_t length, uint16_t flags) {
    return {{source, self, source_offset, 0},
            {target, self, target_offset, 0},
            length,
            flags,
            GrantStatus::okay,
            0};
}

void copies_with_bad_offsets() {
    begin();
    auto* const from = static_cast<uint8_t*>(page());
    auto* const to = static_cast<uint8_t*>(page());
    memset(from, 0x11, page_size);
    grant_to(reference, domain_0, mfn_of(from));
    grant_to(reference + 1, domain_0, mfn_of(to));
    struct {
        uint16_t from, to, length;
    } const shapes[] = {{1, 0, 4096},
                        {0, 1, 4096},
                        {4095, 0, 2},
                        {0, 4095, 2},
                        {4096, 0, 1},
                        {0, 4096, 1},
                        {0xffff, 0, 1},
                        {0, 0xffff, 1},
                        {0, 0, 4097},
                        {0, 0, 0xffff},
                        {0xffff, 0xffff, 0xffff},
                        {0x8000, 0, 0x8000},
                        {0xfff0, 0, 0x20},
                        {0, 0xfff0, 0x20}};
    for (auto const& s : shapes) {
        EXPECT(copy_grant(copy_of(mfn_of(from), s.from, mfn_of(to), s.to, s.length, 0)) != 0);
        EXPECT(copy_grant(copy_of(reference, s.from, reference + 1, s.to, s.length, 3)) != 0);
    }
    for (unsigned i = 0; i < page_size; ++i)
        EXPECT_EQUAL(to[i], 0);
    EXPECT_EQUAL(copy_grant(copy_of(reference, 4095, reference + 1, 4095, 1, 3)), 0);
    EXPECT_EQUAL(copy_grant(copy_of(reference, 0, reference + 1, 0, 0, 3)), 0);
    EXPECT_EQUAL(to[4095], 0x11);
    take_back(reference);
    take_back(reference + 1);
}

void copies_over_what_is_not_data() {
    begin();
    auto* const from = static_cast<uint64_t*>(page());
    auto* const table = static_cast<uint64_t*>(page());
    for (unsigned i = 0; i < 512; ++i)
        from[i] = entry(root_frame(), all_rights);
    make_table(1, table);
    grant_to(reference, domain_0, mfn_of(from));
    for (uint64_t const target : {mfn_of(table), root_frame(), foreign_frame(0), ~uint64_t{0},
                                  uint64_t{1} << 40, uint64_t{0xfee00}}) {
        EXPECT(copy_grant(copy_of(mfn_of(from), 0, target, 0, 64, 0)) != 0);
        EXPECT(copy_grant(copy_of(reference, 0, target, 0, 64, copy_source_reference)) != 0);
        grant_to(reference + 1, domain_0, target);
        EXPECT(copy_grant(copy_of(mfn_of(from), 0, reference + 1, 0, 64,
                                  copy_destination_reference)) != 0);
    }
    for (uint64_t const source : {foreign_frame(0), ~uint64_t{0}, uint64_t{1} << 40})
        EXPECT(copy_grant(copy_of(source, 0, mfn_of(from), 0, 64, 0)) != 0);
    GrantCopy others = copy_of(mfn_of(from), 0, mfn_of(from), 64, 64, 0);
    for (uint16_t const domain : {1, 77, 0x7ff1, 0x7ff2, 0xffff}) {
        others.destination.domain = domain;
        EXPECT(copy_grant(others) != 0);
    }
    EXPECT_EQUAL(table[0], 0);
    grant_v1(reference + 1).flags = 0;
    take_back(reference);
    end_table(table);
}

/// A grant that stands for a grant that stands for the first.
void transitive_chains() {
    begin();
    if (set_grant_version(2) != 0)
        return;
    auto* const data = static_cast<uint64_t*>(page());
    data[0] = 0x77;
    auto const write = [](uint32_t which, uint16_t flags, uint16_t via, uint64_t what) {
        GrantEntryV2 volatile& entry = grant_v2(which);
        entry.domain = domain_0;
        entry.offset_or_domain = via;
        entry.length = 0;
        entry.frame_or_reference = what;
        __atomic_store_n(&entry.flags, flags, __ATOMIC_SEQ_CST);
    };
    write(20, grant::transitive, domain_0, 21);
    write(21, grant::transitive, domain_0, 20);
    write(22, grant::transitive, domain_0, 22);
    write(23, grant::transitive, domain_0, 0x7fffffff);
    write(24, grant::transitive, 77, 20);
    write(25, grant::transitive, 0x7ff0, 26);
    write(26, grant::permit_access, 0, mfn_of(data));
    write(27, grant::transitive | grant::sub_page, domain_0, 26);
    auto* const to = static_cast<uint64_t*>(page());
    for (uint32_t which = 20; which < 28; ++which) {
        copy_grant(copy_of(which, 0, mfn_of(to), 0, 8, copy_source_reference));
        copy_grant(copy_of(mfn_of(to), 64, which, 64, 8, copy_destination_reference));
        EXPECT(which == 26 ||
               map_grant(at(to), flag::host | flag::readonly, which).status != GrantStatus::okay);
        EXPECT_EQUAL(grant_status(which) & (grant::reading | grant::writing), 0);
    }
    // Only the plain one was copied from: a chain to oneself is none on Hearth.
    EXPECT(to[0] == 0x77 || to[0] == 0);
    for (uint32_t which = 20; which < 28; ++which)
        grant_v2(which).flags = 0;
    EXPECT_EQUAL(set_grant_version(1), 0);
}

void parts_of_pages() {
    begin();
    if (set_grant_version(2) != 0)
        return;
    auto* const data = static_cast<uint8_t*>(page());
    auto* const to = static_cast<uint8_t*>(page());
    memset(data, 0x33, page_size);
    GrantEntryV2 volatile& part = grant_v2(reference);
    part.domain = domain_0;
    part.frame_or_reference = mfn_of(data);
    struct {
        uint16_t offset, length, from, count;
        bool good;
    } const tries[] = {{100, 50, 100, 50, true},      {100, 50, 99, 1, false},
                       {100, 50, 100, 51, false},     {100, 50, 150, 1, false},
                       {0xfff0, 0x20, 0, 16, false},  {0xffff, 0xffff, 0, 1, false},
                       {4090, 4096, 4090, 7, false},  {0, 0, 0, 1, false},
                       {0x8000, 0x8000, 0, 1, false}, {4096, 4096, 4095, 2, false}};
    for (auto const& t : tries) {
        if (t.offset == 0x8000 && !on_hearth())
            continue; // Xen adds in 16 bits
        part.offset_or_domain = t.offset;
        part.length = t.length;
        __atomic_store_n(&part.flags, grant::permit_access | grant::sub_page, __ATOMIC_SEQ_CST);
        memset(to, 0, page_size);
        EXPECT_EQUAL(copy_grant(copy_of(reference, t.from, mfn_of(to), 0, t.count,
                                        copy_source_reference)) == 0,
                     t.good);
        EXPECT_EQUAL(to[0] != 0, t.good);
        EXPECT(map_grant(at(to), flag::host | flag::readonly, reference).status !=
               GrantStatus::okay);
        EXPECT_EQUAL(grant_status(reference) & (grant::reading | grant::writing), 0);
    }
    part.flags = 0;
    EXPECT_EQUAL(set_grant_version(1), 0);
}

void version_switched_under_a_mapping() {
    begin();
    Window window;
    void* const data = page();
    grant_to(reference, domain_0, mfn_of(data));
    GrantMap const map = map_grant(at(window.place), flag::host, reference);
    EXPECT_EQUAL(+map.status, 0);
    GrantSetVersion request{2};
    EXPECT(grant_op(GrantOperation::set_version, &request) < 0);
    EXPECT(uses_of(reference) != 0);
    for (uint32_t const version : {0u, 3u, 0x80000000u, ~0u}) {
        request.version = version;
        EXPECT(grant_op(GrantOperation::set_version, &request) < 0);
    }
    EXPECT_EQUAL(unmap_grant(at(window.place), map.handle), 0);
    take_back(reference);
    for (unsigned i = 0; i < 4; ++i) {
        EXPECT_EQUAL(set_grant_version(2), 0);
        EXPECT_EQUAL(set_grant_version(1), 0);
    }
    // Status frames are there in version 2 only, and no more of them than there are.
    uint64_t frames[4] = {};
    GrantGetStatusFrames status{1, self, GrantStatus::okay, at(frames)};
    EXPECT(grant_op(GrantOperation::get_status_frames, &status) < 0 ||
           status.status != GrantStatus::okay || !on_hearth());
    EXPECT_EQUAL(set_grant_version(2), 0);
    for (uint32_t const count : {1000u, 0x10000u, ~0u}) {
        status = {count, self, GrantStatus::okay, at(frames)};
        EXPECT(grant_op(GrantOperation::get_status_frames, &status) < 0 ||
               status.status != GrantStatus::okay);
    }
    EXPECT_EQUAL(set_grant_version(1), 0);
}

void tables_beyond_their_limit() {
    begin();
    static uint64_t frames[64];
    for (uint32_t const count : {65u, 1000u, 0x10000u, 0x7fffffffu, ~0u})
        EXPECT(setup_table(count, frames) != 0);
    for (uint64_t const list : {uint64_t{0xffff830000000000}, uint64_t{0x0000800000000000}})
        EXPECT(setup_table(1, reinterpret_cast<uint64_t*>(list)) != 0);
    GrantSetupTable other{77, 0, 1, GrantStatus::okay, {}, at(frames)};
    EXPECT(grant_op(GrantOperation::setup_table, &other) < 0 || other.status != GrantStatus::okay);
    GrantSwap swap{5, ~0u, GrantStatus::okay, 0};
    for (uint32_t const beyond : {512u, 0x10000u, 0x7fffffffu, ~0u})
        for (bool const first : {false, true}) {
            swap = {first ? beyond : 9, first ? 9 : beyond, GrantStatus::okay, 0};
            EXPECT(grant_op(GrantOperation::swap_grant_ref, &swap) < 0 ||
                   swap.status != GrantStatus::okay);
        }
    swap = {9, 9, GrantStatus::okay, 0};
    EXPECT_EQUAL(grant_op(GrantOperation::swap_grant_ref, &swap), 0);
    // Lists longer than there can be.
    for (uint64_t const count : {uint64_t{0x80000000}, uint64_t{0xffffffff}})
        for (GrantOperation const what :
             {GrantOperation::map_grant_ref, GrantOperation::unmap_grant_ref, GrantOperation::copy,
              GrantOperation::swap_grant_ref, GrantOperation::transfer, GrantOperation::cache_flush,
              GrantOperation::setup_table})
            EXPECT(grant_op(what, frames, count) < 0);
    EXPECT(grant_op(GrantOperation::cache_flush, static_cast<uint64_t*>(nullptr), 1) < 0);
    EXPECT(grant_op(static_cast<GrantOperation>(13), frames) < 0);
}

void frames_do_not_change_hands() {
    begin();
    auto* const data = static_cast<uint64_t*>(page());
    for (uint16_t const domain : {domain_0, self, uint16_t{77}})
        for (uint64_t const frame : {mfn_of(data), root_frame(), foreign_frame(0), ~uint64_t{0}}) {
            GrantTransfer transfer{frame, domain, 0, reference, GrantStatus::okay, {}};
            EXPECT(grant_op(GrantOperation::transfer, &transfer) < 0 ||
                   transfer.status != GrantStatus::okay);
        }
    EXPECT(writable_at(data, 1));
}

/// The entry is written over while it is used; what was begun ends as it began.
void entries_that_lie() {
    begin();
    Window window;
    void* const data = page();
    void* const other = page();
    grant_to(reference, domain_0, mfn_of(data));
    GrantMap const map = map_grant(at(window.place), flag::host, reference);
    EXPECT_EQUAL(+map.status, 0);
    for (uint16_t const flags : {0, 1, 2, 3, 0x1f, 0xffff, 0x1234}) {
        grant_v1(reference).flags = flags;
        grant_v1(reference).domain = 77;
        grant_v1(reference).frame = static_cast<uint32_t>(mfn_of(other));
        // As long as it is in use, it is what it was.
        GrantMap const second = map_grant(at(other), flag::host, reference);
        if (second.status == GrantStatus::okay) {
            EXPECT_EQUAL(unmap_grant(at(other), second.handle), 0);
            EXPECT_EQUAL(map_writable(other), 0);
        }
        copy_grant(copy_of(reference, 0, mfn_of(other), 0, 8, copy_source_reference));
    }
    EXPECT_EQUAL(unmap_grant(at(window.place), map.handle), 0);
    EXPECT_EQUAL(pin(1, data), inval); // it is mapped writable where it always was
    grant_v1(reference).flags = 0;
}

/// Maps, unmaps, versions and copies, all at once, of the same references.
void everything_at_once() {
    begin();
    static void* windows[] = {page(), page(), page(), page()};
    static void* data;
    data = page();
    for (void* const window : windows)
        EXPECT_EQUAL(unmap(window), 0);
    auto const all = [] {
        void* const mine = windows[this_vcpu().id];
        grant_to(reference, domain_0, mfn_of(data));
        GrantMap const map = map_grant(at(mine), flag::host, reference);
        copy_grant(copy_of(reference, 0, mfn_of(data), 64, 64, copy_source_reference));
        GrantSetVersion version{2};
        grant_op(GrantOperation::set_version, &version);
        if (map.status == GrantStatus::okay) {
            EXPECT(writable_at(mine, 1));
            // Another may be trying the same handle with an address of its own.
            // The emulator may stop that one's CPU in the middle of it, for as long as it likes.
            constexpr unsigned most_tries = 1'000'000;
            int64_t status = unmap_grant(at(mine), map.handle);
            for (unsigned tries = 0; status != 0 && tries < most_tries; ++tries) {
                yield();
                status = unmap_grant(at(mine), map.handle);
            }
            EXPECT_EQUAL(status, 0);
            EXPECT(!writable_at(mine, 1));
        }
        unmap_grant(at(mine), map.handle + 1);
        version = {1};
        grant_op(GrantOperation::set_version, &version);
        GrantSwap swap{reference, reference + 1, GrantStatus::okay, 0};
        grant_op(GrantOperation::swap_grant_ref, &swap);
    };
    race(300, all, all);
    EXPECT_EQUAL(set_grant_version(1), 0);
    EXPECT_EQUAL(uses_of(reference), 0);
    EXPECT_EQUAL(uses_of(reference + 1), 0);
    // Nobody has it any more.
    EXPECT_EQUAL(map_read_only(data), 0);
    EXPECT_EQUAL(pin(1, data), 0);
    end_table(data);
    for (void* const window : windows)
        EXPECT_EQUAL(map_writable(window), 0);
}

/// The same handle, given up by all at once: it counts once.
void one_handle_for_all() {
    begin();
    static void* window;
    window = page();
    void* const data = page();
    static uint32_t volatile handle;
    static uint64_t volatile unmapped;
    EXPECT_EQUAL(unmap(window), 0);
    unmapped = 0;
    uint64_t mapped = 0;
    race(
        200,
        [&] {
            grant_to(reference, domain_0, mfn_of(data));
            GrantMap const map = map_grant(at(window), flag::host, reference);
            if (map.status != GrantStatus::okay)
                return;
            ++mapped;
            handle = map.handle;
            unmap_grant(at(window), map.handle);
            while (readable(window)) // what is mapped over is lost to its handle
                yield();
        },
        [] { unmap_grant(at(window), handle); });
    unmap_grant(at(window), handle);
    EXPECT(mapped > 0);
    EXPECT_EQUAL(uses_of(reference), 0);
    EXPECT_EQUAL(map_read_only(data), 0);
    EXPECT_EQUAL(pin(1, data), 0);
    end_table(data);
    EXPECT_EQUAL(map_writable(window), 0);
}

constexpr Case cases[] = {
    {"mapping_without_a_grant", "XSA-227 XSA-316", mapping_without_a_grant},
    {"mapping_what_is_not_the_granters", "XSA-224 XSA-227", mapping_what_is_not_the_granters},
    {"more_rights_than_granted", "XSA-230 XSA-234", more_rights_than_granted},
    {"unmapping_something_else", "XSA-234 XSA-394", unmapping_something_else},
    {"mapping_at_bad_addresses", "XSA-227", mapping_at_bad_addresses},
    {"tables_of_what_is_granted", "XSA-224 XSA-234", tables_of_what_is_granted},
    {"copies_with_bad_offsets", "XSA-226 XSA-318", copies_with_bad_offsets},
    {"copies_over_what_is_not_data", "XSA-226", copies_over_what_is_not_data},
    {"transitive_chains", "XSA-226 XSA-411", transitive_chains},
    {"parts_of_pages", "XSA-226", parts_of_pages},
    {"version_switched_under_a_mapping", "XSA-26 XSA-255 XSA-379 XSA-382",
     version_switched_under_a_mapping},
    {"tables_beyond_their_limit", "XSA-18 XSA-24 XSA-134 XSA-232", tables_beyond_their_limit},
    {"frames_do_not_change_hands", "XSA-214 XSA-217 XSA-284", frames_do_not_change_hands},
    {"entries_that_lie", "XSA-224 XSA-230", entries_that_lie},
    {"everything_at_once", "XSA-218 XSA-236 XSA-255", everything_at_once},
    {"one_handle_for_all", "XSA-218 XSA-228", one_handle_for_all},
};

} // namespace

void guest_main() { run_cases(cases); }
