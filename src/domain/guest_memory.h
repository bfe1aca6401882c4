// Guest memory, reached once and by value.
//
// A guest names memory by linear addresses in its own address space, which is the current one while
// it makes a hypercall. There is no way to get at a raw pointer, so nothing is fetched twice and
// nothing is reached unchecked.
#pragma once

#include "arch/intrinsics.h"
#include "base/address.h"
#include "base/result.h"
#include "memory/layout.h"

#include <array>
#include <bit>
#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>

namespace hearth {

/// Types that may cross the border: no padding that could carry secrets out.
template <class T>
concept Abi = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
              std::has_unique_object_representations_v<T>;

/// fault: an address is the hypervisor's, not mapped, or not writable.
Result<> copy_from_guest(void* to, GuestAddress from, size_t size);
Result<> copy_to_guest(GuestAddress to, void const* from, size_t size);

/// Objects that consist of whole units, few enough to go through registers.
template <class T>
using UnitOf = std::conditional_t<sizeof(T) % sizeof(uint64_t) == 0, uint64_t, uint32_t>;
template <class T>
using UnitsOf = std::array<UnitOf<T>, sizeof(T) / sizeof(UnitOf<T>)>;
template <class T>
concept FewUnits = sizeof(T) % sizeof(UnitOf<T>) == 0 && sizeof(T) / sizeof(UnitOf<T>) <= 9;

/// One behind the other, all of one type; each is fetched when it is written.
template <class... Units>
[[gnu::always_inline]] inline Result<> write_units(GuestAddress to, Units const&... units) {
    // SAFETY: what begins there lies outside the hypervisor; stores survive faults.
    if (!layout::guest_start_ok(to.raw()) || !arch::store_to_guest(to.raw(), units...)) [[unlikely]]
        return Errno::fault;
    return {};
}

/// An array, or a single object, in guest memory.
template <Abi T>
class GuestPointer {
    GuestAddress address_;

    [[nodiscard]] Result<GuestAddress> element(uint64_t index) const {
        uint64_t offset, at;
        if (__builtin_mul_overflow(index, sizeof(T), &offset) ||
            __builtin_add_overflow(address_.raw(), offset, &at))
            return Errno::fault;
        return GuestAddress{at};
    }

public:
    constexpr explicit GuestPointer(uint64_t address) : address_{address} {}
    [[nodiscard]] bool is_null() const { return address_.raw() == 0; }
    [[nodiscard]] GuestAddress address() const { return address_; }

    [[nodiscard]] Result<T> read(uint64_t index = 0) const {
        T value;
        TRY(read_to(value, index));
        return value;
    }
    /// The same, to where it is wanted.
    [[gnu::always_inline, nodiscard]] Result<> read_to(T& value, uint64_t index = 0) const {
        GuestAddress const at = TRY(element(index));
        if constexpr (FewUnits<T>) {
            UnitsOf<T> units;
            // SAFETY: the object lies outside the hypervisor; loads survive faults.
            if (!layout::guest_start_ok(at.raw()) || !arch::load_from_guest(units, at.raw()))
                [[unlikely]]
                return Errno::fault;
            value = std::bit_cast<T>(units);
            return {};
        } else {
            return copy_from_guest(&value, at, sizeof value);
        }
    }
    [[gnu::always_inline, nodiscard]] Result<> write(T const& value, uint64_t index = 0) const {
        GuestAddress const at = TRY(element(index));
        if constexpr (FewUnits<T>) {
            return std::apply([at](auto const&... units) { return write_units(at, units...); },
                              std::bit_cast<UnitsOf<T>>(value));
        } else {
            return copy_to_guest(at, &value, sizeof value);
        }
    }
    [[nodiscard]] Result<> write_many(std::span<T const> values, uint64_t index = 0) const {
        return copy_to_guest(TRY(element(index)), values.data(), values.size_bytes());
    }
    [[nodiscard]] Result<> read_many(std::span<T> values, uint64_t index = 0) const {
        return copy_from_guest(values.data(), TRY(element(index)), values.size_bytes());
    }
};

} // namespace hearth
