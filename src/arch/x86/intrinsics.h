// The instructions that C++ has no words for.
#pragma once

#include "arch/register_bits.h"
#include "arch/x86/asm.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace hearth::arch {

inline uint64_t read_msr(uint32_t index) {
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return uint64_t{high} << 32 | low;
}
inline void write_msr(uint32_t index, uint64_t value) {
    asm volatile("wrmsr"
                 :
                 : "c"(index), "a"(static_cast<uint32_t>(value)),
                   "d"(static_cast<uint32_t>(value >> 32))
                 : "memory");
}

inline uint64_t read_cr0() {
    uint64_t v;
    asm volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}
inline uint64_t read_cr2() {
    uint64_t v;
    asm volatile("mov %%cr2, %0" : "=r"(v));
    return v;
}
inline uint64_t read_cr3() {
    uint64_t v;
    asm volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}
inline uint64_t read_cr4() {
    uint64_t v;
    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}
inline void write_cr0(uint64_t v) { asm volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }
inline void write_cr2(uint64_t v) { asm volatile("mov %0, %%cr2" : : "r"(v) : "memory"); }
inline void write_cr3(uint64_t v) { asm volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
inline void write_cr4(uint64_t v) { asm volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }
inline void clear_task_switched() { asm volatile("clts" : : : "memory"); }

inline uint64_t read_dr6() {
    uint64_t v;
    asm volatile("mov %%dr6, %0" : "=r"(v));
    return v;
}
inline void write_dr6(uint64_t v) { asm volatile("mov %0, %%dr6" : : "r"(v)); }
/// Hearth's own, whatever the last entry has left of it. See return_to_guest in entry.S.
inline void reload_stack_segment() {
    asm volatile("mov %0, %%ss" : : "r"(uint32_t{HYPERVISOR_DS}));
}
inline void write_dr7(uint64_t v) { asm volatile("mov %0, %%dr7" : : "r"(v)); }
inline void write_debug_address(unsigned index, uint64_t v) {
    switch (index) {
    case 0:
        asm volatile("mov %0, %%dr0" : : "r"(v));
        break;
    case 1:
        asm volatile("mov %0, %%dr1" : : "r"(v));
        break;
    case 2:
        asm volatile("mov %0, %%dr2" : : "r"(v));
        break;
    default:
        asm volatile("mov %0, %%dr3" : : "r"(v));
        break;
    }
}

struct CpuidLeaf {
    uint32_t eax, ebx, ecx, edx;
};
inline CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf = 0) {
    CpuidLeaf r;
    asm volatile("cpuid"
                 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                 : "a"(leaf), "c"(subleaf));
    return r;
}

inline uint8_t in8(uint16_t port) {
    uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline uint16_t in16(uint16_t port) {
    uint16_t v;
    asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline uint32_t in32(uint16_t port) {
    uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline void out8(uint16_t port, uint8_t v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
inline void out16(uint16_t port, uint16_t v) { asm volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
inline void out32(uint16_t port, uint32_t v) { asm volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }

inline void pause() { asm volatile("pause" : : : "memory"); }
inline void disable_interrupts() { asm volatile("cli" : : : "memory"); }
/// Lets pending interrupts in, at a preemption point: one instruction's window is enough.
inline void open_interrupt_window() { asm volatile("sti; nop; cli" : : : "memory"); }
/// Sleeps until an interrupt; `sti` delays recognition by one instruction, so no wake-up is lost.
inline void wait_for_interrupt() { asm volatile("sti; hlt; cli" : : : "memory"); }
[[noreturn]] inline void halt_forever() {
    for (;;)
        asm volatile("cli; hlt" : : : "memory");
}
/// Resets the processor: an exception, with no descriptor table to find its handler in.
inline void triple_fault() {
    struct [[gnu::packed]] {
        uint16_t limit;
        uint64_t base;
    } const none{0, 0};
    asm volatile("lidt %0; ud2" : : "m"(none));
}
inline uint64_t read_tsc() {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return uint64_t{high} << 32 | low;
}
inline void write_back_and_invalidate_caches() { asm volatile("wbinvd" : : : "memory"); }
/// Tests of the fake machine have allocations fail.
constexpr bool allocation_fails() { return false; }
/// Memory of the hypervisor's is nobody's any more, or somebody's again: for tests to watch.
inline void memory_freed(void*, size_t) {}
inline void memory_given(void*, size_t) {}

/// One address, of one tag. (Intel SDM vol. 2A, INVPCID)
inline void invalidate_page_of(unsigned tag, uint64_t address) {
    struct {
        uint64_t tag, address;
    } const what{tag, address};
    asm volatile("invpcid %0, %1" : : "m"(what), "r"(uint64_t{0}) : "memory");
}
inline void invalidate_page(uint64_t address) {
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}
inline void write_xcr0(uint64_t v) {
    asm volatile("xsetbv"
                 :
                 : "c"(0), "a"(static_cast<uint32_t>(v)), "d"(static_cast<uint32_t>(v >> 32)));
}
inline void swap_gs() { asm volatile("swapgs" : : : "memory"); }

inline uint16_t read_ds() {
    uint16_t v;
    asm volatile("mov %%ds, %0" : "=r"(v));
    return v;
}
inline uint16_t read_es() {
    uint16_t v;
    asm volatile("mov %%es, %0" : "=r"(v));
    return v;
}
inline uint16_t read_fs() {
    uint16_t v;
    asm volatile("mov %%fs, %0" : "=r"(v));
    return v;
}
inline uint16_t read_gs() {
    uint16_t v;
    asm volatile("mov %%gs, %0" : "=r"(v));
    return v;
}

/// `rep movsq` and `rep stosq`: the shortest loops there are for whole pages.
inline void copy_quads(void* to, void const* from, size_t quads) {
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(quads) : : "memory");
}
inline void fill_quads(void* to, uint64_t value, size_t quads) {
    asm volatile("rep stosq" : "+D"(to), "+c"(quads) : "a"(value) : "memory");
}

// Few and whole units of guest memory, straight into registers and out of them: a call to
// copy_guest() is longer than what it does for these.
namespace detail {
/// Where guest memory may be touched from here on, or no more: a place that is written at start-up
/// on processors with SMAP. ("a?": the place is dropped with the function that it is in.)
template <unsigned kind>
[[gnu::always_inline]] inline void smap_site() {
    asm volatile("779: .byte 0x0f, 0x1f, 0x00\n"
                 ".pushsection .code_sites, \"a?\"\n"
                 ".quad 779b, %c0\n"
                 ".popsection"
                 :
                 : "i"(kind)
                 : "memory");
}
// SAFETY: what faults goes on where the table says, and has changed nothing.
template <class Unit>
[[gnu::always_inline]] inline bool load_unit(Unit& to, Unit const* from) {
    Unit value;
    asm goto("780: mov %[from], %[value]\n"
             ".pushsection .exception_table, \"a?\"\n"
             ".quad 780b, %l[faulted]\n"
             ".popsection"
             : [value] "=r"(value)
             : [from] "m"(*from)
             :
             : faulted);
    to = value;
    return true;
faulted:
    return false;
}
/// Goes on behind it.
template <class Unit>
[[gnu::always_inline]] inline bool store_unit(uint64_t& to, Unit value) {
    asm goto("780: mov %[value], %[to]\n"
             ".pushsection .exception_table, \"a?\"\n"
             ".quad 780b, %l[faulted]\n"
             ".popsection"
             : [to] "=m"(*reinterpret_cast<Unit*>(to))
             : [value] "r"(value)
             :
             : faulted);
    to += sizeof value;
    return true;
faulted:
    return false;
}
} // namespace detail

/// Each is read once, and written once. False: one of them faulted; others may be there.
template <class Unit, size_t count>
[[gnu::always_inline]] inline bool load_from_guest(std::array<Unit, count>& to, uint64_t from) {
    detail::smap_site<SITE_STAC>();
    bool const done = [&]<size_t... i>(std::index_sequence<i...>) {
        return (detail::load_unit(to[i], reinterpret_cast<Unit const*>(from) + i) && ...);
    }(std::make_index_sequence<count>{});
    detail::smap_site<SITE_CLAC>();
    return done;
}
/// Each is fetched when it is its turn.
template <class... Units>
[[gnu::always_inline]] inline bool store_to_guest(uint64_t to, Units const&... units) {
    detail::smap_site<SITE_STAC>();
    bool const done = (detail::store_unit(to, units) && ...);
    detail::smap_site<SITE_CLAC>();
    return done;
}

// entry.S. Each returns false, or the bytes not done, where the access faulted.
extern "C" size_t copy_guest(void* to, void const* from, size_t size);
extern "C" bool compare_exchange_guest(void* address, uint64_t* expected, uint64_t desired,
                                       size_t size);
extern "C" bool load_segment_ds(uint16_t selector);
extern "C" bool load_segment_es(uint16_t selector);
extern "C" bool load_segment_fs(uint16_t selector);
extern "C" bool load_segment_gs(uint16_t selector);
extern "C" bool try_read_msr(uint32_t index, uint64_t* value);
extern "C" bool try_write_msr(uint32_t index, uint64_t value);
extern "C" bool try_xrstor(void* area, uint64_t mask);
extern "C" bool try_fxrstor(void* area);

} // namespace hearth::arch
