// The fake machine has no segments to load.
#pragma once

#include <array>
#include <cstdint>

namespace hearth::arch {

void set_entry_stack(unsigned cpu, uint64_t top);
uint64_t entry_stack(unsigned cpu);
inline void use_airlocks() {}
void empty_airlock(unsigned cpu);
struct AddressRange {
    uint64_t start, end;
};
using PartsForEntry = std::array<AddressRange, 2>;
/// Some text, and the airlock.
PartsForEntry parts_for_entry(unsigned cpu);
inline void const* reserved_gdt_page() { return nullptr; }
inline void load_gdt_window(uint64_t) {}
inline void load_ldt(unsigned, uint64_t, unsigned) {}

} // namespace hearth::arch
