// Instruction decoder: bytes in, Instruction out. Knows only what a PV guest may need emulated.
#pragma once

#include "emulate/environment.h"

namespace hearth::emulate {

enum class CodeSize : uint8_t { bits32, bits64 };

enum class Operation : uint8_t {
    none,
    // In the order of their opcodes and of groups 1.
    add,
    bitwise_or,
    adc,
    sbb,
    bitwise_and,
    sub,
    bitwise_xor,
    cmp,
    // In the order of group 8.
    bt,
    bts,
    btr,
    btc,
    inc,
    dec,
    bitwise_not,
    neg,
    mov,
    xchg,
    xadd,
    cmpxchg,
    cmpxchg_wide,
    movs,
    stos,
    ins,
    outs,
    in,
    out,
    rdmsr,
    wrmsr,
    rdtsc,
    rdtscp,
    rdpmc,
    xsetbv,
    cpuid,
    cli,
    sti,
    hlt,
    clts,
    lmsw,
    smsw,
    invd,
    wbinvd,
    invlpg,
    mov_from_control,
    mov_to_control,
    mov_from_debug,
    mov_to_debug,
};

/// Where an operation's operands are.
enum class Form : uint8_t {
    none,
    rm,            // ModRM operand only
    rm_register,   // ModRM operand, register
    rm_immediate,  // ModRM operand, immediate of the operand's size (at most 4 bytes)
    rm_immediate8, // ModRM operand, sign-extended byte
    registers,     // two registers whatever ModRM.mod says: mov to and from CRn and DRn
    offset,        // absolute address, accumulator
    string,
    port_immediate,
    port_dx,
};

inline constexpr uint8_t no_register = 0xff;
inline constexpr uint8_t instruction_pointer = 0xfe; // as a base: the next instruction's address

/// The architecture's limit on an instruction's bytes (SDM volume 2, 2.3.11).
inline constexpr size_t longest_instruction = 15;

struct Instruction {
    Operation operation = Operation::none;
    Form form = Form::none;
    uint8_t length = 0;
    uint8_t operand_size = 0; // bytes
    uint8_t address_size = 0; // bytes
    bool rex = false;         // byte registers 4 to 7 are spl, bpl, sil, dil
    bool lock = false;
    bool lockable = false;
    bool repeat = false;
    bool memory = false; // the ModRM operand, or that of Form::offset, is in memory
    uint8_t reg = 0;     // 0 to 15
    uint8_t rm = 0;      // 0 to 15, when not in memory
    SegmentRegister segment = SegmentRegister::ds;
    uint8_t base = no_register;
    uint8_t index = no_register;
    uint8_t scale = 0;         // shift of the index
    uint64_t displacement = 0; // sign-extended
    uint64_t immediate = 0;    // sign-extended
};

enum class DecodeStatus : uint8_t {
    done,
    incomplete, // more bytes needed than were given
    too_long,   // more than the architecture allows
    unknown,    // not one of ours, or invalid
};

/// `into` is meaningful when the answer is done. At most the first 15 bytes are looked at.
DecodeStatus decode(std::span<std::byte const> bytes, CodeSize size, Instruction& into);

} // namespace hearth::emulate
