// Distinct types for the kinds of address, so that mixing them does not compile.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace hearth {

inline constexpr unsigned page_shift = 12;
inline constexpr uint64_t page_size = uint64_t{1} << page_shift;
inline constexpr uint64_t page_mask = page_size - 1;

/// A number with a kind. Kinds do not convert into each other.
template <class Tag>
class Number {
    uint64_t n_ = 0;

public:
    constexpr Number() = default;
    constexpr explicit Number(uint64_t n) : n_{n} {}
    [[nodiscard]] constexpr uint64_t raw() const { return n_; }
    constexpr auto operator<=>(Number const&) const = default;
    constexpr Number operator+(uint64_t n) const { return Number{n_ + n}; }
    constexpr Number operator-(uint64_t n) const { return Number{n_ - n}; }
    constexpr uint64_t operator-(Number other) const { return n_ - other.n_; }
    constexpr Number& operator++() {
        ++n_;
        return *this;
    }
    constexpr Number& operator+=(uint64_t n) {
        n_ += n;
        return *this;
    }
};

/// Machine frame number: a page of real memory.
using Mfn = Number<struct MachineFrameTag>;
/// Guest frame number: a frame as its guest counts it; for PV guests a hint kept for them in the
/// M2P.
using Gfn = Number<struct GuestFrameTag>;
/// Physical (machine) byte address.
using PhysicalAddress = Number<struct PhysicalTag>;
/// Linear address in a guest's address space. Never dereferenced outside domain/'s copy routines.
using GuestAddress = Number<struct GuestLinearTag>;

constexpr Mfn frame_of(PhysicalAddress a) { return Mfn{a.raw() >> page_shift}; }
constexpr PhysicalAddress address_of(Mfn m) { return PhysicalAddress{m.raw() << page_shift}; }

/// No frame: what the ABI calls INVALID_MFN (all bits set).
inline constexpr Mfn invalid_mfn{~uint64_t{0}};
inline constexpr Gfn invalid_gfn{~uint64_t{0}};

constexpr uint64_t align_up(uint64_t v, uint64_t a) { return (v + a - 1) & ~(a - 1); }
constexpr uint64_t align_down(uint64_t v, uint64_t a) { return v & ~(a - 1); }
constexpr bool is_aligned(uint64_t v, uint64_t a) { return (v & (a - 1)) == 0; }
constexpr uint64_t pages_for(uint64_t bytes) { return (bytes + page_size - 1) >> page_shift; }

inline namespace literals {
constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
constexpr uint64_t operator""_TiB(unsigned long long n) { return n << 40; }
} // namespace literals

} // namespace hearth
