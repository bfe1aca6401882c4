// Guest memory, reached once and by value.
//
// A guest names memory by linear addresses in its own address space, which is the current one while
// it makes a hypercall. There is no way to get at a raw pointer, so nothing is fetched twice and
// nothing is reached unchecked.
#pragma once

#include "base/address.h"
#include "base/result.h"

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
        TRY(copy_from_guest(&value, TRY(element(index)), sizeof(T)));
        return value;
    }
    [[nodiscard]] Result<> write(T const& value, uint64_t index = 0) const {
        return copy_to_guest(TRY(element(index)), &value, sizeof(T));
    }
    [[nodiscard]] Result<> write_many(std::span<T const> values, uint64_t index = 0) const {
        return copy_to_guest(TRY(element(index)), values.data(), values.size_bytes());
    }
    [[nodiscard]] Result<> read_many(std::span<T> values, uint64_t index = 0) const {
        return copy_from_guest(values.data(), TRY(element(index)), values.size_bytes());
    }
};

} // namespace hearth
