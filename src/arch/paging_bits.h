// Page-table entries as the processor reads them. (Intel SDM vol. 3A, 4.5; AMD APM vol. 2, 5.3)
#pragma once

#include "base/address.h"
#include "base/bits.h"

namespace hearth {

namespace pte {
inline constexpr uint64_t present = bit(0);
inline constexpr uint64_t writable = bit(1);
inline constexpr uint64_t user = bit(2);
inline constexpr uint64_t write_through = bit(3);
inline constexpr uint64_t cache_disable = bit(4);
inline constexpr uint64_t accessed = bit(5);
inline constexpr uint64_t dirty = bit(6);
inline constexpr uint64_t pat = bit(7);   // in an L1 entry
inline constexpr uint64_t large = bit(7); // in an L2 or L3 entry
inline constexpr uint64_t global = bit(8);
inline constexpr uint64_t no_execute = bit(63);
inline constexpr uint64_t frame_bits = 0x000ffffffffff000;
inline constexpr uint64_t available =
    0x7ff0000000000e00; // left to software; where protection keys are off, theirs too
} // namespace pte

inline constexpr unsigned entries_per_table = 512;

/// One entry of any level.
struct Pte {
    uint64_t v = 0;
    static constexpr Pte make(Mfn mfn, uint64_t flags) { return {mfn.raw() << page_shift | flags}; }
    [[nodiscard]] constexpr bool present() const { return v & pte::present; }
    [[nodiscard]] constexpr bool writable() const { return v & pte::writable; }
    [[nodiscard]] constexpr bool large() const { return v & pte::large; }
    [[nodiscard]] constexpr Mfn mfn() const { return Mfn{(v & pte::frame_bits) >> page_shift}; }
    [[nodiscard]] constexpr uint64_t flags() const { return v & ~pte::frame_bits; }
    bool operator==(Pte const&) const = default;
};

/// Index into the table of `level` (1 to 4) for a linear address.
constexpr unsigned table_index(uint64_t address, unsigned level) {
    return static_cast<unsigned>(bits(address, page_shift + 9 * (level - 1), 9));
}

} // namespace hearth
