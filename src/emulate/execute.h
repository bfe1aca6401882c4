// Between the parts of the executor: one instruction under way.
#pragma once

#include "emulate/arithmetic.h"
#include "emulate/decode.h"

namespace hearth::emulate {

/// Bounds on the work of one call; see Outcome::Status::again.
inline constexpr unsigned repeat_limit = 64;
inline constexpr unsigned exchange_limit = 64;

/// A general register by its number in ModRM and REX.
uint64_t Registers::* general_register(unsigned number);

class Execution {
public:
    Registers& registers; // the caller keeps what they were, for when it fails
    Instruction const& instruction;
    Environment& environment;
    CodeSize code_size;
    bool again = false; // leave rip where it is
    bool halted = false;

    Execution(Registers& from, Instruction const& of, Environment& with, CodeSize size)
        : registers{from}, instruction{of}, environment{with}, code_size{size} {}

    /// A general register by its number in ModRM and REX.
    [[nodiscard]] uint64_t& general(unsigned number);
    [[nodiscard]] uint64_t get(unsigned number, unsigned size);
    /// Sizes 1 and 2 keep the rest of the register, 4 clears its upper half.
    void set(unsigned number, unsigned size, uint64_t value);

    /// Offset of the memory operand in its segment.
    [[nodiscard]] uint64_t effective_offset();
    /// Checks an access as segmentation does: canonical in 64-bit code, in bounds in 32-bit code.
    Access<GuestAddress> linear(SegmentRegister segment, uint64_t offset, unsigned size,
                                bool write);
    /// The memory operand, `bytes_beyond` (signed) from its start.
    Access<GuestAddress> operand_address(unsigned size, bool write, uint64_t bytes_beyond = 0);

    Access<uint64_t> read(GuestAddress from, unsigned size);
    Access<> write(GuestAddress to, unsigned size, uint64_t value);
};

Access<> execute_memory(Execution& execution);
Access<> execute_string(Execution& execution);
Access<> execute_privileged(Execution& execution);

} // namespace hearth::emulate
