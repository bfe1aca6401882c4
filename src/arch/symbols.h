// Names for addresses in stack traces; the table is made from the linked image by
// tools/make-symbols.
#pragma once

#include <cstdint>
#include <string_view>

namespace hearth {

struct Symbol {
    std::string_view name;
    uint64_t offset;
};
Symbol find_symbol(uint64_t address);

} // namespace hearth
