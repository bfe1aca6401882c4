// Fields of hardware words as types, and small integer helpers.
#pragma once

#include <cstdint>

namespace hearth {

constexpr uint64_t bit(unsigned n) { return uint64_t{1} << n; }

/// `width` bits starting at bit `low`.
constexpr uint64_t bits(uint64_t v, unsigned low, unsigned width) {
    return width == 64 ? v >> low : (v >> low) & ((uint64_t{1} << width) - 1);
}

/// Bounds an index that a guest chose, also under speculation: 0 when out of range.
inline uint64_t clamp_index(uint64_t index, uint64_t size) {
    // All ones when index < size. The empty asm keeps the optimiser from turning this into a
    // branch.
    uint64_t mask =
        static_cast<uint64_t>((static_cast<__int128>(index) - static_cast<__int128>(size)) >> 127);
    asm("" : "+r"(mask));
    return index & mask;
}

} // namespace hearth
