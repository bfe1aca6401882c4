// The mapper's side: a handle for each grant that a domain has mapped.
#pragma once

#include "domain/domain.h"
#include "domain/frame_array.h"

#include <expected>

namespace hearth {

inline constexpr uint32_t default_maptrack_frames = 1024;
inline constexpr uint32_t most_maptrack_frames = 65536;

/// What a handle stands for: a use of a grant, with a reference to its frame and one to the
/// granter, and, for a device that may write, one to the frame as writable data.
struct MapHandle {
    static constexpr uint32_t for_host = 1, for_device = 2, writable = 4,
                              by_entry = 8, // the place was named by the entry's own address
        busy = 16;                          // a vCPU works on it
    std::atomic<uint32_t> state{0};         // 0: free
    uint32_t reference = 0;                 // free: the next free handle
    uint32_t frame = 0;
    DomainId granter = domid_invalid;
};
static_assert(sizeof(MapHandle) == 16);

class Maptrack {
public:
    explicit Maptrack(uint32_t max_frames) : max_frames_{max_frames} {}
    /// A busy handle. nospc, nomem.
    Result<uint32_t> allocate();
    /// A busy one becomes free.
    void release(uint32_t handle);
    /// Null: there is none of that number, in use or not.
    [[nodiscard]] MapHandle* find(uint32_t handle) const {
        return handle < limit() ? &handles_[handle] : nullptr;
    }
    /// One above the highest that there is.
    [[nodiscard]] uint32_t limit() const { return handles_.size(); }
    /// What the handles take, in use or not.
    [[nodiscard]] uint32_t frames() const { return handles_.size() / handles_.per_frame; }
    /// May reschedule.
    void free_structures() { handles_.clear(); }

private:
    static constexpr uint32_t none = ~uint32_t{0};

    Result<> add_handles();

    SpinLock<Rank::grant> lock_; // the list of free ones
    uint32_t first_free_ = none;
    uint32_t const max_frames_;
    FrameArray<MapHandle> handles_; // limited from when there is the first
};

} // namespace hearth
