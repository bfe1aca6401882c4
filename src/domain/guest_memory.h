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

#include <cstddef>
#include <span>
#include <type_traits>

namespace hearth {

/// Types that may cross the border: no padding that could carry secrets out.
template <class T>
concept Abi = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
              std::has_unique_object_representations_v<T>;

/// fault: an address is the hypervisor's, not mapped, or not writable.
Result<> copy_from_guest(void* to, GuestAddress from, size_t size);
Result<> copy_to_guest(GuestAddress to, void const* from, size_t size);

/// One object of a size that is known: the short way.
template <class T>
Result<> copy_object(uint64_t guest, void* to, void const* from) {
    if (!layout::guest_start_ok(guest))
        return Errno::fault;
    // SAFETY: the object lies outside the hypervisor; the copying survives faults.
    size_t left;
    if constexpr (sizeof(T) % 8 == 0)
        left = arch::copy_guest_quads(to, from, sizeof(T) / 8);
    else if constexpr (sizeof(T) % 4 == 0)
        left = arch::copy_guest_longs(to, from, sizeof(T) / 4);
    else
        left = arch::copy_guest(to, from, sizeof(T));
    if (left != 0) [[unlikely]]
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
    [[nodiscard]] Result<> read_to(T& value, uint64_t index = 0) const {
        uint64_t const at = TRY(element(index)).raw();
        auto const done = copy_object<T>(at, &value, reinterpret_cast<void const*>(at));
        arch::written_by_assembly(value);
        return done;
    }
    [[nodiscard]] Result<> write(T const& value, uint64_t index = 0) const {
        uint64_t const at = TRY(element(index)).raw();
        return copy_object<T>(at, reinterpret_cast<void*>(at), &value);
    }
    [[nodiscard]] Result<> write_many(std::span<T const> values, uint64_t index = 0) const {
        return copy_to_guest(TRY(element(index)), values.data(), values.size_bytes());
    }
    [[nodiscard]] Result<> read_many(std::span<T> values, uint64_t index = 0) const {
        return copy_from_guest(values.data(), TRY(element(index)), values.size_bytes());
    }
};

} // namespace hearth
