// What has been logged, as far as there is room. It may lie in memory that keeps its contents over
// a restart: the next start then finds what led to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace hearth {

class LogRing {
public:
    /// Ahead of the text. `seal` is a checksum of the rest, made anew with each change.
    struct Header {
        uint64_t magic;
        uint32_t size;       // of the text, a power of two
        uint32_t start, end; // count bytes ever written: the oldest kept, and behind the newest
        uint32_t in_order;   // whether the machine was told to stop
        uint64_t seal;
    };

    /// The room for the text has a power of two of bytes.
    constexpr LogRing(Header& header, std::span<char> room) : header_{&header}, room_{room} {}
    void put(std::string_view text);
    void clear();
    /// Copies from position `index`, or from the oldest byte kept unless `incremental`, and moves
    /// `index` on.
    size_t read(std::span<char> out, uint32_t& index, bool incremental) const;
    /// Goes on in other room; what there is moves along.
    void move_to(Header& header, std::span<char> room);
    void note_orderly_end();

    /// The last of what a ring in this room held when the machine restarted without having been
    /// told to; how much.
    static size_t left_behind(Header const& header, std::span<char const> room,
                              std::span<char> out);

private:
    Header* header_;
    std::span<char> room_;

    void begin();
};

} // namespace hearth
