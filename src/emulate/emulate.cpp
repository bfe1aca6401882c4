#include "emulate/emulate.h"

#include "emulate/execute.h"

#include <array>

namespace hearth::emulate {
namespace {

enum class Kind : uint8_t { memory, string, port, port_string, privileged };

Kind kind_of(Operation operation) {
    switch (operation) {
    case Operation::movs:
    case Operation::stos:
        return Kind::string;
    case Operation::ins:
    case Operation::outs:
        return Kind::port_string;
    case Operation::in:
    case Operation::out:
        return Kind::port;
    default:
        return operation < Operation::movs ? Kind::memory : Kind::privileged;
    }
}

bool is_permitted(Instruction const& instruction, Permitted permitted) {
    switch (kind_of(instruction.operation)) {
    case Kind::memory:
        return permitted.memory && instruction.memory;
    case Kind::string:
        return permitted.memory;
    case Kind::port:
    case Kind::port_string:
        return permitted.port;
    case Kind::privileged:
        return permitted.privileged;
    }
    return false;
}

Access<> execute(Execution& execution) {
    switch (kind_of(execution.instruction.operation)) {
    case Kind::memory:
        return execute_memory(execution);
    case Kind::string:
    case Kind::port_string:
        return execute_string(execution);
    default:
        return execute_privileged(execution);
    }
}

/// Where the code segment puts an instruction byte.
Access<GuestAddress> code_address(Registers const& registers, CodeSize size, size_t byte,
                                  Environment& environment) {
    if (size == CodeSize::bits64)
        return GuestAddress{registers.rip + byte};
    Segment const segment = TRY(environment.segment(SegmentRegister::cs));
    uint64_t const offset = (registers.rip + byte) & size_mask(4);
    if (offset > segment.limit)
        return raise(Vector::general_protection);
    return GuestAddress{(segment.base + offset) & size_mask(4)};
}

Access<> attempt(Registers& registers, CodeSize size, Environment& environment, Permitted permitted,
                 Outcome& outcome) {
    Instruction const instruction = TRY(fetch_instruction(registers, size, environment));
    if (!is_permitted(instruction, permitted))
        return unhandled();
    if (instruction.lock && !instruction.lockable)
        return raise(Vector::invalid_opcode);

    Registers const before = registers;
    Execution execution{registers, instruction, environment, size};
    if (auto const done = execute(execution); !done) {
        registers = before;
        return done;
    }
    outcome.single_step = (before.rflags & rflags::tf) != 0;
    outcome.halted = execution.halted;
    if (execution.again) {
        outcome.status = Outcome::Status::again;
        // Only a repetition that moved on is a step to report; a lost race did nothing yet.
        outcome.single_step = outcome.single_step && instruction.repeat;
    } else {
        outcome.status = Outcome::Status::done;
        registers.rip += instruction.length;
        if (size == CodeSize::bits32)
            registers.rip &= size_mask(4);
        registers.rflags &= ~rflags::rf;
    }
    return {};
}

} // namespace

Access<Instruction> fetch_instruction(Registers const& registers, CodeSize size,
                                      Environment& environment) {
    if ((registers.rflags & rflags::vm) != 0)
        return unhandled();
    std::array<std::byte, longest_instruction> bytes{};
    size_t wanted = bytes.size();
    if (size == CodeSize::bits32) {
        // Neither beyond the segment's limit nor around the end of the address space.
        Segment const segment = TRY(environment.segment(SegmentRegister::cs));
        uint64_t const offset = registers.rip & size_mask(4);
        if (offset > segment.limit)
            return raise(Vector::general_protection);
        uint64_t const left = segment.limit - offset + 1;
        wanted = left < wanted ? left : wanted;
    }
    GuestAddress const from = TRY(code_address(registers, size, 0, environment));
    size_t got = TRY(environment.fetch(from, std::span{bytes}.first(wanted)));
    got = got < wanted ? got : wanted;

    Instruction instruction;
    switch (decode(std::span{bytes}.first(got), size, instruction)) {
    case DecodeStatus::done:
        return instruction;
    case DecodeStatus::too_long:
        return raise(Vector::general_protection);
    case DecodeStatus::unknown:
        return unhandled();
    case DecodeStatus::incomplete:
        break;
    }
    // The byte after the last one that could be had says why there are no more.
    GuestAddress const missing = TRY(code_address(registers, size, got, environment));
    std::byte one{};
    TRY(environment.fetch(missing, {&one, 1}));
    return unhandled();
}

std::optional<PlainStore> plain_store(uint64_t bytes, Registers const& registers) {
    // REX.W, mov or xchg, and a ModRM byte with a base register and no SIB byte. (SDM volume
    // 2, 2.1.5, 2.2.1)
    unsigned const rex = bytes & 0xff, opcode = bytes >> 8 & 0xff, modrm = bytes >> 16 & 0xff;
    unsigned const mode = modrm >> 6, base = modrm & 7;
    constexpr unsigned sib_follows = 4, relative_in_mode_0 = 5, no_memory = 3;
    constexpr unsigned mov_register = 0x89, mov_immediate = 0xc7, xchg = 0x87;
    bool const plain = (rex & 0xfa) == 0x48 && base != sib_follows && mode != no_memory &&
                       !(mode == 0 && base == relative_in_mode_0);
    // An immediate behind a long displacement lies beyond the eight bytes.
    bool const immediate = opcode == mov_immediate && (modrm >> 3 & 7) == 0 && mode != 2;
    if (!plain || !(opcode == mov_register || opcode == xchg || immediate))
        return std::nullopt;
    unsigned const displacement_size = mode == 2 ? 4 : mode;
    uint64_t const displacement =
        mode == 1   ? static_cast<uint64_t>(static_cast<int8_t>(bytes >> 24))
        : mode == 2 ? static_cast<uint64_t>(static_cast<int32_t>(bytes >> 24))
                    : 0;
    uint64_t const address = registers.*general_register(base | (rex & 1) << 3) + displacement;
    if (immediate)
        return PlainStore{
            address,
            static_cast<uint64_t>(static_cast<int32_t>(bytes >> (24 + 8 * displacement_size))),
            7 + displacement_size};
    auto const source = general_register((modrm >> 3 & 7) | (rex & 4) << 1);
    return PlainStore{address, registers.*source, 3 + displacement_size,
                      opcode == xchg ? source : nullptr};
}

Outcome run(Registers& registers, CodeSize size, Environment& environment, Permitted permitted) {
    Outcome outcome;
    auto const result = attempt(registers, size, environment, permitted, outcome);
    if (!result) {
        outcome = {};
        if (result.error().inject) {
            outcome.status = Outcome::Status::exception;
            outcome.exception = result.error().exception;
        }
    }
    return outcome;
}

} // namespace hearth::emulate
