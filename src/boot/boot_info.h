// What any boot protocol tells us, by value: nothing in it points at memory of the boot loader's.
#pragma once

#include "acpi/root_pointer.h"
#include "base/address.h"
#include "boot/memory_map.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace hearth {

/// Text copied into place, cut when too long.
template <size_t Capacity>
class FixedString {
    std::array<char, Capacity> data_{};
    size_t size_ = 0;
    bool truncated_ = false;

public:
    constexpr void assign(std::string_view text) {
        truncated_ = text.size() > Capacity;
        size_ = std::min(text.size(), Capacity);
        std::copy_n(text.begin(), size_, data_.begin());
    }
    /// False when there is no room: the text is cut here.
    constexpr bool append(char c) {
        truncated_ = truncated_ || size_ == Capacity;
        if (!truncated_)
            data_[size_++] = c;
        return !truncated_;
    }
    constexpr void remove_prefix(size_t count) {
        count = std::min(count, size_);
        std::copy(data_.begin() + count, data_.begin() + size_, data_.begin());
        size_ -= count;
    }
    [[nodiscard]] constexpr std::string_view view() const { return {data_.data(), size_}; }
    [[nodiscard]] constexpr bool empty() const { return size_ == 0; }
    [[nodiscard]] constexpr bool truncated() const { return truncated_; }
};

struct BootModule {
    PhysicalAddress start;
    uint64_t size = 0;
    FixedString<1024> command_line;
};

struct Framebuffer {
    enum class Kind : uint8_t { indexed = 0, direct_rgb = 1, ega_text = 2 };
    struct Channel {
        uint8_t position = 0; // in bits
        uint8_t size = 0;
    };

    PhysicalAddress address;
    uint32_t pitch = 0; // bytes a line
    uint32_t width = 0; // pixels, or characters for ega_text
    uint32_t height = 0;
    uint8_t bits_per_pixel = 0;
    Kind kind = Kind::direct_rgb;
    Channel red, green, blue; // direct_rgb only
};

struct EfiFacts {
    bool booted_by_efi = false;
    bool boot_services_active = false;
    std::optional<PhysicalAddress> system_table;
    std::optional<PhysicalAddress> image_handle;
    /// Where the loader put a copy of the EFI memory map; size 0 when it did not.
    PhysicalAddress memory_map;
    uint64_t memory_map_size = 0;
    uint32_t descriptor_size = 0;
    uint32_t descriptor_version = 0;
};

enum class BootProtocol : uint8_t { none, multiboot1, multiboot2, pvh };

struct BootInfo {
    static constexpr size_t maximum_modules = 16;

    BootProtocol protocol = BootProtocol::none;
    FixedString<64> loader_name;
    /// Options only: a file name before them is cut off already. The same in modules.
    FixedString<2048> command_line;
    MemoryMap memory_map;
    std::array<BootModule, maximum_modules> module_storage{};
    size_t module_count = 0;
    /// How many modules there were beyond those.
    uint32_t modules_dropped = 0;
    RootPointer root_pointer;
    std::optional<Framebuffer> framebuffer;
    EfiFacts efi;
    /// Where a relocating loader put the image.
    std::optional<PhysicalAddress> load_base;

    [[nodiscard]] std::span<BootModule const> modules() const {
        return {module_storage.data(), module_count};
    }
    /// The next free module, or nullptr when there are too many (and counts that).
    BootModule* add_module() {
        if (module_count == maximum_modules) {
            ++modules_dropped;
            return nullptr;
        }
        return &module_storage[module_count++];
    }
};

} // namespace hearth
