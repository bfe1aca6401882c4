// The register frame that entry code saves, laid out as the ABI's cpu_user_regs
// (public/arch-x86/xen-x86_64.h) up to ss. It lies at the top of the stack of the vCPU that it
// belongs to.
#pragma once

#include <cstdint>

namespace hearth {

struct Registers {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint32_t error_code;
    uint32_t vector;
    uint64_t rip;
    uint64_t
        cs; // bits 16..63 are zero; the ABI keeps saved_upcall_mask there in frames on guest stacks
    uint64_t rflags;
    uint64_t rsp;
    uint64_t ss;
};
static_assert(sizeof(Registers) == 21 * 8);

namespace rflags {
inline constexpr uint64_t cf = 1u << 0;
inline constexpr uint64_t fixed = 1u << 1;
inline constexpr uint64_t pf = 1u << 2;
inline constexpr uint64_t af = 1u << 4;
inline constexpr uint64_t zf = 1u << 6;
inline constexpr uint64_t sf = 1u << 7;
inline constexpr uint64_t tf = 1u << 8;
inline constexpr uint64_t interrupts = 1u << 9;
inline constexpr uint64_t df = 1u << 10;
inline constexpr uint64_t of = 1u << 11;
inline constexpr uint64_t iopl = 3u << 12;
inline constexpr uint64_t nt = 1u << 14;
inline constexpr uint64_t rf = 1u << 16;
inline constexpr uint64_t vm = 1u << 17;
inline constexpr uint64_t ac = 1u << 18;
inline constexpr uint64_t vif = 1u << 19;
inline constexpr uint64_t vip = 1u << 20;
inline constexpr uint64_t id = 1u << 21;
} // namespace rflags

enum class Vector : uint8_t {
    divide_error = 0,
    debug = 1,
    nmi = 2,
    breakpoint = 3,
    overflow = 4,
    bounds = 5,
    invalid_opcode = 6,
    device_not_available = 7,
    double_fault = 8,
    invalid_tss = 10,
    segment_not_present = 11,
    stack_fault = 12,
    general_protection = 13,
    page_fault = 14,
    x87_error = 16,
    alignment_check = 17,
    machine_check = 18,
    simd_error = 19,
    control_protection = 21,
};

} // namespace hearth
