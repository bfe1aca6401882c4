// The fake machine: what the core asks of a CPU, as far as hosted tests need it. Tests steer it
// through machine.h.
#pragma once

#include "arch/host/port_io.h"
#include "arch/register_bits.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace hearth::arch {

// Registers that are remembered for each CPU.
uint64_t read_msr(uint32_t index);
void write_msr(uint32_t index, uint64_t value);
uint64_t read_cr2();
uint64_t read_cr3();
void write_cr3(uint64_t value);
uint64_t read_cr4();
void write_cr4(uint64_t value);
uint64_t read_dr6();
void write_dr6(uint64_t value);
uint64_t read_tsc();

inline bool try_read_msr(uint32_t index, uint64_t* value) {
    *value = read_msr(index);
    return true;
}
inline bool try_write_msr(uint32_t index, uint64_t value) {
    write_msr(index, value);
    return true;
}

// Registers that nothing in the core depends on.
inline uint64_t read_cr0() { return 0x8005003b; }
inline void clear_task_switched() {}
inline void write_dr7(uint64_t) {}
inline void write_debug_address(unsigned, uint64_t) {}
inline void swap_gs() {}
inline uint16_t read_ds() { return 0; }
inline uint16_t read_es() { return 0; }
inline uint16_t read_fs() { return 0; }
inline uint16_t read_gs() { return 0; }
inline bool load_segment_ds(uint16_t) { return true; }
inline bool load_segment_es(uint16_t) { return true; }
inline bool load_segment_fs(uint16_t) { return true; }
inline bool load_segment_gs(uint16_t) { return true; }

struct CpuidLeaf {
    uint32_t eax, ebx, ecx, edx;
};
CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf = 0);

/// Whether this is the allocation that a test wants to fail.
bool allocation_fails();
/// Memory that is nobody's is filled with host::canary, and the address sanitizer reports who
/// touches it.
void memory_freed(void* memory, size_t size);
void memory_given(void* memory, size_t size);

void pause();
inline void reload_stack_segment() {}
inline void disable_interrupts() {}
void open_interrupt_window();
/// Leaves the CPU to whoever drives the fake machine.
void wait_for_interrupt();
/// Prints what went to the serial port, and aborts the process.
[[noreturn]] void halt_forever();
inline void triple_fault() {}
inline void write_back_and_invalidate_caches() {}
void invalidate_page(uint64_t address);
void invalidate_page_of(unsigned tag, uint64_t address);

inline void copy_quads(void* to, void const* from, size_t quads) { memcpy(to, from, quads * 8); }
inline void fill_quads(void* to, uint64_t value, size_t quads) {
    for (size_t i = 0; i < quads; ++i)
        static_cast<uint64_t*>(to)[i] = value;
}

/// As entry.S has them, with the page tables that CR3 names walked by software.
size_t copy_guest(void* to, void const* from, size_t size);
template <class Unit, size_t count>
bool load_from_guest(std::array<Unit, count>& to, uint64_t from) {
    return copy_guest(&to, reinterpret_cast<void const*>(from), sizeof to) == 0;
}
template <class Unit, class... Units>
bool store_to_guest(uint64_t to, Unit first, Units... others) {
    Unit const from[] = {first, others...};
    return copy_guest(reinterpret_cast<void*>(to), from, sizeof from) == 0;
}
bool compare_exchange_guest(void* address, uint64_t* expected, uint64_t desired, size_t size);

} // namespace hearth::arch
