// Data instructions with a memory operand.
#include "emulate/execute.h"

namespace hearth::emulate {
namespace {

constexpr unsigned accumulator = 0;

/// Replaces memory by compute(memory) atomically and takes over the flags. Returns what was there.
/// When others keep changing it, gives up with `again` set and nothing changed.
template <class Compute>
Access<uint64_t> modify(Execution& execution, GuestAddress where, unsigned size, Compute compute) {
    uint64_t old = TRY(execution.read(where, size));
    for (unsigned tries = 0; tries < exchange_limit; ++tries) {
        Computed const next = compute(old);
        auto const seen = static_cast<uint64_t>(
            TRY(execution.environment.compare_exchange(where, size, old, next.value)));
        if (seen == old) {
            execution.registers.rflags = next.flags;
            return old;
        }
        old = seen & size_mask(size);
    }
    execution.again = true;
    return old;
}

uint64_t source(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    if (instruction.form == Form::rm_register)
        return execution.get(instruction.reg, instruction.operand_size);
    return instruction.immediate;
}

Access<> store(Execution& execution) {
    unsigned const size = execution.instruction.operand_size;
    GuestAddress const where = TRY(execution.operand_address(size, true));
    uint64_t const value = execution.instruction.form == Form::offset
                               ? execution.get(accumulator, size)
                               : source(execution);
    return execution.write(where, size, value);
}

Access<> compare(Execution& execution) {
    unsigned const size = execution.instruction.operand_size;
    GuestAddress const where = TRY(execution.operand_address(size, false));
    uint64_t const left = TRY(execution.read(where, size));
    execution.registers.rflags =
        compute(Operation::cmp, size, left, source(execution), execution.registers.rflags).flags;
    return {};
}

/// A bit offset in a register reaches memory beyond the operand; an immediate one does not.
Access<> bit_operation(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    unsigned const size = instruction.operand_size;
    unsigned const bits = 8 * size;
    bool const far = instruction.form == Form::rm_register;
    uint64_t const number = source(execution);
    unsigned const index = static_cast<unsigned>(number) & (bits - 1);
    uint64_t beyond = 0;
    if (far) {
        auto const signed_number = static_cast<int64_t>(number << (64 - bits)) >> (64 - bits);
        beyond = static_cast<uint64_t>((signed_number >> 3) & ~int64_t{size - 1});
    }
    bool const changes = instruction.operation != Operation::bt;
    GuestAddress const where = TRY(execution.operand_address(size, changes, beyond));
    uint64_t const flags = execution.registers.rflags;
    if (!changes) {
        uint64_t const value = TRY(execution.read(where, size));
        execution.registers.rflags = compute_bit(Operation::bt, value, index, flags).flags;
        return {};
    }
    TRY(modify(execution, where, size, [&](uint64_t old) {
        return compute_bit(instruction.operation, old, index, flags);
    }));
    return {};
}

Access<> exchange(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    unsigned const size = instruction.operand_size;
    uint64_t const flags = execution.registers.rflags;
    uint64_t const value = source(execution);
    GuestAddress const where = TRY(execution.operand_address(size, true));
    uint64_t const old = TRY(modify(execution, where, size, [&](uint64_t current) {
        if (instruction.operation == Operation::xchg)
            return Computed{value, flags};
        return compute(Operation::add, size, current, value, flags);
    }));
    if (!execution.again)
        execution.set(instruction.reg, size, old);
    return {};
}

Access<> compare_exchange(Execution& execution) {
    unsigned const size = execution.instruction.operand_size;
    GuestAddress const where = TRY(execution.operand_address(size, true));
    uint64_t const expected = execution.get(accumulator, size);
    auto const seen =
        static_cast<uint64_t>(
            TRY(execution.environment.compare_exchange(where, size, expected, source(execution)))) &
        size_mask(size);
    execution.registers.rflags =
        compute(Operation::cmp, size, expected, seen, execution.registers.rflags).flags;
    if (seen != expected)
        execution.set(accumulator, size, seen);
    return {};
}

/// cmpxchg8b and cmpxchg16b: only ZF changes.
Access<> compare_exchange_wide(Execution& execution) {
    unsigned const size = execution.instruction.operand_size;
    unsigned const half = size / 2;
    GuestAddress const where = TRY(execution.operand_address(size, true));
    if (size == 16 && !is_aligned(where.raw(), 16))
        return raise(Vector::general_protection);
    Registers& registers = execution.registers;
    auto const join = [half](uint64_t high, uint64_t low) {
        return (Wide{high & size_mask(half)} << (8 * half)) | (low & size_mask(half));
    };
    Wide const expected = join(registers.rdx, registers.rax);
    Wide const seen = TRY(execution.environment.compare_exchange(
        where, size, expected, join(registers.rcx, registers.rbx)));
    if (seen == expected) {
        registers.rflags |= rflags::zf;
        return {};
    }
    registers.rflags &= ~rflags::zf;
    registers.rax = static_cast<uint64_t>(seen) & size_mask(half);
    registers.rdx = static_cast<uint64_t>(seen >> (8 * half)) & size_mask(half);
    return {};
}

Access<> read_modify_write(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    unsigned const size = instruction.operand_size;
    uint64_t const flags = execution.registers.rflags;
    uint64_t const value = instruction.form == Form::rm ? 0 : source(execution);
    GuestAddress const where = TRY(execution.operand_address(size, true));
    TRY(modify(execution, where, size, [&](uint64_t old) {
        return compute(instruction.operation, size, old, value, flags);
    }));
    return {};
}

} // namespace

Access<> execute_memory(Execution& execution) {
    switch (execution.instruction.operation) {
    case Operation::mov:
        return store(execution);
    case Operation::cmp:
        return compare(execution);
    case Operation::bt:
    case Operation::bts:
    case Operation::btr:
    case Operation::btc:
        return bit_operation(execution);
    case Operation::xchg:
    case Operation::xadd:
        return exchange(execution);
    case Operation::cmpxchg:
        return compare_exchange(execution);
    case Operation::cmpxchg_wide:
        return compare_exchange_wide(execution);
    default:
        return read_modify_write(execution);
    }
}

} // namespace hearth::emulate
