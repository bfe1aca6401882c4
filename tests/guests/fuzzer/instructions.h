// Instructions that a guest's kernel or its user mode may try, drawn like hypercalls.
#pragma once

#include "grammar/choices.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

namespace guest {

struct Instruction {
    uint8_t size;
    uint8_t bytes[7];
};

// Their operands: rdi and rsi are addresses, rax, rbx and rdx values, rcx a small number.
inline constexpr Instruction anybodys_instructions[] = {
    // Writes, which may be to page tables.
    {3, {0x48, 0x89, 0x07}},             // mov %rax,(%rdi)
    {2, {0x89, 0x07}},                   // mov %eax,(%rdi)
    {2, {0x88, 0x07}},                   // mov %al,(%rdi)
    {3, {0x66, 0x89, 0x07}},             // mov %ax,(%rdi)
    {7, {0x48, 0xc7, 0x07, 0, 0, 0, 0}}, // movq $0,(%rdi)
    {3, {0x48, 0x87, 0x07}},             // xchg %rax,(%rdi)
    {5, {0xf0, 0x48, 0x0f, 0xb1, 0x17}}, // lock cmpxchg %rdx,(%rdi)
    {5, {0xf0, 0x48, 0x0f, 0xc1, 0x07}}, // lock xadd %rax,(%rdi)
    {5, {0xf0, 0x48, 0x0f, 0xc7, 0x0f}}, // lock cmpxchg16b (%rdi)
    {4, {0xf0, 0x48, 0x09, 0x07}},       // lock or %rax,(%rdi)
    {4, {0xf0, 0x48, 0x21, 0x07}},       // lock and %rax,(%rdi)
    {3, {0x48, 0x31, 0x07}},             // xor %rax,(%rdi)
    {3, {0x48, 0x01, 0x07}},             // add %rax,(%rdi)
    {5, {0xf0, 0x48, 0x0f, 0xba, 0x2f}}, // lock bts $imm,(%rdi)
    {2, {0x48, 0xab}},                   // stos
    {3, {0xf3, 0x48, 0xab}},             // rep stos
    {3, {0xf3, 0x48, 0xa5}},             // rep movsq
    {2, {0xf3, 0xa4}},                   // rep movsb
    {3, {0x0f, 0xae, 0x07}},             // fxsave (%rdi)
    {3, {0x0f, 0xc3, 0x07}},             // movnti %eax,(%rdi)
    // Reads, and what else raises exceptions.
    {3, {0x48, 0x8b, 0x07}}, // mov (%rdi),%rax
    {3, {0x48, 0xf7, 0xf1}}, // div %rcx
    {3, {0x0f, 0x28, 0x07}}, // movaps (%rdi),%xmm0
    {2, {0xd9, 0xe8}},       // fld1
    {3, {0x0f, 0xae, 0x0f}}, // fxrstor (%rdi)
    {3, {0x0f, 0xae, 0x17}}, // ldmxcsr (%rdi)
    {1, {0xcc}},             // int3
    {1, {0xf1}},             // icebp
    {2, {0xcd, 0x80}},       // int $0x80
    {2, {0xcd, 0x02}},       // int $2
    {2, {0xcd, 0x0e}},       // int $14
    {2, {0x0f, 0x0b}},       // ud2
    {2, {0x50, 0x9d}},       // push %rax; popf
    // What the hypervisor does in the kernel's place, or not.
    {3, {0x0f, 0x20, 0xc0}},             // mov %cr0,%rax
    {3, {0x0f, 0x20, 0xd0}},             // mov %cr2,%rax
    {3, {0x0f, 0x20, 0xd8}},             // mov %cr3,%rax
    {3, {0x0f, 0x20, 0xe0}},             // mov %cr4,%rax
    {3, {0x0f, 0x22, 0xc0}},             // mov %rax,%cr0
    {3, {0x0f, 0x22, 0xd0}},             // mov %rax,%cr2
    {3, {0x0f, 0x22, 0xe0}},             // mov %rax,%cr4
    {3, {0x0f, 0x21, 0xf8}},             // mov %db7,%rax
    {3, {0x0f, 0x23, 0xc7}},             // mov %rdi,%db0
    {3, {0x0f, 0x23, 0xf8}},             // mov %rax,%db7
    {2, {0x0f, 0x30}},                   // wrmsr
    {2, {0x0f, 0x32}},                   // rdmsr
    {2, {0x0f, 0x33}},                   // rdpmc
    {2, {0x0f, 0x31}},                   // rdtsc
    {3, {0x0f, 0x01, 0xf9}},             // rdtscp
    {2, {0x0f, 0xa2}},                   // cpuid
    {2, {0x0f, 0x06}},                   // clts
    {2, {0x0f, 0x09}},                   // wbinvd
    {3, {0x0f, 0x01, 0x3f}},             // invlpg (%rdi)
    {3, {0x0f, 0x01, 0x17}},             // lgdt (%rdi)
    {3, {0x0f, 0x01, 0x1f}},             // lidt (%rdi)
    {3, {0x0f, 0x01, 0x0f}},             // sidt (%rdi)
    {3, {0x0f, 0x01, 0xf0}},             // lmsw %ax
    {3, {0x0f, 0x01, 0xf8}},             // swapgs
    {3, {0x0f, 0x01, 0xd0}},             // xgetbv
    {3, {0x0f, 0x01, 0xd1}},             // xsetbv
    {3, {0x0f, 0x01, 0xcb}},             // stac
    {3, {0x0f, 0x01, 0xc1}},             // vmcall
    {3, {0x0f, 0x00, 0xd8}},             // ltr %ax
    {3, {0x0f, 0x00, 0xd0}},             // lldt %ax
    {1, {0xfa}},                         // cli
    {1, {0xfb}},                         // sti
    {2, {0x8e, 0xd8}},                   // mov %eax,%ds
    {2, {0x8e, 0xe0}},                   // mov %eax,%fs
    {2, {0x8e, 0xe8}},                   // mov %eax,%gs
    {1, {0xec}},                         // in (%dx),%al
    {2, {0x66, 0xed}},                   // in (%dx),%ax
    {1, {0xed}},                         // in (%dx),%eax
    {1, {0x6c}},                         // insb
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd0}}, // wrfsbase %rax
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xc0}}, // rdfsbase %rax
};
/// Not for Domain 0, whose ports they are.
inline constexpr Instruction port_writes[] = {
    {1, {0xee}}, {2, {0x66, 0xef}}, {1, {0xef}}, {1, {0x6e}}, {2, {0xf3, 0x6e}}};
/// Not for who has to stay awake.
inline constexpr Instruction halt = {1, {0xf4}};

inline constexpr uint32_t interesting_registers[] = {
    0x10,       0x1b,       0x48,       0x49,       0x8b,       0xce,       0x174,
    0x175,      0x176,      0x1a0,      0x277,      0xda0,      0xc0000080, 0xc0000081,
    0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103};

inline constexpr size_t code_size = 32;

/// One instruction, and the way back. `wild`: or something that nobody meant, which may go
/// anywhere.
inline void write_code(hearth::grammar::Choices& in, uint8_t* code, bool ports, bool sleeps,
                       bool wild) {
    memset(code, 0xc3, code_size); // ret
    Instruction const instruction =
        ports && in.one_in(32) ? port_writes[in.below(std::size(port_writes))]
        : sleeps && in.one_in(64)
            ? halt
            : anybodys_instructions[in.below(std::size(anybodys_instructions))];
    memcpy(code, instruction.bytes, instruction.size);
    if (!wild)
        return;
    constexpr uint8_t prefixes[] = {0x26, 0x48, 0x4c, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};
    if (in.one_in(3)) {
        code[0] = prefixes[in.below(std::size(prefixes))];
        memcpy(code + 1, instruction.bytes, instruction.size);
    }
    if (in.one_in(3))
        code[in.below(instruction.size)] = static_cast<uint8_t>(in.number(1));
}

struct Operands {
    uint64_t address, source, a, b, c, d;
};
/// Comes back unless there is an exception; the flags are as before.
inline void run_code(uint8_t const* code, Operands o) {
    register uint64_t at asm("r12") = reinterpret_cast<uint64_t>(code);
    // No address of the kernel's is left in a register.
    asm volatile("xor %%r8d, %%r8d; xor %%r9d, %%r9d; xor %%r10d, %%r10d; xor %%r11d, %%r11d\n\t"
                 "xor %%r13d, %%r13d; xor %%r14d, %%r14d; xor %%r15d, %%r15d\n\t"
                 "pushfq; call *%%r12; popfq; cld"
                 : "+D"(o.address), "+S"(o.source), "+a"(o.a), "+b"(o.b), "+c"(o.c), "+d"(o.d),
                   "+r"(at)
                 :
                 : "r8", "r9", "r10", "r11", "r13", "r14", "r15", "cc", "memory");
}

} // namespace guest
