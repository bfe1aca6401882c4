#include "emulate/arithmetic.h"

#include <bit>

namespace hearth::emulate {
namespace {

constexpr uint64_t arithmetic_flags =
    rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::of;

constexpr uint64_t when(bool condition, uint64_t flag) { return condition ? flag : 0; }

constexpr uint64_t result_flags(uint64_t value, uint64_t top) {
    bool const even = std::popcount(static_cast<uint8_t>(value)) % 2 == 0;
    return when(value == 0, rflags::zf) | when((value & top) != 0, rflags::sf) |
           when(even, rflags::pf);
}

constexpr Computed add(uint64_t a, uint64_t b, uint64_t carry, uint64_t mask) {
    uint64_t const top = mask ^ (mask >> 1);
    uint64_t const value = (a + b + carry) & mask;
    uint64_t const carries = (a & b) | ((a | b) & ~value);
    uint64_t const overflow = (a ^ value) & (b ^ value);
    return {value, result_flags(value, top) | when((carries & top) != 0, rflags::cf) |
                       when((carries & 8) != 0, rflags::af) |
                       when((overflow & top) != 0, rflags::of)};
}

constexpr Computed subtract(uint64_t a, uint64_t b, uint64_t borrow, uint64_t mask) {
    uint64_t const top = mask ^ (mask >> 1);
    uint64_t const value = (a - b - borrow) & mask;
    uint64_t const borrows = (~a & b) | ((~a | b) & value);
    uint64_t const overflow = (a ^ b) & (a ^ value);
    return {value, result_flags(value, top) | when((borrows & top) != 0, rflags::cf) |
                       when((borrows & 8) != 0, rflags::af) |
                       when((overflow & top) != 0, rflags::of)};
}

} // namespace

Computed compute(Operation operation, unsigned size, uint64_t a, uint64_t b, uint64_t flags) {
    uint64_t const mask = size_mask(size);
    uint64_t const top = mask ^ (mask >> 1);
    uint64_t const carry = flags & rflags::cf;
    uint64_t changed = arithmetic_flags;
    a &= mask;
    b &= mask;
    auto const logical = [top](uint64_t value) {
        return Computed{value, result_flags(value, top)};
    };
    Computed result{a, flags};
    switch (operation) {
    case Operation::add:
        result = add(a, b, 0, mask);
        break;
    case Operation::adc:
        result = add(a, b, carry, mask);
        break;
    case Operation::sub:
    case Operation::cmp:
        result = subtract(a, b, 0, mask);
        break;
    case Operation::sbb:
        result = subtract(a, b, carry, mask);
        break;
    case Operation::bitwise_or:
        result = logical(a | b);
        break;
    case Operation::bitwise_and:
        result = logical(a & b);
        break;
    case Operation::bitwise_xor:
        result = logical(a ^ b);
        break;
    case Operation::inc:
        result = add(a, 1, 0, mask);
        changed &= ~rflags::cf;
        break;
    case Operation::dec:
        result = subtract(a, 1, 0, mask);
        changed &= ~rflags::cf;
        break;
    case Operation::neg:
        result = subtract(0, a, 0, mask);
        break;
    case Operation::bitwise_not:
        result.value = ~a & mask;
        changed = 0;
        break;
    default:
        changed = 0;
        break;
    }
    return {result.value, (flags & ~changed) | (result.flags & changed)};
}

Computed compute_bit(Operation operation, uint64_t a, unsigned index, uint64_t flags) {
    uint64_t const one = uint64_t{1} << (index & 63);
    uint64_t value = a;
    if (operation == Operation::bts)
        value |= one;
    else if (operation == Operation::btr)
        value &= ~one;
    else if (operation == Operation::btc)
        value ^= one;
    return {value, (flags & ~rflags::cf) | when((a & one) != 0, rflags::cf)};
}

} // namespace hearth::emulate
