#include "abi/operations.h"
#include "control/control.h"
#include "domain/guest_memory.h"
#include "grant/grant.h"

namespace hearth {

Result<int64_t> acquire_resource(Context& c, uint64_t argument) {
    GuestPointer<abi::AcquireResource> const pointer{argument};
    auto request = TRY(pointer.read());
    if (request.padding != 0)
        return Errno::inval;
    if (request.domain == c.domain.id)
        return Errno::perm;
    DomainRef const domain = TRY(DomainRef::find(request.domain));
    if (request.type != abi::resource_grant_table || request.id > abi::grant_table_status)
        return Errno::inval;
    auto const kind = static_cast<GrantFrames>(request.id);
    uint32_t const most = most_grant_frames_of(*domain, kind);
    GuestPointer<uint64_t> const frames{request.frames};
    if (frames.is_null()) {
        if (request.frame_count != 0)
            return Errno::inval;
        request.frame_count = most;
        TRY(pointer.write(request));
        return 0;
    }
    if (request.first_frame > most || request.frame_count > most - request.first_frame)
        return Errno::inval;
    for (uint32_t i = 0; i < request.frame_count; ++i) {
        auto const index = static_cast<uint32_t>(request.first_frame) + i;
        Mfn const mfn = TRY(grant_frame(*domain, kind, index));
        TRY(frames.write(mfn.raw(), i));
        preempt_point();
    }
    return 0;
}

} // namespace hearth
