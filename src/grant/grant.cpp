#include "grant/grant.h"

#include "abi/grant_table.h"
#include "console/log.h"
#include "domain/guest_memory.h"
#include "grant/operations.h"
#include "memory/allocator.h"

#include <algorithm>

namespace hearth {
namespace {

using Kind = GrantTable::Kind;

struct {
    uint32_t frames = default_grant_frames, maptrack_frames = default_maptrack_frames;
} constinit limits;

/// The domain that an argument names; its table is there.
std::expected<DomainRef, GrantStatus> table_owner(Context const& c, DomainId id) {
    auto domain = target_domain(c, id);
    if (!domain)
        return std::unexpected{domain.error() == Errno::srch ? GrantStatus::bad_domain
                                                             : GrantStatus::permission_denied};
    return *std::move(domain);
}

GrantStatus write_frames(GrantTable const& table, Kind kind, uint64_t list, uint32_t count) {
    GuestPointer<uint64_t> const frames{list};
    for (uint32_t i = 0; i < count; ++i)
        if (!frames.write(table.frame(kind, i).raw(), i))
            return GrantStatus::bad_virtual_address;
    return GrantStatus::okay;
}

Result<int64_t> setup_table(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantSetupTable> const pointer{argument};
    auto request = TRY(pointer.read());
    request.status = [&] {
        auto const domain = table_owner(c, request.domain);
        if (!domain)
            return domain.error();
        GrantTable& table = (*domain)->grants->table;
        if (!table.grow(request.frame_count))
            return GrantStatus::general_error;
        return write_frames(table, Kind::shared, request.frames, request.frame_count);
    }();
    TRY(pointer.write(request));
    return 0;
}

Result<int64_t> get_status_frames(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantGetStatusFrames> const pointer{argument};
    auto request = TRY(pointer.read());
    request.status = [&] {
        auto const domain = table_owner(c, request.domain);
        if (!domain)
            return domain.error();
        GrantTable const& table = (*domain)->grants->table;
        if (request.frame_count > table.status_frames())
            return GrantStatus::general_error;
        return write_frames(table, Kind::status, request.frames, request.frame_count);
    }();
    TRY(pointer.write(request));
    return 0;
}

Result<int64_t> query_size(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantQuerySize> const pointer{argument};
    auto request = TRY(pointer.read());
    if (auto const domain = table_owner(c, request.domain); !domain) {
        request.status = domain.error();
    } else {
        GrantTable const& table = (*domain)->grants->table;
        request.frame_count = table.frames();
        request.max_frame_count = table.max_frames(Kind::shared);
        request.status = GrantStatus::okay;
    }
    TRY(pointer.write(request));
    return 0;
}

Result<int64_t> set_version(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantSetVersion> const pointer{argument};
    auto const request = TRY(pointer.read());
    GrantTable& table = c.domain.grants->table;
    auto const done = request.version == 1 || request.version == 2
                          ? table.set_version(request.version)
                          : Result<>{Errno::inval};
    TRY(pointer.write({table.version()}));
    if (!done)
        return done.error();
    return 0;
}

Result<int64_t> get_version(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantGetVersion> const pointer{argument};
    auto request = TRY(pointer.read());
    DomainRef const domain = TRY(target_domain(c, request.domain));
    request.version = domain->grants->table.version();
    TRY(pointer.write(request));
    return 0;
}

Result<int64_t> swap_references(Context& c, uint64_t argument, uint32_t count) {
    GuestPointer<abi::GrantSwap> const list{argument};
    for (uint32_t i = 0; i < count; ++i) {
        auto request = TRY(list.read(i));
        request.status = c.domain.grants->table.swap(request.a, request.b);
        TRY(list.write(request, i));
        if (!goes_on_after(c, 1, i))
            break;
    }
    return 0;
}

/// Frames do not change hands: whoever offers one keeps it.
Result<int64_t> refuse_transfers(Context const& c, uint64_t argument, uint32_t count) {
    GuestPointer<abi::GrantTransfer> const list{argument};
    for (uint32_t i = 0; i < count; ++i) {
        auto request = TRY(list.read(i));
        request.status = GrantStatus::bad_page;
        TRY(list.write(request, i));
        if (!goes_on_after(c, 1, i))
            break;
    }
    return 0;
}

} // namespace

void limit_grants(uint32_t frames, uint32_t maptrack_frames) {
    limits = {std::min(frames, most_grant_frames), std::min(maptrack_frames, most_maptrack_frames)};
}

Result<> grants_create(Domain& domain, int32_t max_frames, int32_t max_maptrack_frames,
                       unsigned max_version) {
    uint32_t const frames = max_frames < 0 ? limits.frames : static_cast<uint32_t>(max_frames);
    uint32_t const maptrack = max_maptrack_frames < 0 ? limits.maptrack_frames
                                                      : static_cast<uint32_t>(max_maptrack_frames);
    if (frames == 0 || frames > limits.frames || maptrack > limits.maptrack_frames ||
        max_version < 1 || max_version > 2)
        return Errno::inval;
    domain.grants = TRY(make<Grants>(domain, frames, maptrack, max_version));
    auto const made = domain.grants->table.initialise();
    if (!made)
        grants_destroy(domain);
    return made;
}

void grants_close(Domain& domain) {
    if (domain.grants)
        domain.grants->table.close();
}
void grants_release(Domain& domain) {
    if (domain.grants)
        release_mappings(domain);
}

void grants_destroy(Domain& domain) {
    Grants* const grants = std::exchange(domain.grants, nullptr);
    if (!grants)
        return;
    grants->table.free_structures();
    grants->maptrack.free_structures();
    destroy(grants);
}

void print_grants(Domain& domain, void (*between)()) {
    Grants const& grants = *domain.grants;
    uint32_t in_use = 0;
    for (uint32_t handle = 0; handle < grants.maptrack.limit(); ++handle) {
        if (handle % 256 == 0)
            between();
        in_use += grants.maptrack.find(handle)->state.load(std::memory_order_relaxed) != 0;
    }
    log_info("grants of domain {}: version {}, {} frames and {} for status; {} handles in use, "
             "which take {} frames",
             domain.id, grants.table.version(), grants.table.frames(), grants.table.status_frames(),
             in_use, grants.maptrack.frames());
}

Result<int64_t> do_grant_table_op(Context& c, uint32_t command, uint64_t argument, uint32_t count) {
    using abi::GrantOperation;
    auto const operation = static_cast<GrantOperation>(command);
    if (static_cast<int32_t>(count) < 0)
        return Errno::inval;
    switch (operation) {
    case GrantOperation::map_grant_ref:
        return map_grants(c, argument, count);
    case GrantOperation::unmap_grant_ref:
        return unmap_grants(c, argument, count);
    case GrantOperation::unmap_and_replace:
        return unmap_and_replace_grants(c, argument, count);
    case GrantOperation::copy:
        return copy_grants(c, argument, count);
    case GrantOperation::transfer:
        return refuse_transfers(c, argument, count);
    case GrantOperation::swap_grant_ref:
        return swap_references(c, argument, count);
    case GrantOperation::set_version:
        return set_version(c, argument);
    case GrantOperation::get_version:
        return get_version(c, argument);
    case GrantOperation::cache_flush:
        return count ? Result<int64_t>{Errno::opnotsupp} : 0;
    case GrantOperation::setup_table:
    case GrantOperation::query_size:
    case GrantOperation::get_status_frames:
        break;
    default:
        return Errno::nosys;
    }
    if (count != 1)
        return Errno::inval;
    if (operation == GrantOperation::setup_table)
        return setup_table(c, argument);
    return operation == GrantOperation::query_size ? query_size(c, argument)
                                                   : get_status_frames(c, argument);
}

uint32_t most_grant_frames_of(Domain& domain, GrantFrames kind) {
    return domain.grants->table.max_frames(kind == GrantFrames::shared ? Kind::shared
                                                                       : Kind::status);
}

Result<Mfn> grant_frame(Domain& domain, GrantFrames kind, uint32_t index) {
    GrantTable& table = domain.grants->table;
    if (kind == GrantFrames::shared) {
        if (index >= table.max_frames(Kind::shared))
            return Errno::inval;
        TRY(table.grow(index + 1));
        return table.frame(Kind::shared, index);
    }
    // There are as many as the table needs, so it is the table that grows.
    if (table.version() != 2 || index >= table.max_frames(Kind::status))
        return Errno::inval;
    while (index >= table.status_frames())
        TRY(table.grow(table.frames() + 1));
    return table.frame(Kind::status, index);
}

} // namespace hearth
