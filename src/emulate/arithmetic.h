// The integer operations of the emulator and their flags, as pure functions.
#pragma once

#include "emulate/decode.h"

namespace hearth::emulate {

struct Computed {
    uint64_t value; // cut to the operand's size
    uint64_t flags; // the rflags given, with the operation's arithmetic flags replaced
};

/// The low `size` bytes set.
constexpr uint64_t size_mask(unsigned size) {
    return size >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * size)) - 1;
}

/// add to cmp, inc, dec, neg and not; size 1, 2, 4 or 8. Unary operations ignore `b`. Flags that
/// the architecture leaves undefined get what processors give: AF is clear after and, or, xor.
Computed compute(Operation operation, unsigned size, uint64_t a, uint64_t b, uint64_t flags);

/// bt, bts, btr, btc on bit `index` of `a`. Changes CF only.
Computed compute_bit(Operation operation, uint64_t a, unsigned index, uint64_t flags);

} // namespace hearth::emulate
