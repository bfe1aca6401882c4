// Instructions that a ring 3 kernel may not execute itself.
#include "emulate/execute.h"

namespace hearth::emulate {
namespace {

constexpr uint64_t cr0_task_switched = 1u << 3;
constexpr uint64_t cr0_machine_status = 0xf; // PE, MP, EM, TS
constexpr uint64_t cr0_protection = 1;
constexpr uint32_t msr_tsc_aux = 0xc0000103;

void set_pair(Registers& registers, uint64_t value) {
    registers.rax = value & size_mask(4);
    registers.rdx = value >> 32;
}
uint64_t get_pair(Registers const& registers) {
    return (registers.rdx << 32) | (registers.rax & size_mask(4));
}

Access<> port_access(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    unsigned const size = instruction.operand_size;
    auto const port = static_cast<uint16_t>(
        instruction.form == Form::port_immediate ? instruction.immediate : execution.registers.rdx);
    constexpr unsigned accumulator = 0;
    if (instruction.operation == Operation::out)
        return execution.environment.io_out(
            port, size, static_cast<uint32_t>(execution.get(accumulator, size)));
    execution.set(accumulator, size, TRY(execution.environment.io_in(port, size)));
    return {};
}

Access<> move_control(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    Environment& environment = execution.environment;
    unsigned const size = instruction.operand_size;
    unsigned const number = instruction.reg;
    switch (instruction.operation) {
    case Operation::mov_from_control:
    case Operation::mov_to_control:
        if (number != 0 && number != 2 && number != 3 && number != 4 && number != 8)
            return raise(Vector::invalid_opcode);
        break;
    default:
        if (number > 7)
            return raise(Vector::invalid_opcode);
        break;
    }
    switch (instruction.operation) {
    case Operation::mov_from_control:
        execution.set(instruction.rm, size, TRY(environment.read_control(number)));
        return {};
    case Operation::mov_to_control:
        return environment.write_control(number, execution.get(instruction.rm, size));
    case Operation::mov_from_debug:
        execution.set(instruction.rm, size, TRY(environment.read_debug(number)));
        return {};
    default:
        return environment.write_debug(number, execution.get(instruction.rm, size));
    }
}

Access<> machine_status(Execution& execution) {
    Instruction const& instruction = execution.instruction;
    Environment& environment = execution.environment;
    if (instruction.operation == Operation::clts)
        return environment.write_control(0, TRY(environment.read_control(0)) & ~cr0_task_switched);
    if (instruction.operation == Operation::smsw) {
        if (!instruction.memory) {
            execution.set(instruction.rm, instruction.operand_size,
                          TRY(environment.read_control(0)));
            return {};
        }
        GuestAddress const where = TRY(execution.operand_address(2, true));
        return execution.write(where, 2, TRY(environment.read_control(0)));
    }
    uint64_t status = execution.get(instruction.rm, 2);
    if (instruction.memory) {
        GuestAddress const where = TRY(execution.operand_address(2, false));
        status = TRY(execution.read(where, 2));
    }
    // lmsw sets PE but cannot clear it.
    uint64_t const old = TRY(environment.read_control(0));
    return environment.write_control(0, (old & ~(cr0_machine_status & ~cr0_protection)) |
                                            (status & cr0_machine_status));
}

Access<> read_time(Execution& execution) {
    if (execution.instruction.operation == Operation::rdtscp) {
        uint64_t const auxiliary = TRY(execution.environment.read_msr(msr_tsc_aux));
        execution.registers.rcx = auxiliary & size_mask(4);
    }
    set_pair(execution.registers, TRY(execution.environment.read_tsc()));
    return {};
}

Access<> identify(Execution& execution) {
    Registers& registers = execution.registers;
    CpuidLeaf const leaf = TRY(execution.environment.cpuid(static_cast<uint32_t>(registers.rax),
                                                           static_cast<uint32_t>(registers.rcx)));
    registers.rax = leaf.eax;
    registers.rbx = leaf.ebx;
    registers.rcx = leaf.ecx;
    registers.rdx = leaf.edx;
    return {};
}

Access<> invalidate(Execution& execution) {
    // invlpg of a non-canonical address does nothing (SDM volume 2).
    auto const where = execution.operand_address(1, false);
    if (!where)
        return where.error().inject ? Access<>{} : Access<>{where.error()};
    return execution.environment.invalidate_page(*where);
}

} // namespace

Access<> execute_privileged(Execution& execution) {
    Registers& registers = execution.registers;
    Environment& environment = execution.environment;
    auto const selector = static_cast<uint32_t>(registers.rcx);
    switch (execution.instruction.operation) {
    case Operation::in:
    case Operation::out:
        return port_access(execution);
    case Operation::rdmsr:
        set_pair(registers, TRY(environment.read_msr(selector)));
        return {};
    case Operation::wrmsr:
        return environment.write_msr(selector, get_pair(registers));
    case Operation::rdtsc:
    case Operation::rdtscp:
        return read_time(execution);
    case Operation::rdpmc:
        set_pair(registers, TRY(environment.read_pmc(selector)));
        return {};
    case Operation::xsetbv:
        return environment.write_extended_control(selector, get_pair(registers));
    case Operation::cpuid:
        return identify(execution);
    case Operation::cli:
    case Operation::sti:
        return environment.set_interrupts(execution.instruction.operation == Operation::sti);
    case Operation::hlt:
        TRY(environment.halt());
        execution.halted = true;
        return {};
    case Operation::clts:
    case Operation::lmsw:
    case Operation::smsw:
        return machine_status(execution);
    case Operation::invd:
    case Operation::wbinvd:
        return environment.flush_caches();
    case Operation::invlpg:
        return invalidate(execution);
    case Operation::mov_from_control:
    case Operation::mov_to_control:
    case Operation::mov_from_debug:
    case Operation::mov_to_debug:
        return move_control(execution);
    default:
        return unhandled();
    }
}

} // namespace hearth::emulate
