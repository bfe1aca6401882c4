// movs, stos, ins and outs, alone or repeated.
#include "emulate/execute.h"

namespace hearth::emulate {
namespace {

/// The instruction without its repetition. Memory last, so that a fault leaves nothing half done.
Access<> one_step(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    Environment& environment = execution.environment;
    Registers& registers = execution.registers;
    unsigned const size = instruction.operand_size;
    unsigned const width = instruction.address_size;
    auto const port = static_cast<uint16_t>(registers.rdx);
    bool const reads =
        instruction.operation == Operation::movs || instruction.operation == Operation::outs;
    bool const writes = instruction.operation != Operation::outs;

    if (instruction.operation == Operation::ins || instruction.operation == Operation::outs)
        TRY(environment.check_port(port, size));
    GuestAddress from{};
    GuestAddress to{};
    if (reads)
        from = TRY(
            execution.linear(instruction.segment, registers.rsi & size_mask(width), size, false));
    if (writes)
        to = TRY(
            execution.linear(SegmentRegister::es, registers.rdi & size_mask(width), size, true));

    uint64_t value = registers.rax;
    if (reads) {
        value = TRY(execution.read(from, size));
    } else if (instruction.operation == Operation::ins) {
        TRY(environment.check_write(to, size));
        value = TRY(environment.io_in(port, size));
    }
    if (writes)
        TRY(execution.write(to, size, value));
    else
        TRY(environment.io_out(port, size, static_cast<uint32_t>(value)));

    uint64_t const step = (registers.rflags & rflags::df) != 0 ? -uint64_t{size} : size;
    auto const advance = [&](uint64_t& index) { index = (index + step) & size_mask(width); };
    if (reads)
        advance(registers.rsi);
    if (writes)
        advance(registers.rdi);
    return {};
}

} // namespace

/// As the hardware does, a repetition stops between two iterations with the registers in step. A
/// fault after the first iteration is left to the next call, which meets it at its first.
Access<> execute_string(Execution& execution) {
    if (!execution.instruction.repeat)
        return one_step(execution);
    uint64_t const mask = size_mask(execution.instruction.address_size);
    bool const traced = (execution.registers.rflags & rflags::tf) != 0;
    unsigned const limit = traced ? 1 : repeat_limit;
    uint64_t& count = execution.registers.rcx;
    for (unsigned steps = 0; (count & mask) != 0; ++steps) {
        if (steps == limit) {
            execution.again = true;
            return {};
        }
        auto const stepped = one_step(execution);
        if (!stepped) {
            if (steps == 0)
                return stepped.error();
            execution.again = true;
            return {};
        }
        count = (count - 1) & mask;
    }
    return {};
}

} // namespace hearth::emulate
