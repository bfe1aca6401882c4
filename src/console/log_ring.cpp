#include "console/log_ring.h"

#include <algorithm>

namespace hearth {
namespace {

constexpr uint64_t magic = 0x676f4c6874726148; // HarthLog

uint64_t seal_of(LogRing::Header const& h) {
    constexpr uint64_t prime = 0x9e3779b97f4a7c15;
    uint64_t seal = h.magic;
    for (uint32_t const word : {h.size, h.start, h.end, h.in_order})
        seal = (seal ^ word) * prime;
    return seal;
}

} // namespace

void LogRing::put(std::string_view text) {
    Header& h = *header_;
    size_t const mask = room_.size() - 1;
    for (char c : text)
        room_[h.end++ & mask] = c;
    if (h.end - h.start > room_.size())
        h.start = h.end - static_cast<uint32_t>(room_.size());
    h.seal = seal_of(h);
}

void LogRing::clear() {
    header_->start = header_->end;
    header_->seal = seal_of(*header_);
}

size_t LogRing::read(std::span<char> out, uint32_t& index, bool incremental) const {
    Header const& h = *header_;
    bool const kept = incremental && index - h.start <= h.end - h.start;
    uint32_t position = kept ? index : h.start;
    size_t count = 0;
    while (count < out.size() && position != h.end)
        out[count++] = room_[position++ % room_.size()];
    index = position;
    return count;
}

void LogRing::begin() {
    *header_ = {magic, static_cast<uint32_t>(room_.size()), 0, 0, 0, 0};
    header_->seal = seal_of(*header_);
}

void LogRing::move_to(Header& header, std::span<char> room) {
    LogRing const old = *this;
    header_ = &header;
    room_ = room;
    begin();
    for (uint32_t at = old.header_->start; at != old.header_->end; ++at)
        put({&old.room_[at % old.room_.size()], 1});
}

void LogRing::note_orderly_end() {
    header_->in_order = 1;
    header_->seal = seal_of(*header_);
}

size_t LogRing::left_behind(Header const& h, std::span<char const> room, std::span<char> out) {
    bool const sound = h.magic == magic && h.size == room.size() && h.end - h.start <= h.size &&
                       h.seal == seal_of(h);
    if (!sound || h.in_order)
        return 0;
    auto const count = static_cast<uint32_t>(std::min<size_t>(h.end - h.start, out.size()));
    for (uint32_t i = 0; i < count; ++i)
        out[i] = room[(h.end - count + i) % room.size()];
    return count;
}

} // namespace hearth
