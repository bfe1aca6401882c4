// Memory that a guest asks for, gives back and exchanges; what it is told of the machine's.
#include "library/grants.h"
#include "library/guest.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "memory";
using namespace guest;
using namespace hearth::abi;

namespace {

constexpr uint64_t hypervisor_at = 0xffff830000000000;

template <class T>
int64_t memory_op(MemoryOperation what, T const& argument, uint64_t start = 0) {
    return hypercall(Hypercall::memory_op, static_cast<uint64_t>(what) | start << 6,
                     reinterpret_cast<uint64_t>(&argument));
}
MemoryReservation reservation(uint64_t const* list, uint64_t count, uint32_t order = 0,
                              uint16_t domain = self) {
    return {reinterpret_cast<uint64_t>(list), count, order, 0, domain, {}};
}
int64_t current() {
    return memory_op(MemoryOperation::current_reservation, DomainIdArgument{self});
}
int64_t maximum() {
    return memory_op(MemoryOperation::maximum_reservation, DomainIdArgument{self});
}
int64_t give_back(uint64_t frame, uint32_t order = 0) {
    return memory_op(MemoryOperation::decrease_reservation, reservation(&frame, 1, order));
}
int64_t ask_for(uint64_t* list, uint64_t count, uint32_t order = 0) {
    return memory_op(MemoryOperation::increase_reservation, reservation(list, count, order));
}

/// A frame that is nowhere mapped: a page of ours, taken out of its place.
uint64_t unmapped_frame(void* of) {
    EXPECT_EQUAL(unmap(of), 0);
    return mfn_of(of);
}

/// Puts a frame where the page was, for the next case.
void mend(void* place, uint64_t frame) {
    EXPECT_EQUAL(map_other(place, frame, all_rights), 0);
    // Where the library looks a page's frame up.
    reinterpret_cast<uint64_t*>(start_info->p2m_list)[pfn_of(place)] = frame;
    EXPECT_EQUAL(mmu_update(frame * page_size | mmu_machphys_update, pfn_of(place)), 0);
}

MemoryExchange exchange_of(uint64_t* in, uint64_t in_count, uint32_t in_order, uint64_t* out,
                           uint64_t out_count, uint32_t out_order) {
    return {reservation(in, in_count, in_order), reservation(out, out_count, out_order), 0};
}

void exchange_in_place() {
    void* const place = page();
    int64_t const before = current();
    uint64_t list[1] = {unmapped_frame(place)};
    uint64_t const old = list[0];
    MemoryExchange x = exchange_of(list, 1, 0, list, 1, 0); // the same list for both
    int64_t const result = memory_op(MemoryOperation::exchange, x);
    EXPECT_EQUAL(current(), before);
    mend(place, result == 0 ? list[0] : old);
    EXPECT(writable_at(place, 1));
}

/// Lists that overlap: what one chunk writes is what the next reads.
void exchange_with_lists_that_overlap() {
    void* const first = page();
    void* const second = page();
    int64_t const before = current();
    uint64_t const frames[2] = {unmapped_frame(first), unmapped_frame(second)};
    uint64_t list[3] = {frames[0], frames[1], 0};
    MemoryExchange x = exchange_of(list, 2, 0, list + 1, 2, 0);
    memory_op(MemoryOperation::exchange, x);
    EXPECT(current() <= before);
    // The place where a new frame was put is the next one to give.
    x = exchange_of(list + 1, 2, 0, list, 2, 0);
    memory_op(MemoryOperation::exchange, x);
    EXPECT(current() <= before);
    uint64_t fresh[2];
    ask_for(fresh, static_cast<uint64_t>(before - current()));
}

void exchange_into_the_hypervisor() {
    void* const place = page();
    uint64_t const frame = unmapped_frame(place);
    uint64_t list[1];
    int64_t const before = current();
    for (uint64_t const target :
         {hypervisor_at, uint64_t{0xffff828000200000}, uint64_t{0xffff87fffffffff8},
          uint64_t{0xffff7ffffffffffc}, uint64_t{0x00007ffffffffffc}, ~uint64_t{0} - 3}) {
        list[0] = frame;
        MemoryExchange wild = exchange_of(list, 1, 0, reinterpret_cast<uint64_t*>(target), 1, 0);
        EXPECT(memory_op(MemoryOperation::exchange, wild) < 0);
        wild = exchange_of(reinterpret_cast<uint64_t*>(target), 1, 0, list, 1, 0);
        EXPECT(memory_op(MemoryOperation::exchange, wild) < 0);
        EXPECT(current() <= before);
    }
    // A list that can be read, but not written to: what was made for it is given back.
    void* const constant = page();
    EXPECT_EQUAL(map_read_only(constant), 0);
    list[0] = frame;
    MemoryExchange x = exchange_of(list, 1, 0, static_cast<uint64_t*>(constant), 1, 0);
    EXPECT(memory_op(MemoryOperation::exchange, x) < 0 || !on_hearth());
    EXPECT(current() <= before);
    EXPECT_EQUAL(map_writable(constant), 0);
    // How far it has come, given by the guest: beyond its end, and such that it comes back to it.
    for (uint64_t const done : {uint64_t{1}, uint64_t{2}, ~uint64_t{0}, uint64_t{1} << 61,
                                uint64_t{0xffff828000200000} / 8}) {
        list[0] = frame;
        x = exchange_of(list, 1, 0, list, 1, 0);
        x.exchanged = done;
        memory_op(MemoryOperation::exchange, x);
    }
    EXPECT(current() <= before);
}

void exchange_of_sizes_that_differ() {
    uint64_t list[4] = {mfn_of(page()), 0, 0, 0};
    int64_t const before = current();
    struct {
        uint64_t in, out;
        uint32_t in_order, out_order;
    } const shapes[] = {{1, 2, 0, 0},
                        {2, 1, 0, 0},
                        {1, 1, 0, 9},
                        {1, 1, 9, 0},
                        {1, 1, 64, 64},
                        {1, 1, 63, 63},
                        {uint64_t{1} << 60, 1, 0, 60},
                        {1, 1, 0xffffffff, 0xffffffff},
                        {~uint64_t{0}, ~uint64_t{0}, 0, 0},
                        {uint64_t{1} << 63, uint64_t{1} << 63, 1, 1}};
    for (auto const& s : shapes) {
        MemoryExchange x = exchange_of(list, s.in, s.in_order, list, s.out, s.out_order);
        EXPECT(memory_op(MemoryOperation::exchange, x) < 0);
        x.out.domain = domain_0;
        EXPECT(memory_op(MemoryOperation::exchange, x) < 0);
        x.in.domain = x.out.domain = 77;
        EXPECT(memory_op(MemoryOperation::exchange, x) < 0);
    }
    EXPECT_EQUAL(current(), before);
}

/// What is mapped, a table, shared with the hypervisor or somebody else's stays what it is.
void exchange_of_frames_in_use() {
    auto* const table = static_cast<uint64_t*>(page());
    void* const data = page();
    make_table(1, table);
    set_up_grants();
    int64_t const before = current();
    for (uint64_t const frame :
         {mfn_of(table), mfn_of(data), root_frame(), start_info->shared_info / page_size,
          foreign_frame(0), ~uint64_t{0}, grant_frame()}) {
        uint64_t list[1] = {frame}, out[1] = {5};
        MemoryExchange x = exchange_of(list, 1, 0, out, 1, 0);
        EXPECT(memory_op(MemoryOperation::exchange, x) < 0);
        EXPECT_EQUAL(current(), before);
    }
    EXPECT(writable_at(data, 1));
    end_table(table);
    // One twice.
    uint64_t const frame = unmapped_frame(data);
    uint64_t list[2] = {frame, frame}, out[2] = {5, 6};
    MemoryExchange x = exchange_of(list, 2, 0, out, 2, 0);
    memory_op(MemoryOperation::exchange, x);
    EXPECT(current() <= before);
    x = exchange_of(list, 2, 0, out, 1, 1);
    EXPECT(memory_op(MemoryOperation::exchange, x) < 0);
}

void extents_that_cannot_be() {
    uint64_t list[2] = {0, 1};
    int64_t const before = current();
    for (MemoryOperation const what :
         {MemoryOperation::increase_reservation, MemoryOperation::decrease_reservation,
          MemoryOperation::populate_physmap})
        for (uint32_t const order : {19u, 20u, 31u, 32u, 52u, 63u, 64u, 255u, 0x80000000u, ~0u}) {
            EXPECT(memory_op(what, reservation(list, 1, order)) <= 0);
            EXPECT(memory_op(what, reservation(list, ~uint64_t{0}, order)) <= 0);
        }
    for (uint64_t const target : {hypervisor_at, ~uint64_t{0} - 3, uint64_t{0x0000800000000000}}) {
        auto* const bad = reinterpret_cast<uint64_t*>(target);
        EXPECT(memory_op(MemoryOperation::decrease_reservation, reservation(bad, 1)) <= 0);
        EXPECT(memory_op(MemoryOperation::populate_physmap, reservation(bad, 1)) <= 0);
    }
    EXPECT_EQUAL(current(), before);
    // How far it has come, beyond its end.
    EXPECT(memory_op(MemoryOperation::decrease_reservation, reservation(list, 1),
                     uint64_t{1} << 50) >= -38);
    EXPECT_EQUAL(current(), before);
}

void no_more_than_the_maximum() {
    static uint64_t frames[1024];
    int64_t const before = current(), most = maximum();
    int64_t got = 0;
    for (uint32_t const order : {0u, 3u, 9u})
        if (int64_t const done = ask_for(frames, 16, order); done > 0) {
            EXPECT(current() <= most || most <= 0);
            EXPECT_EQUAL(current(), before + (done << order));
            EXPECT_EQUAL(memory_op(MemoryOperation::decrease_reservation,
                                   reservation(frames, static_cast<uint64_t>(done), order)),
                         done);
            got += done;
        }
    EXPECT_EQUAL(current(), before);
    // Of what other node, and within how many bits: nothing that an index could be made of.
    MemoryReservation request = reservation(frames, 1);
    for (uint32_t const flags : {0x1u, 0xffu, 0x100u, 0xff00u, 0xffffff00u, 0x3f00u, ~0u}) {
        request.flags = flags;
        if (memory_op(MemoryOperation::increase_reservation, request) == 1)
            EXPECT_EQUAL(give_back(frames[0]), 1);
    }
    EXPECT_EQUAL(current(), before);
    static_cast<void>(got);
}

/// Frames that come from others carry nothing of theirs.
void new_memory_is_empty() {
    void* const place = page();
    static uint64_t frames[64];
    int64_t const got = ask_for(frames, 64);
    for (int64_t i = 0; i < got; ++i) {
        EXPECT_EQUAL(map_other(place, frames[i], all_rights), 0);
        auto* const words = static_cast<uint64_t volatile*>(place);
        bool empty = true;
        for (unsigned k = 0; k < 512; ++k)
            empty = empty && words[k] == 0;
        // Xen does not scrub at start-up, nor what a domain gets back.
        EXPECT(empty || !on_hearth());
        for (unsigned k = 0; k < 512; ++k)
            words[k] = 0x5ec4e7;
    }
    mend(place, mfn_of(place));
    for (int64_t i = 0; i < got; ++i)
        EXPECT_EQUAL(give_back(frames[i]), 1);
    for (unsigned round = 0; round < 3; ++round) {
        if (ask_for(frames, 1) != 1)
            return;
        EXPECT_EQUAL(map_other(place, frames[0], all_rights), 0);
        EXPECT(*static_cast<uint64_t volatile*>(place) != 0x5ec4e7 || !on_hearth());
        mend(place, mfn_of(place));
        EXPECT_EQUAL(give_back(frames[0]), 1);
    }
}

void give_back_what_is_not_ours() {
    set_up_grants();
    int64_t const before = current();
    for (uint64_t const frame :
         {start_info->shared_info / page_size, foreign_frame(0), foreign_frame(3), ~uint64_t{0},
          uint64_t{1} << 40, grant_frame(), uint64_t{0xfee00}}) {
        // Xen lets a domain do away with what it shares with it.
        EXPECT(give_back(frame) <= 0 || (!on_hearth() && frame != foreign_frame(0)));
    }
    EXPECT(current() <= before);
    EXPECT(shared->vcpu_info[0].time.tsc_to_system_mul != 0);
}

/// A frame that is given back while it is mapped stays where it is until it is not; then it is
/// gone.
void give_back_what_is_mapped() {
    auto* const data = static_cast<uint64_t*>(page());
    data[1] = 0x1234;
    uint64_t const frame = mfn_of(data);
    int64_t const done = give_back(frame);
    for (unsigned i = 0; i < 20; ++i) {
        uint64_t fresh = 0;
        ask_for(&fresh, 1);
        EXPECT(fresh != frame);
    }
    EXPECT_EQUAL(data[1], 0x1234);
    give_back(frame);
    if (done == 1)
        EXPECT(pin(1, data) < 0);
    EXPECT_EQUAL(unmap(data), 0);
    if (done == 1)
        EXPECT(map_other(data, frame, all_rights) < 0);
}

/// A table that is in use, and the root that we run on.
void give_back_tables() {
    auto* const table = static_cast<uint64_t*>(page());
    void* const data = page();
    table[0] = entry(mfn_of(data), present | user);
    make_table(1, table);
    give_back(mfn_of(table));
    for (unsigned i = 0; i < 20; ++i) {
        uint64_t fresh = 0;
        ask_for(&fresh, 1);
        EXPECT(fresh != mfn_of(table));
    }
    EXPECT_EQUAL(table[0] & ~(accessed | global), entry(mfn_of(data), present | user));
    EXPECT_EQUAL(unpin(table), 0);
    EXPECT_EQUAL(unmap(table), 0);
}

void lists_of_the_machine_at_bad_addresses() {
    for (uint64_t const target : {hypervisor_at, uint64_t{0xffff828000200000},
                                  uint64_t{0x00007ffffffffff0}, ~uint64_t{0} - 15}) {
        MemoryMapRequest const map{128, 0, target};
        EXPECT(memory_op(MemoryOperation::machine_memory_map, map) < 0);
        MachphysMfnList const frames{1000, 0, target, 0, 0};
        EXPECT(memory_op(MemoryOperation::machphys_mfn_list, frames) < 0);
        AcquireResource const resource{self, resource_grant_table, 0, 1, 0, 0, target};
        EXPECT(memory_op(MemoryOperation::acquire_resource, resource) < 0);
    }
}

void claims_without_end() {
    int64_t const before = current();
    for (uint64_t const pages :
         {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{0xffffffff}})
        EXPECT(memory_op(MemoryOperation::claim_pages, reservation(nullptr, pages)) < 0);
    EXPECT(memory_op(MemoryOperation::claim_pages, reservation(nullptr, 1, 5)) < 0);
    memory_op(MemoryOperation::claim_pages, reservation(nullptr, 0));
    EXPECT_EQUAL(current(), before);
    for (uint16_t const domain : {1, 5, 0x7fef, 0x7ff1, 0x7ff2, 0x7ff4, 0x8000, 0xffff}) {
        EXPECT(memory_op(MemoryOperation::claim_pages, reservation(nullptr, 1, 0, domain)) < 0);
        EXPECT(memory_op(MemoryOperation::current_reservation, DomainIdArgument{domain}) < 0);
        uint64_t frame = 0;
        EXPECT(memory_op(MemoryOperation::increase_reservation,
                         reservation(&frame, 1, 0, domain)) <= 0);
    }
}

/// Several at once ask, give back and exchange the same frames.
void reservations_at_once() {
    static uint64_t frames[8];
    int64_t const before = current();
    int64_t const got = ask_for(frames, 8);
    EXPECT(got > 0);
    auto const all = [] {
        uint64_t list[8];
        memcpy(list, frames, sizeof list);
        uint64_t out[8] = {};
        MemoryExchange x = exchange_of(list, 8, 0, out, 8, 0);
        if (memory_op(MemoryOperation::exchange, x) == 0)
            memcpy(frames, out, sizeof out);
        if (memory_op(MemoryOperation::decrease_reservation, reservation(list, 1)) == 1)
            ask_for(frames, 1);
    };
    race(200, all, all);
    // More than was there may never be; some may have been lost by taking them from each other.
    EXPECT(current() <= before + got);
}

constexpr Case cases[] = {
    {"exchange_in_place", "XSA-29 XSA-159", exchange_in_place},
    {"exchange_with_lists_that_overlap", "XSA-29 XSA-159", exchange_with_lists_that_overlap},
    {"exchange_into_the_hypervisor", "XSA-29 XSA-212", exchange_into_the_hypervisor},
    {"exchange_of_sizes_that_differ", "XSA-31 XSA-159", exchange_of_sizes_that_differ},
    {"exchange_of_frames_in_use", "XSA-159 XSA-287", exchange_of_frames_in_use},
    {"extents_that_cannot_be", "XSA-14 XSA-31", extents_that_cannot_be},
    {"no_more_than_the_maximum", "XSA-231 XSA-385", no_more_than_the_maximum},
    {"new_memory_is_empty", "XSA-100", new_memory_is_empty},
    {"give_back_what_is_not_ours", "XSA-248", give_back_what_is_not_ours},
    {"give_back_what_is_mapped", "XSA-222 XSA-287", give_back_what_is_mapped},
    {"give_back_tables", "XSA-248 XSA-287", give_back_tables},
    {"lists_of_the_machine_at_bad_addresses", "XSA-122 XSA-212",
     lists_of_the_machine_at_bad_addresses},
    {"claims_without_end", "XSA-385", claims_without_end},
    {"reservations_at_once", "XSA-287 XSA-385", reservations_at_once},
};

} // namespace

void guest_main() { run_cases(cases); }
