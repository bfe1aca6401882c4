// Reading physical memory and byte buffers that others wrote: bounded, unaligned, never a pointer
// cast.
#pragma once

#include "base/address.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace hearth {

using Bytes = std::span<std::byte const>;

/// A window on physical memory, however it is mapped.
class PhysicalView {
public:
    /// The bytes of [start, start + size), or an empty span where any of them cannot be read. A
    /// span stays valid until the next call.
    virtual Bytes view(PhysicalAddress start, uint64_t size) = 0;

protected:
    ~PhysicalView() = default;
};

/// `size` bytes from `offset`, or nothing when they are not all there.
constexpr std::optional<Bytes> slice(Bytes from, uint64_t offset, uint64_t size) {
    if (offset > from.size() || size > from.size() - offset)
        return std::nullopt;
    return from.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
}

/// A little-endian value at `offset`, however aligned, or nothing when it is not all there.
template <class T>
    requires std::is_trivially_copyable_v<T>
std::optional<T> load(Bytes from, uint64_t offset) {
    auto bytes = slice(from, offset, sizeof(T));
    if (!bytes)
        return std::nullopt;
    T value;
    std::memcpy(&value, bytes->data(), sizeof value);
    return value;
}

/// As load(), where the caller has checked the bounds: zero beyond the end, for fields that a
/// shorter, older version of a structure lacks.
template <class T>
    requires std::is_integral_v<T>
T load_or_zero(Bytes from, uint64_t offset) {
    return load<T>(from, offset).value_or(T{0});
}

} // namespace hearth
