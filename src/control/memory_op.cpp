#include "abi/operations.h"
#include "base/bits.h"
#include "control/claims.h"
#include "control/control.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "domain/guest_page.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/page.h"

#include <algorithm>

namespace hearth {
namespace {

constexpr unsigned max_map_entries = 512;
constinit abi::E820Entry machine_map[max_map_entries]{};
constinit uint32_t machine_map_entries = 0;

constexpr unsigned largest_extent = 9;           // of any domain
constexpr unsigned largest_hardware_extent = 18; // Domain 0's, for its devices

bool extent_allowed(Domain const& d, unsigned order) {
    return order <= (d.hardware ? largest_hardware_extent : largest_extent);
}

/// The end of the frames that a device of as many address bits as the flags say can reach.
Mfn end_of_reach(uint32_t flags) {
    uint32_t const address_bits = flags & 0xff;
    return address_bits == 0 || address_bits >= 64
               ? any_frame
               : frame_of(PhysicalAddress{uint64_t{1} << address_bits});
}

/// A frame to scrub or to free takes some 700 instructions.
constexpr unsigned frames_at_once = 16;

/// New frames for the domain, scrubbed, numbered from `gfn` in the M2P if they have numbers.
Result<Mfn> populate(Domain& d, unsigned order, uint32_t flags, uint64_t gfn) {
    uint64_t const count = uint64_t{1} << order;
    // Claimed first, so that several vCPUs at once stay within the maximum together.
    bool const fits = d.pages.with([&](PageList& list) {
        bool const enough = !list.closed && list.count + list.claimed + count <= list.maximum;
        list.claimed += enough ? count : 0;
        return enough;
    });
    if (!fits)
        return Errno::nomem;
    auto const first = allocate_beside_claims(d, order, end_of_reach(flags));
    for (uint64_t i = 0; first && i < count; ++i) {
        zero_page(*first + i);
        set_m2p(*first + i, gfn == invalid_m2p_entry ? gfn : gfn + i);
        preempt_point_each(frames_at_once, i);
    }
    if (first)
        give_frames_to(d, *first, count);
    d.pages.with([&](PageList& list) { list.claimed -= count; });
    return first;
}

int64_t increase_reservation(Context& c, Domain& d, abi::MemoryReservation const& request,
                             bool physmap) {
    GuestPointer<uint64_t> const extents{request.extents};
    int64_t done = 0;
    for (uint64_t i = 0; i < request.extent_count && c.may_go_on(); ++i, ++done) {
        uint64_t gfn = invalid_m2p_entry;
        if (physmap) {
            auto const wanted = extents.read(i);
            if (!wanted)
                return done;
            gfn = *wanted;
        }
        auto const first = populate(d, request.extent_order, request.flags, gfn);
        if (!first || (!extents.is_null() && !extents.write(first->raw(), i)))
            return done;
        preempt_point();
    }
    return done;
}

int64_t decrease_reservation(Context& c, Domain& d, abi::MemoryReservation const& request) {
    GuestPointer<uint64_t> const extents{request.extents};
    int64_t done = 0;
    for (uint64_t i = 0; i < request.extent_count && c.may_go_on(); ++i, ++done) {
        auto const first = extents.read(i);
        if (!first)
            return done;
        for (uint64_t k = 0; k < uint64_t{1} << request.extent_order; ++k) {
            auto const page = PageRef::get(Mfn{*first + k}, d.id);
            if (!page || !drop_owners_reference(page->mfn()))
                return done;
            preempt_point_each(frames_at_once, k);
        }
        preempt_point();
    }
    return done;
}

/// How many extents were done, none where nothing is right about the request; the guest deals with
/// a short count. perm: another's memory.
Result<int64_t> change_reservation(Context& c, abi::MemoryOperation operation, uint64_t argument) {
    auto const request = GuestPointer<abi::MemoryReservation>{argument}.read();
    if (!request)
        return 0;
    auto const d = target_domain(c, request->domain);
    if (!d && d.error() == Errno::perm)
        return Errno::perm;
    if (!d || !extent_allowed(c.domain, request->extent_order))
        return 0;
    if (operation == abi::MemoryOperation::decrease_reservation)
        return decrease_reservation(c, **d, *request);
    return increase_reservation(c, **d, *request,
                                operation == abi::MemoryOperation::populate_physmap);
}

/// Makes a frame that nothing but its owner's reference holds one that nobody gets hold of any
/// more. inval: in use.
Result<> withdraw(Domain& d, Mfn mfn) {
    // Somebody else may just be finding out that it is not his.
    constexpr unsigned tries = 16;
    for (unsigned i = 0; i < tries; ++i) {
        PageRef page = TRY(PageRef::get(mfn, d.id));
        uint32_t ours_and_owners = Page::owners_reference | 2;
        if (page_at(mfn).references.compare_exchange_strong(ours_and_owners, 0)) {
            (void)page.release();
            return {};
        }
        page.reset();
        wait_politely();
    }
    return Errno::inval;
}
void give_back_withdrawn(Domain const& d, Mfn mfn) {
    page_at(mfn).references.store(Page::owners_reference | 1, std::memory_order_release);
    note_written(d, mfn); // whoever copies the domain may have found it gone
}

/// Frees frames with numbers that never became anybody's.
void forget_extent(Mfn first, unsigned order) {
    for (uint64_t k = 0; k < uint64_t{1} << order; ++k)
        set_m2p(first + k, invalid_m2p_entry);
    free_frames(first, order);
}

/// Scrubbed, numbered, and told of, but nobody's yet.
Result<Mfn> make_extent(abi::MemoryExchange const& x, uint64_t index) {
    GuestPointer<uint64_t> const out{x.out.extents};
    uint64_t const gfn = TRY(out.read(index));
    Mfn const first = TRY(allocate_frames(x.out.extent_order, end_of_reach(x.out.flags)));
    for (uint64_t k = 0; k < uint64_t{1} << x.out.extent_order; ++k) {
        zero_page(first + k);
        set_m2p(first + k, gfn + k);
        preempt_point_each(frames_at_once, index + k);
    }
    if (auto const told = out.write(first.raw(), index); !told) {
        forget_extent(first, x.out.extent_order);
        return told.error();
    }
    return first;
}

/// And so that the list says again what the guest put there.
void take_back_extent(abi::MemoryExchange const& x, uint64_t index, Mfn first) {
    (void)GuestPointer<uint64_t>{x.out.extents}.write(get_m2p(first), index);
    forget_extent(first, x.out.extent_order);
}

/// One step of an exchange: the larger extent of either side, all of it or none. What comes is the
/// domain's only when what goes has gone: whatever its vCPUs do meanwhile, it never has more than
/// before.
Result<> exchange_chunk(Domain& d, abi::MemoryExchange const& x, uint64_t chunk) {
    unsigned const order = std::max(x.in.extent_order, x.out.extent_order);
    uint64_t const in_count = uint64_t{1} << (order - x.in.extent_order);
    uint64_t const out_count = uint64_t{1} << (order - x.out.extent_order);
    GuestPointer<uint64_t> const in{x.in.extents};
    // One side is a single extent.
    Mfn frames[513];
    if (in_count + out_count > std::size(frames))
        return Errno::inval;
    Mfn* const given = frames;
    Mfn* const fresh = frames + in_count;
    for (uint64_t i = 0; i < in_count; ++i)
        given[i] = Mfn{TRY(in.read(chunk * in_count + i))};
    uint64_t const count = uint64_t{1} << order;
    auto const frame = [&](uint64_t i) {
        return given[i >> x.in.extent_order] + (i & ((uint64_t{1} << x.in.extent_order) - 1));
    };
    uint64_t withdrawn = 0, made = 0;
    // Its room is kept meanwhile.
    d.pages.with([&](PageList& list) { list.claimed += count; });
    Result<> const result = [&]() -> Result<> {
        for (; withdrawn < count; ++withdrawn) {
            TRY(withdraw(d, frame(withdrawn)));
            preempt_point_each(frames_at_once, withdrawn);
        }
        for (; made < out_count; ++made)
            fresh[made] = TRY(make_extent(x, chunk * out_count + made));
        return {};
    }();
    for (uint64_t i = 0; i < withdrawn; ++i) {
        if (result)
            last_reference_gone(frame(i));
        else
            give_back_withdrawn(d, frame(i));
        preempt_point_each(frames_at_once, i);
    }
    for (uint64_t i = 0; i < made; ++i) {
        if (result)
            give_frames_to(d, fresh[i], uint64_t{1} << x.out.extent_order);
        else
            take_back_extent(x, chunk * out_count + i, fresh[i]);
        preempt_point_each(frames_at_once, i);
    }
    d.pages.with([&](PageList& list) { list.claimed -= count; });
    return result;
}

/// Of those that go.
uint64_t extents_per_chunk(abi::MemoryExchange const& x) {
    return uint64_t{1} << (std::max(x.in.extent_order, x.out.extent_order) - x.in.extent_order);
}

/// perm: extents that are too large for the caller; fault: lists that no guest can have, before
/// anything is done.
Result<> check_exchange(Context const& c, abi::MemoryExchange const& x) {
    for (abi::MemoryReservation const& side : {x.in, x.out})
        if (!extent_allowed(c.domain, side.extent_order))
            return Errno::perm;
    for (abi::MemoryReservation const& side : {x.in, x.out})
        if (side.extent_order > largest_extent ||
            side.extent_count > ~uint64_t{0} >> side.extent_order)
            return Errno::inval;
    if (x.in.domain != x.out.domain || x.exchanged > x.in.extent_count ||
        x.in.extent_count << x.in.extent_order != x.out.extent_count << x.out.extent_order ||
        x.exchanged % extents_per_chunk(x) != 0 || x.in.extent_count % extents_per_chunk(x) != 0)
        return Errno::inval;
    for (abi::MemoryReservation const& side : {x.in, x.out})
        if (side.extent_count > ~uint64_t{0} / sizeof(uint64_t) ||
            !layout::guest_range_ok(side.extents, side.extent_count * sizeof(uint64_t)))
            return Errno::fault;
    return {};
}

Result<int64_t> exchange(Context& c, uint64_t argument) {
    GuestPointer<abi::MemoryExchange> const pointer{argument};
    abi::MemoryExchange x = TRY(pointer.read());
    TRY(check_exchange(c, x));
    DomainRef const target = TRY(target_domain(c, x.in.domain));
    Domain& d = *target;
    uint64_t const per_chunk = extents_per_chunk(x);
    bool const open = d.pages.with([](PageList& list) {
        list.exchanges += list.closed ? 0 : 1;
        return !list.closed;
    });
    if (!open)
        return Errno::srch;
    Result<> result;
    while (result && x.exchanged < x.in.extent_count && c.may_go_on()) {
        result = exchange_chunk(d, x, x.exchanged / per_chunk);
        if (result)
            x.exchanged += per_chunk;
        preempt_point();
    }
    d.pages.with([](PageList& list) { --list.exchanges; });
    TRY(pointer.write(x));
    if (!result)
        return result.error();
    return 0;
}

Result<int64_t> give_memory_map(uint64_t argument) {
    GuestPointer<abi::MemoryMapRequest> const pointer{argument};
    abi::MemoryMapRequest request = TRY(pointer.read());
    GuestPointer<abi::E820Entry> const buffer{request.buffer};
    // Without a buffer it is the number that is asked for.
    if (!buffer.is_null() && request.entries < machine_map_entries)
        return Errno::inval;
    request.entries = machine_map_entries;
    if (!buffer.is_null())
        TRY(buffer.write_many({machine_map, request.entries}));
    TRY(pointer.write(request));
    return 0;
}

/// The map that the toolstack made for a guest: what it asks for as its own.
Result<int64_t> set_guest_map(Context& c, uint64_t argument) {
    constexpr uint32_t most = 128;
    auto const request = TRY(GuestPointer<abi::ForeignMemoryMap>{argument}.read());
    if (request.map.entries > most)
        return Errno::inval;
    DomainRef const d = TRY(target_domain(c, request.domain));
    auto* const copy = static_cast<abi::E820Entry*>(
        TRY(allocate_bytes(request.map.entries * sizeof(abi::E820Entry))));
    auto const read =
        GuestPointer<abi::E820Entry>{request.map.buffer}.read_many({copy, request.map.entries});
    if (!read) {
        free_bytes(copy);
        return read.error();
    }
    auto const old = d->memory_map.with(
        [&](GuestMemoryMap& map) { return std::exchange(map, {copy, request.map.entries}); });
    free_bytes(old.entries);
    return 0;
}

Result<int64_t> give_guest_map(Domain& d, uint64_t argument) {
    GuestPointer<abi::MemoryMapRequest> const pointer{argument};
    abi::MemoryMapRequest request = TRY(pointer.read());
    TRY(d.memory_map.with([&](GuestMemoryMap& map) -> Result<> {
        if (!map.entries)
            return Errno::nosys;
        request.entries = std::min(request.entries, map.count);
        return GuestPointer<abi::E820Entry>{request.buffer}.write_many(
            {map.entries, request.entries});
    }));
    TRY(pointer.write(request));
    return 0;
}

/// Keeps memory free for a domain that is being built, so that who starts too much fails early.
Result<int64_t> claim_pages(Context& c, uint64_t argument) {
    auto const request = TRY(GuestPointer<abi::MemoryReservation>{argument}.read());
    if (request.extents != 0 || request.extent_order != 0 || request.flags != 0)
        return Errno::inval;
    DomainRef const d = TRY(target_domain(c, request.domain));
    TRY(stake_claim(*d, request.extent_count));
    return 0;
}

Result<int64_t> give_m2p_frames(uint64_t argument) {
    GuestPointer<abi::MachphysMfnList> const pointer{argument};
    abi::MachphysMfnList request = TRY(pointer.read());
    GuestPointer<uint64_t> const extents{request.extents};
    uint64_t const chunk = page_size * 512 / 8;
    uint32_t count = 0;
    Mfn last = invalid_mfn;
    for (uint64_t first = 0; first < frame_limit().raw() && count < request.max_extents;
         first += chunk) {
        auto const frame = m2p_frame(Mfn{first});
        last = frame ? *frame : last;
        TRY(extents.write(last.raw(), count++));
    }
    request.extent_count = count;
    TRY(pointer.write(request));
    return 0;
}

/// Frames have one number each, their own, so there is no map to put them in.
Result<int64_t> refuse_physmap(Context& c, uint64_t argument) {
    TRY(target_domain(c, TRY(GuestPointer<DomainId>{argument}.read())));
    return Errno::access;
}

Result<int64_t> reservation_of(Context& c, uint64_t argument, uint64_t (*what)(PageList&)) {
    auto const request = TRY(GuestPointer<abi::DomainIdArgument>{argument}.read());
    DomainRef const d = TRY(target_domain(c, request.domain));
    return static_cast<int64_t>(d->pages.with([&](PageList& list) { return what(list); }));
}

} // namespace

void add_machine_memory(uint64_t start, uint64_t size, uint32_t type) {
    if (machine_map_entries < max_map_entries)
        machine_map[machine_map_entries++] = {start, size, type};
}

Result<int64_t> do_memory_op(Context& c, uint32_t command, uint64_t argument) {
    using abi::MemoryOperation;
    switch (auto const operation = static_cast<MemoryOperation>(command & 0x3f)) {
    case MemoryOperation::increase_reservation:
    case MemoryOperation::populate_physmap:
    case MemoryOperation::decrease_reservation:
        return change_reservation(c, operation, argument);
    case MemoryOperation::maximum_ram_page: // the number of them, as Xen has it
        return static_cast<int64_t>(frame_limit().raw());
    case MemoryOperation::current_reservation:
        return reservation_of(c, argument, [](PageList& list) { return list.count; });
    case MemoryOperation::maximum_reservation:
        return reservation_of(c, argument, [](PageList& list) { return list.maximum; });
    case MemoryOperation::maximum_gpfn: {
        auto const request = TRY(GuestPointer<abi::DomainIdArgument>{argument}.read());
        DomainRef const d = TRY(target_domain(c, request.domain));
        // The guest's own word, which is none before it has run; never an error's number.
        abi::SharedInfo const* const shared = d->shared_info; // not there at the domain's end
        uint64_t const frames = shared ? shared->max_pfn : 0;
        return static_cast<int64_t>(std::clamp<uint64_t>(frames, 1, uint64_t{1} << 52) - 1);
    }
    case MemoryOperation::machphys_mfn_list:
        return give_m2p_frames(argument);
    case MemoryOperation::machphys_mapping: {
        constexpr uint64_t m2p_size = uint64_t{1} << 38; // arch-x86/xen-x86_64.h
        abi::MachphysMapping const mapping{layout::machine_to_physical,
                                           layout::machine_to_physical + m2p_size,
                                           frame_limit().raw() - 1};
        TRY(GuestPointer<abi::MachphysMapping>{argument}.write(mapping));
        return 0;
    }
    case MemoryOperation::machine_memory_map:
        return give_memory_map(argument);
    case MemoryOperation::memory_map:
        return give_guest_map(c.domain, argument);
    case MemoryOperation::set_memory_map:
        return set_guest_map(c, argument);
    case MemoryOperation::claim_pages:
        return claim_pages(c, argument);
    case MemoryOperation::get_vnumainfo:
        TRY(target_domain(c, TRY(GuestPointer<DomainId>{argument}.read())));
        return Errno::opnotsupp;
    case MemoryOperation::add_to_physmap:
    case MemoryOperation::remove_from_physmap:
    case MemoryOperation::add_to_physmap_batch:
        return refuse_physmap(c, argument);
    case MemoryOperation::exchange:
        return exchange(c, argument);
    case MemoryOperation::acquire_resource:
        return acquire_resource(c, argument);
    default:
        return Errno::nosys;
    }
}

} // namespace hearth
