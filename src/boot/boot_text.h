// Texts from boot loaders: zero-terminated, somewhere in memory, perhaps with a file name in front.
#pragma once

#include "acpi/physical_view.h"
#include "boot/boot_info.h"

#include <algorithm>
#include <string_view>

namespace hearth {

/// Copies a zero-terminated text, cutting it to the capacity. False when it runs into memory that
/// cannot be read.
template <size_t Capacity>
bool read_text(PhysicalView& memory, PhysicalAddress at, FixedString<Capacity>& text) {
    text.assign({});
    while (true) {
        // By pages, since what follows the text need not be readable.
        uint64_t size = page_size - (at.raw() & page_mask);
        auto bytes = memory.view(at, size);
        if (bytes.empty())
            return false;
        for (auto byte : bytes)
            if (byte == std::byte{0} || !text.append(static_cast<char>(byte)))
                return true;
        at += size;
    }
}

/// A text inside a structure: up to its first zero, or its end.
constexpr std::string_view text_in(std::string_view bytes) {
    return bytes.substr(0, bytes.find('\0'));
}
inline std::string_view text_in(Bytes bytes) {
    return text_in({reinterpret_cast<char const*>(bytes.data()), bytes.size()});
}

/// Where the options begin on a line. Multiboot loaders put a file name first, except for GRUB 2,
/// which cuts it off; scripts made for loaders that do not cut put the word "placeholder" in its
/// place.
constexpr size_t options_start(std::string_view line, bool file_name_first) {
    auto skip_blanks = [&](size_t at) {
        return std::min(line.find_first_not_of(' ', at), line.size());
    };
    size_t at = skip_blanks(0);
    size_t word_end = std::min(line.find(' ', at), line.size());
    if (file_name_first || line.substr(at, word_end - at) == "placeholder")
        at = skip_blanks(word_end);
    return at;
}

template <size_t Capacity>
void keep_options(FixedString<Capacity>& line, bool file_name_first) {
    line.remove_prefix(options_start(line.view(), file_name_first));
}

} // namespace hearth
