// A kernel library for test guests: hypercalls, page tables, traps that a test expects, and a
// one-line result.
//
// A guest runs as Domain 0 in seconds, or beside it, given to xl. It prints "GUEST name: ok" or
// "GUEST name: FAILED ..." and powers off.
#pragma once

#include "abi/operations.h"
#include "abi/xen.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace guest {

using hearth::abi::Hypercall;

inline int64_t hypercall(uint64_t number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0,
                         uint64_t d = 0, uint64_t e = 0) {
    int64_t result;
    register uint64_t r10 asm("r10") = d;
    register uint64_t r8 asm("r8") = e;
    asm volatile("syscall"
                 : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8)
                 : "a"(number)
                 : "rcx", "r11", "r9", "memory");
    return result;
}
template <class... A>
int64_t hypercall(Hypercall number, A... arguments) {
    return hypercall(static_cast<uint64_t>(number), (uint64_t)(arguments)...);
}

void print(char const* text);
void print_number(int64_t number);

/// Fails the guest, with the expression's text, unless it holds; goes on.
#define EXPECT(condition) ::guest::expect((condition), #condition, __LINE__)
void expect(bool holds, char const* text, int line);

/// What the last trap that probe() caught was.
struct Trap {
    uint64_t vector, error, rip, cr2;
};
extern Trap last_trap;
extern "C" bool probe(void (*function)(void*), void* argument);
/// Traps outside probe(): how many of each vector; execution goes on behind an instruction of
/// `skip` bytes.
extern uint64_t unexpected_traps;

extern hearth::abi::StartInfo* start_info;
extern hearth::abi::SharedInfo* shared_info; // not mapped; see map_shared_info

constexpr uint64_t virt_base = 0xffffffff80000000;
constexpr uint64_t page_size = 4096;
uint64_t mfn_of_pfn(uint64_t pfn);
inline uint64_t pfn_of(void const* p) {
    return (reinterpret_cast<uint64_t>(p) - virt_base) / page_size;
}
inline uint64_t mfn_of(void const* p) { return mfn_of_pfn(pfn_of(p)); }

constexpr uint64_t present = 1, writable = 2, user = 4, accessed = 0x20, dirty = 0x40, large = 0x80;
constexpr uint64_t entry(uint64_t mfn, uint64_t flags) { return mfn << 12 | flags; }

int64_t update_va_mapping(void const* address, uint64_t value,
                          uint64_t flags = hearth::abi::uvmf_invlpg);
int64_t mmu_update(uint64_t pointer, uint64_t value);
int64_t mmuext(hearth::abi::MmuExtCommand command, uint64_t argument1, uint64_t argument2 = 0);

/// The machine address of the entry that maps `address` at a level (1 to 4) in the tables that we
/// started on.
uint64_t entry_address(void const* address, unsigned level);
uint64_t read_entry(uint64_t machine_address);

/// Pages of our own, zeroed, mapped writable.
void* page();

/// The line that says whether all expectations held.
void print_result();
[[noreturn]] void finish();
/// Until the toolstack ends it.
[[noreturn]] void sleep_for_ever();

} // namespace guest

/// Each guest's own part.
extern char const guest_name[];
void guest_main();
