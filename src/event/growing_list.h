// Pointers that become more.
#pragma once

#include "base/bits.h"
#include "memory/allocator.h"

#include <algorithm>
#include <bit>
#include <type_traits>

namespace hearth {

/// Read and written under its owner's lock. Owns its memory, not what the pointers point to.
template <class Pointer>
class GrowingList {
    static_assert(std::is_pointer_v<Pointer>);
    Pointer* items_ = nullptr;
    uint32_t size_ = 0;

public:
    GrowingList() = default;
    GrowingList(GrowingList const&) = delete;
    GrowingList& operator=(GrowingList const&) = delete;
    ~GrowingList() { free_bytes(static_cast<void*>(items_)); }

    [[nodiscard]] uint32_t size() const { return size_; }
    Pointer& operator[](uint64_t index) const { return items_[clamp_index(index, size_)]; }
    [[nodiscard]] Pointer* begin() const { return items_; }
    [[nodiscard]] Pointer* end() const { return items_ + size_; }

    /// Has at least so many, the new ones null. nomem.
    Result<> grow(uint32_t wanted) {
        if (wanted <= size_)
            return {};
        constexpr uint32_t least = 4;
        uint32_t const size = std::max(least, std::bit_ceil(wanted));
        auto* const fresh = static_cast<Pointer*>(TRY(allocate_bytes(size * sizeof(void*))));
        std::copy(begin(), end(), fresh);
        free_bytes(static_cast<void*>(items_));
        items_ = fresh;
        size_ = size;
        return {};
    }
};

} // namespace hearth
