// A set of numbers as a few ranges.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace hearth {

/// Ranges in order, none next to another. There is room for so many and no more.
class RangeSet {
public:
    static constexpr size_t capacity = 32;
    struct Range {
        uint64_t first, last;
    };

    /// Whether it has every number of the range.
    [[nodiscard]] constexpr bool holds(uint64_t first, uint64_t last) const {
        return std::any_of(begin(), end(),
                           [&](Range const& r) { return r.first <= first && last <= r.last; });
    }
    /// Whether it has any of them.
    [[nodiscard]] constexpr bool meets(uint64_t first, uint64_t last) const {
        return std::any_of(begin(), end(),
                           [&](Range const& r) { return r.first <= last && first <= r.last; });
    }
    /// False: there is no room; nothing has changed.
    constexpr bool add(uint64_t first, uint64_t last) { return rebuild(first, last, true); }
    constexpr bool remove(uint64_t first, uint64_t last) { return rebuild(first, last, false); }
    [[nodiscard]] constexpr bool empty() const { return count_ == 0; }

    [[nodiscard]] constexpr Range const* begin() const { return ranges_; }
    [[nodiscard]] constexpr Range const* end() const { return ranges_ + count_; }

private:
    Range ranges_[capacity]{};
    size_t count_ = 0;

    /// What lies outside of the range stays, but for what touches it when it is added.
    constexpr bool rebuild(uint64_t first, uint64_t last, bool added) {
        RangeSet next;
        bool fits = true;
        auto const keep = [&](uint64_t from, uint64_t to) {
            if (from > to)
                return;
            if (next.count_ != 0 && from != 0 && next.ranges_[next.count_ - 1].last >= from - 1)
                next.ranges_[next.count_ - 1].last =
                    std::max(next.ranges_[next.count_ - 1].last, to);
            else if (next.count_ < capacity)
                next.ranges_[next.count_++] = {from, to};
            else
                fits = false;
        };
        bool placed = !added;
        auto const place = [&] {
            if (!placed)
                keep(first, last);
            placed = true;
        };
        for (Range const& r : *this) {
            if (first != 0 && r.first < first)
                keep(r.first, std::min(r.last, first - 1));
            if (r.last >= first)
                place();
            if (last != ~uint64_t{0} && r.last > last)
                keep(std::max(r.first, last + 1), r.last);
        }
        place();
        if (fits)
            *this = next;
        return fits;
    }
};

} // namespace hearth
