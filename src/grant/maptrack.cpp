#include "grant/maptrack.h"

#include "base/bits.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"

namespace hearth {

MapHandle* Maptrack::find(uint32_t handle) const {
    return handle < limit()
               ? &table_[clamp_index(handle / per_frame, max_frames_)][handle % per_frame]
               : nullptr;
}

Result<uint32_t> Maptrack::allocate() {
    LockGuard guard{lock_};
    if (first_free_ == none) {
        uint32_t const have = frames_.load(std::memory_order_relaxed);
        if (have == max_frames_)
            return Errno::nospc;
        if (!table_)
            table_ =
                static_cast<MapHandle**>(TRY(allocate_bytes(max_frames_ * sizeof(MapHandle*))));
        auto* const fresh = direct<MapHandle>(TRY(allocate_frames(0)));
        for (uint32_t i = 0; i < per_frame; ++i) {
            new (&fresh[i]) MapHandle{};
            fresh[i].reference = i + 1 < per_frame ? have * per_frame + i + 1 : none;
        }
        table_[have] = fresh;
        first_free_ = have * per_frame;
        frames_.store(have + 1, std::memory_order_release);
    }
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

void Maptrack::free_structures() {
    for (uint32_t i = 0; i < frames_.load(); ++i)
        free_frames(mfn_of(table_[i]), 0);
    free_bytes(static_cast<void*>(table_));
}

} // namespace hearth
