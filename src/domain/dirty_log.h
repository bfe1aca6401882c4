// Which of a domain's frames have been written to since the toolstack asked last: what lets it copy
// a guest that runs on meanwhile.
//
// How the guest's own writes come to be noted is its mode's matter (`start_logging`, guest_mode.h);
// what Hearth, devices and other domains write is noted by note_written().
#pragma once

#include "domain/domain.h"
#include "domain/frame_array.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"

namespace hearth {

class DirtyLog {
    FrameArray<std::atomic<uint64_t>> words_;
    uint64_t const frames_;
    explicit DirtyLog(uint64_t frames) : frames_{frames} {}
    template <class T, class... A>
    friend Result<T*> make(A&&... arguments);
    static constexpr unsigned word_bits = 64;

public:
    /// Of the guest's frames below `frames`. May reschedule. nomem.
    static Result<DirtyLog*> create(uint64_t frames);
    ~DirtyLog();
    DirtyLog(DirtyLog const&) = delete;
    DirtyLog& operator=(DirtyLog const&) = delete;

    void note(uint64_t guest_frame);
    [[nodiscard]] bool has(uint64_t guest_frame) const;
    /// Bits of 64 frames from 64 * `index` on; of frames beyond the log all are set.
    [[nodiscard]] uint64_t peek(uint64_t index) const;
    uint64_t take(uint64_t index);
    /// How many times 64 frames there are bits for.
    [[nodiscard]] uint64_t words() const { return frames_ / word_bits; }
    /// All bits of the first `count` times 64 frames. May reschedule.
    void set_all(uint64_t count);

    /// That the log has cost since the last clean.
    std::atomic<uint32_t> faults{0};
    /// How many bits are set.
    std::atomic<uint32_t> noted{0};
};

namespace detail {
void note_in_log(DirtyLog& log, Domain const& domain, Mfn mfn);
}

/// A frame may have been written to by others than the domain itself, if it is the domain's at all.
/// Nothing without a log.
inline void note_written(Domain const& domain, Mfn mfn) {
    if (DirtyLog* const log = domain.dirty_log.load(std::memory_order_acquire)) [[unlikely]]
        detail::note_in_log(*log, domain, mfn);
}

} // namespace hearth
