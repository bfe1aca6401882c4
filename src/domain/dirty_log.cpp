#include "domain/dirty_log.h"

#include "memory/page.h"

#include <algorithm>
#include <bit>

namespace hearth {
Result<DirtyLog*> DirtyLog::create(uint64_t frames) {
    uint64_t const words = (frames + word_bits - 1) / word_bits;
    DirtyLog* const log = TRY(make<DirtyLog>(words * word_bits));
    auto const grown = [&]() -> Result<> {
        TRY(log->words_.limit(words));
        return log->words_.grow_to_limit();
    }();
    if (grown)
        return log;
    destroy(log);
    return grown.error();
}

DirtyLog::~DirtyLog() { words_.clear(); }

void DirtyLog::note(uint64_t guest_frame) {
    if (guest_frame >= frames_)
        return; // reported as written to anyway
    uint64_t const bit = uint64_t{1} << guest_frame % word_bits;
    std::atomic<uint64_t>& word = words_[guest_frame / word_bits];
    // What has been written is there before the look that finds the bit set: whoever takes the bit
    // afterwards reads it.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!(word.load(std::memory_order_relaxed) & bit) && !(word.fetch_or(bit) & bit))
        noted.fetch_add(1, std::memory_order_relaxed);
}

bool DirtyLog::has(uint64_t guest_frame) const {
    return guest_frame < frames_ &&
           words_[guest_frame / word_bits].load() >> guest_frame % word_bits & 1;
}

uint64_t DirtyLog::peek(uint64_t index) const {
    return index < words() ? words_[index].load() : ~uint64_t{0};
}

uint64_t DirtyLog::take(uint64_t index) {
    if (index >= words())
        return ~uint64_t{0};
    uint64_t const taken = words_[index].exchange(0);
    noted.fetch_sub(static_cast<uint32_t>(std::popcount(taken)), std::memory_order_relaxed);
    return taken;
}

void DirtyLog::set_all(uint64_t count) {
    for (uint64_t i = 0; i < std::min(count, words()); ++i) {
        uint64_t const before = words_[i].exchange(~uint64_t{0});
        noted.fetch_add(static_cast<uint32_t>(std::popcount(~before)), std::memory_order_relaxed);
        preempt_point_each(1024, i);
    }
}

void detail::note_in_log(DirtyLog& log, Domain const& domain, Mfn mfn) {
    if (is_ram(mfn) && page_at(mfn).owner == domain.id)
        log.note(get_m2p(mfn));
}

} // namespace hearth
