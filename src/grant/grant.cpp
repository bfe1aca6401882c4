#include "grant/grant.h"

#include "abi/grant_table.h"
#include "domain/guest_memory.h"
#include "memory/allocator.h"

namespace hearth {

inline constexpr uint32_t most_grant_frames = 64;

/// Version 1 entries, in frames that belong to the domain and stay as long as it does.
class GrantTable {
public:
    explicit GrantTable(uint32_t maximum)
        : maximum_{maximum < most_grant_frames ? maximum : most_grant_frames} {}

    [[nodiscard]] uint32_t frames() const { return used_; }
    [[nodiscard]] uint32_t maximum() const { return maximum_; }
    [[nodiscard]] Mfn frame(uint32_t i) const { return frames_[i]; }

    Result<> grow(Domain& domain, uint32_t wanted) {
        while (used_ < wanted) {
            frames_[used_++] = TRY(allocate_shared_frame(domain));
        }
        return {};
    }

private:
    uint32_t used_ = 0;
    uint32_t maximum_;
    Mfn frames_[most_grant_frames];
};

namespace {

constinit SpinLock grants_lock{Rank::grant};

Result<int64_t> setup_table(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantSetupTable> const pointer{argument};
    auto request = TRY(pointer.read());
    auto const domain = target_domain(c, request.domain);
    if (!domain) {
        request.status =
            domain.error() == Errno::srch ? abi::grant_bad_domain : abi::grant_permission_denied;
    } else {
        GrantTable& table = *(*domain)->grants;
        LockGuard guard{grants_lock};
        request.status =
            request.frame_count <= table.maximum() && table.grow(**domain, request.frame_count)
                ? abi::grant_okay
                : abi::grant_general_error;
        for (uint32_t i = 0; request.status == abi::grant_okay && i < request.frame_count; ++i)
            TRY(GuestPointer<uint64_t>{request.frames}.write(table.frame(i).raw(), i));
    }
    TRY(pointer.write(request));
    return 0;
}

Result<int64_t> query_size(Context& c, uint64_t argument) {
    GuestPointer<abi::GrantQuerySize> const pointer{argument};
    auto request = TRY(pointer.read());
    auto const domain = target_domain(c, request.domain);
    if (!domain) {
        request.status = abi::grant_bad_domain;
    } else {
        request.frame_count = (*domain)->grants->frames();
        request.max_frame_count = (*domain)->grants->maximum();
        request.status = abi::grant_okay;
    }
    TRY(pointer.write(request));
    return 0;
}

} // namespace

Result<> grants_create(Domain& domain, uint32_t max_frames) {
    domain.grants = TRY(make<GrantTable>(max_frames));
    return {};
}

void grants_release(Domain& domain) {
    for (uint32_t i = 0; i < domain.grants->frames(); ++i)
        PageRef::adopt(domain.grants->frame(i)).reset();
}

void grants_destroy(Domain& domain) { destroy(domain.grants); }

Result<int64_t> do_grant_table_op(Context& c, uint32_t command, uint64_t argument, uint32_t count) {
    using abi::GrantOperation;
    if (count == 0)
        return 0;
    switch (static_cast<GrantOperation>(command)) {
    case GrantOperation::setup_table:
        return count == 1 ? setup_table(c, argument) : Result<int64_t>{Errno::inval};
    case GrantOperation::query_size:
        return count == 1 ? query_size(c, argument) : Result<int64_t>{Errno::inval};
    case GrantOperation::set_version: {
        GuestPointer<abi::GrantSetVersion> const pointer{argument};
        auto request = TRY(pointer.read());
        if (request.version != 1)
            return request.version == 2 ? Errno::nosys : Errno::inval;
        TRY(pointer.write(request));
        return 0;
    }
    case GrantOperation::get_version: {
        GuestPointer<abi::GrantGetVersion> const pointer{argument};
        auto request = TRY(pointer.read());
        TRY(target_domain(c, request.domain));
        request.version = 1;
        TRY(pointer.write(request));
        return 0;
    }
    default:
        return Errno::nosys;
    }
}

} // namespace hearth
