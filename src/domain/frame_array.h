// An array that is too large for one block of frames, or not yet known to be: it grows by a frame
// at a time, and each that it has stays where it is.
#pragma once

#include "base/bits.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "sched/thread.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace hearth {

/// Its owner's lock guards growing; who reads meanwhile sees the old size or the new one.
template <class T>
class FrameArray {
    static_assert(sizeof(T) <= page_size && alignof(T) <= page_size);
    T** frames_ = nullptr;
    uint32_t most_frames_ = 0;
    std::atomic<uint32_t> frame_count_{0};

public:
    static constexpr uint32_t per_frame = page_size / sizeof(T);

    FrameArray() = default;
    FrameArray(FrameArray const&) = delete;
    FrameArray& operator=(FrameArray const&) = delete;

    /// Once, before it grows: so many at most. nomem.
    Result<> limit(uint64_t most) {
        uint64_t const frames = (most + per_frame - 1) / per_frame;
        frames_ = static_cast<T**>(TRY(allocate_bytes(std::max<uint64_t>(frames, 1) * sizeof(T*))));
        most_frames_ = static_cast<uint32_t>(frames);
        return {};
    }
    [[nodiscard]] bool has_limit() const { return frames_ != nullptr; }
    [[nodiscard]] bool full() const { return frame_count_.load() == most_frames_; }
    /// By `per_frame`, each a T{}; not when it is full. nomem.
    Result<> grow() {
        uint32_t const have = frame_count_.load(std::memory_order_relaxed);
        T* const fresh = direct<T>(TRY(allocate_frames(0)));
        for (uint32_t i = 0; i < per_frame; ++i)
            new (&fresh[i]) T{};
        frames_[have] = fresh;
        frame_count_.store(have + 1, std::memory_order_release);
        return {};
    }
    /// As large as it may be. May reschedule. nomem.
    Result<> grow_to_limit() {
        while (!full()) {
            TRY(grow());
            preempt_point();
        }
        return {};
    }
    /// How many there are.
    [[nodiscard]] uint32_t size() const {
        return frame_count_.load(std::memory_order_acquire) * per_frame;
    }
    /// `index` is below size().
    [[nodiscard]] T& operator[](uint64_t index) const {
        return frames_[clamp_index(index / per_frame, most_frames_)][index % per_frame];
    }
    /// When nobody uses it any more. May reschedule.
    void clear() {
        for (uint32_t i = 0; i < frame_count_.load(); ++i) {
            free_frames(mfn_of(frames_[i]), 0);
            preempt_point_each(16, i);
        }
        free_bytes(static_cast<void*>(frames_));
        frames_ = nullptr;
        frame_count_.store(0);
        most_frames_ = 0;
    }
};

} // namespace hearth
