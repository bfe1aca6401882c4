// Emulates one instruction of a PV guest: a write to a page table that it sees read-only, a
// privileged instruction, or port I/O. Pure: registers in and out, everything else through the
// Environment.
#pragma once

#include "emulate/decode.h"

#include <optional>

namespace hearth::emulate {

/// What the caller lets the instruction be. Whatever else the guest's bytes turn out to hold, by
/// then, is unhandleable.
struct Permitted {
    bool memory = false;     // data instructions with a memory destination, movs, stos
    bool port = false;       // in, out, ins, outs
    bool privileged = false; // control registers, MSRs, cpuid, rdtsc, cli, hlt...
};

struct Outcome {
    enum class Status : uint8_t {
        done,
        /// rip is unmoved and the guest is to be resumed there: a repeated instruction made some
        /// progress, or an atomic update lost its race too often.
        again,
        /// `exception` is to be injected; the registers are unchanged.
        exception,
        /// Nothing was changed in the registers. Not an instruction for this emulator.
        unhandleable,
    };
    Status status = Status::unhandleable;
    bool single_step = false; // done or again, with TF set before: a #DB with DR6.BS is due
    bool halted = false;      // done: the vCPU waits for an event now
    Exception exception{};
};

/// Emulates the instruction at rip. `registers` changes only when the outcome is done or again; rip
/// then may become non-canonical, as it may on hardware, so do not return with sysret unchecked.
Outcome run(Registers& registers, CodeSize size, Environment& environment, Permitted permitted);

/// A 64-bit register, or an immediate, stored where a base register and a displacement say: how
/// kernels write entries.
struct PlainStore {
    uint64_t address, value;
    unsigned length;                           // of the instruction
    uint64_t Registers::* exchanged = nullptr; // what gets the former value: xchg, which is atomic
};
/// That of the 64-bit instruction that begins with these bytes, if it is one. Segment bases, an
/// index or another size make it another instruction.
std::optional<PlainStore> plain_store(uint64_t bytes, Registers const& registers);

/// The instruction at rip, fetched and decoded, for callers that choose by its kind.
Access<Instruction> fetch_instruction(Registers const& registers, CodeSize size,
                                      Environment& environment);

} // namespace hearth::emulate
