// Mapping others' frames and unmapping them.
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "domain/guest_page.h"
#include "domain/host_mapping.h"
#include "grant/operations.h"
#include "memory/tlb.h"

namespace hearth {
namespace {

namespace flag = abi::grant_map;

/// The handle now stands for what the arguments ask. On failure nothing is kept.
GrantStatus fill(Context& c, DomainRef granter, abi::GrantMap& op, MapHandle& handle) {
    bool const write = !(op.flags & flag::readonly);
    bool const for_device = op.flags & flag::device, for_host = op.flags & flag::host;
    GrantUse use{std::move(granter), op.reference, write};
    if (auto const status = use.begin(c.domain.id, GrantPurpose::map); status != GrantStatus::okay)
        return status;
    Mfn const mfn{use.terms().frame_or_reference};
    Domain& owner = use.granter();
    if (!is_ram(mfn))
        return GrantStatus::bad_page;
    auto page = PageRef::get(mfn, owner.id);
    // A device writes past all page tables.
    if (!page || (for_device && write && !hold_writable_page(owner, mfn.raw())))
        return GrantStatus::general_error;
    if (for_host && !map_granted(c.vcpu, {op.host_address, (op.flags & flag::contains_pte) != 0},
                                 {mfn, owner.id, write}, op.flags >> flag::guest_available_shift)) {
        if (for_device && write)
            release_writable_page(owner, mfn);
        return GrantStatus::general_error;
    }
    op.device_address = address_of(mfn).raw();
    handle.reference = op.reference;
    handle.granter = owner.id;
    handle.frame = static_cast<uint32_t>(page->release().raw());
    use.release();
    handle.state.store((for_host ? MapHandle::for_host : 0) |
                           (for_device ? MapHandle::for_device : 0) |
                           (write ? MapHandle::writable : 0) |
                           (op.flags & flag::contains_pte ? MapHandle::by_entry : 0),
                       std::memory_order_release);
    return GrantStatus::okay;
}

GrantStatus map_one(Context& c, abi::GrantMap& op) {
    if (!(op.flags & (flag::device | flag::host)))
        return GrantStatus::bad_reference;
    auto granter = DomainRef::find(op.domain);
    if (!granter)
        return GrantStatus::bad_domain;
    Maptrack& maptrack = c.domain.grants->maptrack;
    auto const handle = maptrack.allocate();
    if (!handle)
        return GrantStatus::no_space;
    GrantStatus const status = fill(c, *std::move(granter), op, *maptrack.find(*handle));
    if (status == GrantStatus::okay)
        op.handle = *handle;
    else
        maptrack.release(*handle);
    return status;
}

/// Makes a handle busy; its state before, or 0 if it is not there to be had.
uint32_t claim(MapHandle& handle) {
    uint32_t state = handle.state.load(std::memory_order_acquire);
    while (state != 0 && !(state & MapHandle::busy))
        if (handle.state.compare_exchange_weak(state, state | MapHandle::busy,
                                               std::memory_order_acquire))
            return state;
    return 0;
}

/// Drops everything that a busy handle stands for, and the handle.
void finish(Domain& mapper, uint32_t number, uint32_t state) {
    MapHandle const& handle = *mapper.grants->maptrack.find(number);
    Mfn const mfn{handle.frame};
    // The handle's own reference to the granter is dropped with this one.
    DomainRef const granter = DomainRef::adopt(*find_domain(handle.granter));
    if (state & MapHandle::writable)
        note_written(*granter, mfn);
    granter->grants->table.end(handle.reference, state & MapHandle::writable);
    if (state & MapHandle::for_device && state & MapHandle::writable)
        release_writable_page(*granter, mfn);
    PageRef::adopt(mfn).reset();
    mapper.grants->maptrack.release(number);
}

/// What one argument asks to be taken away.
struct Unmapping {
    uint32_t handle;
    uint64_t host_address, device_address;
    bool replace = false;
    uint64_t new_address = 0;
};
/// A handle of which something has been taken away, busy until no CPU can use that any more.
struct Unmapped {
    uint32_t handle, before, left;

    [[nodiscard]] bool gone() const {
        return !(left & (MapHandle::for_host | MapHandle::for_device));
    }
};

std::expected<Unmapped, GrantStatus> unmap_one(Context& c, Unmapping const& what) {
    MapHandle* const handle = c.domain.grants->maptrack.find(what.handle);
    uint32_t const state = handle ? claim(*handle) : 0;
    if (state == 0)
        return std::unexpected{GrantStatus::bad_handle};
    GrantedFrame const frame{Mfn{handle->frame}, handle->granter,
                             (state & MapHandle::writable) != 0};
    bool const device = what.device_address && state & MapHandle::for_device;
    bool const host = what.host_address && state & MapHandle::for_host;
    Result<> result;
    if (device && what.device_address != address_of(frame.mfn).raw())
        result = Errno::inval;
    EntryPlace const where{what.host_address, (state & MapHandle::by_entry) != 0};
    if (result && host)
        result = what.replace && what.new_address
                     ? replace_granted(c.vcpu, where, frame, what.new_address)
                     : unmap_granted(c.vcpu, where, frame);
    if (!result) {
        handle->state.store(state, std::memory_order_release);
        return std::unexpected{GrantStatus::general_error};
    }
    return Unmapped{what.handle, state,
                    state &
                        ~((host ? MapHandle::for_host : 0) | (device ? MapHandle::for_device : 0))};
}

void complete(Domain& mapper, Unmapped const& done) {
    if (done.gone())
        return finish(mapper, done.handle, done.before);
    MapHandle& handle = *mapper.grants->maptrack.find(done.handle);
    if (done.before & ~done.left & MapHandle::for_device && done.before & MapHandle::writable)
        release_writable_page(*find_domain(handle.granter), Mfn{handle.frame});
    handle.state.store(done.left, std::memory_order_release);
}

Unmapping unmapping(abi::GrantUnmap const& op) {
    return {op.handle, op.host_address, op.device_address};
}
Unmapping unmapping(abi::GrantUnmapAndReplace const& op) {
    return {op.handle, op.host_address, 0, true, op.new_address};
}

/// Some arguments at a time, so that one flush serves them all: before it neither the granter may
/// hear that its frame is free again, nor may the frame become anybody else's.
template <class Operation>
Result<> unmap_some(Context& c, GuestPointer<Operation> list, uint32_t first, uint32_t count) {
    constexpr uint32_t batch = 32;
    Unmapped done[batch];
    uint32_t unmapped = 0;
    bool stale = false;
    Result<> result;
    for (uint32_t i = 0; i < count && result; ++i) {
        auto op = list.read(first + i);
        if (!op) {
            result = op.error();
            break;
        }
        auto const one = unmap_one(c, unmapping(*op));
        op->status = one ? GrantStatus::okay : one.error();
        if (one) {
            stale = stale || (one->before & ~one->left & MapHandle::for_host);
            done[unmapped++] = *one;
        }
        result = list.write(*op, first + i);
    }
    // The same table may serve several addresses, so nothing less than everything is enough.
    if (stale)
        flush_stale_translations(stale_from_now(), c.domain.dirty(), IdleCpus::later);
    for (uint32_t i = 0; i < unmapped; ++i)
        complete(c.domain, done[i]);
    return result;
}

template <class Operation>
Result<int64_t> unmap_list(Context& c, uint64_t argument, uint32_t count) {
    GuestPointer<Operation> const list{argument};
    constexpr uint32_t batch = 32;
    for (uint32_t i = 0; i < count; i += batch) {
        TRY(unmap_some(c, list, i, count - i < batch ? count - i : batch));
        if (!goes_on_after(c, 1, i))
            break;
    }
    return 0;
}

} // namespace

Result<int64_t> map_grants(Context& c, uint64_t argument, uint32_t count) {
    GuestPointer<abi::GrantMap> const list{argument};
    for (uint32_t i = 0; i < count; ++i) {
        abi::GrantMap op = TRY(list.read(i));
        op.status = map_one(c, op);
        TRY(list.write(op, i));
        if (!goes_on_after(c, 1, i))
            break;
    }
    return 0;
}

Result<int64_t> unmap_grants(Context& c, uint64_t argument, uint32_t count) {
    return unmap_list<abi::GrantUnmap>(c, argument, count);
}
Result<int64_t> unmap_and_replace_grants(Context& c, uint64_t argument, uint32_t count) {
    return unmap_list<abi::GrantUnmapAndReplace>(c, argument, count);
}

void release_mappings(Domain& domain) {
    Maptrack& maptrack = domain.grants->maptrack;
    for (uint32_t handle = 0; handle < maptrack.limit(); ++handle) {
        if (uint32_t const state = claim(*maptrack.find(handle)))
            finish(domain, handle, state);
        preempt_point();
    }
}

} // namespace hearth
