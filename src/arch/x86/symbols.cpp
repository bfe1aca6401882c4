#include "arch/symbols.h"

extern "C" {
struct SymbolEntry {
    uint64_t address;
    uint32_t name; // offset into symbol_names
    uint32_t length;
};
// Weak: absent in the first of the two links.
[[gnu::weak]] extern SymbolEntry const symbol_table[];
[[gnu::weak]] extern uint64_t const symbol_count;
[[gnu::weak]] extern char const symbol_names[];
}

namespace hearth {

Symbol find_symbol(uint64_t address) {
    if (&symbol_count == nullptr)
        return {"?", 0};
    uint64_t low = 0, high = symbol_count;
    while (low < high) {
        uint64_t const middle = (low + high) / 2;
        if (symbol_table[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return {"?", 0};
    SymbolEntry const& entry = symbol_table[low - 1];
    return {{symbol_names + entry.name, entry.length}, address - entry.address};
}

} // namespace hearth
