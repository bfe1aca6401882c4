#include "domain/dirty_log.h"

#include "memory/page.h"

#include <algorithm>

namespace hearth {
namespace {
constexpr unsigned word_bits = 64;
}

Result<DirtyLog*> DirtyLog::create(uint64_t frames) {
    uint64_t const words = (frames + word_bits - 1) / word_bits;
    void* const bits = TRY(allocate_bytes(words * sizeof(uint64_t)));
    auto const log = make<DirtyLog>(static_cast<std::atomic<uint64_t>*>(bits), words * word_bits);
    if (!log)
        free_bytes(bits);
    return log;
}

DirtyLog::~DirtyLog() { free_bytes(words_); }

void DirtyLog::note(uint64_t guest_frame) {
    if (guest_frame >= frames_)
        return; // reported as written to anyway
    uint64_t const bit = uint64_t{1} << guest_frame % word_bits;
    std::atomic<uint64_t>& word = words_[guest_frame / word_bits];
    if (!(word.load(std::memory_order_relaxed) & bit) && !(word.fetch_or(bit) & bit))
        noted.fetch_add(1, std::memory_order_relaxed);
}

bool DirtyLog::has(uint64_t guest_frame) const {
    return guest_frame < frames_ &&
           words_[guest_frame / word_bits].load() >> guest_frame % word_bits & 1;
}

uint64_t DirtyLog::peek(uint64_t index) const {
    return index < frames_ / word_bits ? words_[index].load() : ~uint64_t{0};
}

uint64_t DirtyLog::take(uint64_t index) {
    return index < frames_ / word_bits ? words_[index].exchange(0) : ~uint64_t{0};
}

void DirtyLog::set_all(uint64_t words) {
    for (uint64_t i = 0; i < std::min(words, frames_ / word_bits); ++i) {
        words_[i].store(~uint64_t{0});
        preempt_point_each(1024, i);
    }
}

void detail::note_in_log(DirtyLog& log, Domain const& domain, Mfn mfn) {
    if (is_ram(mfn) && page_at(mfn).owner == domain.id)
        log.note(get_m2p(mfn));
}

} // namespace hearth
