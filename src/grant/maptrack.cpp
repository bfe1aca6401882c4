#include "grant/maptrack.h"

namespace hearth {

Result<> Maptrack::add_handles() {
    if (!handles_.has_limit())
        TRY(handles_.limit(uint64_t{max_frames_} * handles_.per_frame));
    if (handles_.full())
        return Errno::nospc;
    uint32_t const first = handles_.size();
    TRY(handles_.grow());
    uint32_t const end = handles_.size();
    for (uint32_t i = first; i < end; ++i)
        handles_[i].reference = i + 1 < end ? i + 1 : none;
    first_free_ = first;
    return {};
}

Result<uint32_t> Maptrack::allocate() {
    LockGuard guard{lock_};
    if (first_free_ == none)
        TRY(add_handles());
    uint32_t const handle = first_free_;
    MapHandle& found = *find(handle);
    first_free_ = found.reference;
    found.state.store(MapHandle::busy, std::memory_order_relaxed);
    return handle;
}

void Maptrack::release(uint32_t handle) {
    LockGuard guard{lock_};
    MapHandle& found = *find(handle);
    found.reference = first_free_;
    found.state.store(0, std::memory_order_release);
    first_free_ = handle;
}

} // namespace hearth
