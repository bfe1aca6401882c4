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
    // All ones when index < size, by the carry. In C++ the optimiser, which sees the comparison
    // before, would know the answer and leave nothing for a processor that guessed wrong.
    uint64_t mask;
    asm("cmp %2, %1\n\tsbb %0, %0" : "=r"(mask) : "r"(index), "re"(size) : "cc");
    return index & mask;
}
/// The same where the size is a power of two, in one instruction: wraps when out of range.
template <uint64_t size>
uint64_t mask_index(uint64_t index) {
    static_assert(size != 0 && (size & (size - 1)) == 0);
    asm("and %1, %0" : "+r"(index) : "i"(size - 1) : "cc");
    return index;
}

} // namespace hearth
