// The fuzzer's input as physical memory. Each view is a copy of its own size, so that the address
// sanitizer sees reads beyond it or after the next call.
#pragma once

#include "acpi/physical_view.h"

#include <vector>

namespace hearth {

class FuzzMemory final : public PhysicalView {
    uint64_t base_;
    Bytes bytes_;
    std::vector<std::byte> view_;

public:
    FuzzMemory(uint64_t base, Bytes bytes) : base_{base}, bytes_{bytes} {}

    Bytes view(PhysicalAddress start, uint64_t size) override {
        std::vector<std::byte>{}.swap(view_);
        auto inside = slice(bytes_, start.raw() - base_, size);
        if (start.raw() < base_ || !inside)
            return {};
        view_.assign(inside->begin(), inside->end());
        return view_;
    }
};

inline Bytes fuzz_bytes(uint8_t const* data, size_t size) {
    return std::as_bytes(std::span{data, size});
}

} // namespace hearth
