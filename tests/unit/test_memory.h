// Physical memory for parsers under test: one stretch of bytes, of which views are exact copies, so
// that the address sanitizer sees reads beyond them or after the next call.
#pragma once

#include "acpi/physical_view.h"

#include <cstring>
#include <string_view>
#include <vector>

namespace hearth::test {

class TestMemory final : public PhysicalView {
    uint64_t base_;
    std::vector<std::byte> bytes_;
    std::vector<std::byte> view_;

public:
    TestMemory(uint64_t base, size_t size) : base_{base}, bytes_(size) {}
    TestMemory(uint64_t base, std::vector<std::byte> bytes)
        : base_{base}, bytes_{std::move(bytes)} {}

    Bytes view(PhysicalAddress start, uint64_t size) override {
        std::vector<std::byte>{}.swap(view_);
        auto inside = slice(bytes_, start.raw() - base_, size);
        if (start.raw() < base_ || !inside)
            return {};
        view_.assign(inside->begin(), inside->end());
        return view_;
    }

    template <class T>
    void put(uint64_t at, T value) {
        std::memcpy(bytes_.data() + (at - base_), &value, sizeof value);
    }
    void put_text(uint64_t at, std::string_view text) {
        std::memcpy(bytes_.data() + (at - base_), text.data(), text.size());
        bytes_[at - base_ + text.size()] = std::byte{0};
    }
    [[nodiscard]] size_t size() const { return bytes_.size(); }
    std::byte& at(uint64_t address) { return bytes_[address - base_]; }
    /// Makes the bytes in [start, start + size) add up to 0, by the one at `checksum_at`.
    void fix_checksum(uint64_t start, uint64_t size, uint64_t checksum_at) {
        at(checksum_at) = std::byte{0};
        unsigned sum = 0;
        for (uint64_t i = 0; i < size; ++i)
            sum += static_cast<unsigned>(at(start + i));
        at(checksum_at) = static_cast<std::byte>(-sum);
    }
};

} // namespace hearth::test
