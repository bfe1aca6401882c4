#include "emulate/execute.h"

#include <array>

namespace hearth::emulate {
namespace {

constexpr std::array<uint64_t Registers::*, 16> by_number = {
    &Registers::rax, &Registers::rcx, &Registers::rdx, &Registers::rbx,
    &Registers::rsp, &Registers::rbp, &Registers::rsi, &Registers::rdi,
    &Registers::r8,  &Registers::r9,  &Registers::r10, &Registers::r11,
    &Registers::r12, &Registers::r13, &Registers::r14, &Registers::r15,
};

// ah, ch, dh and bh, when there is no REX prefix.
bool is_high_byte(Instruction const& instruction, unsigned number, unsigned size) {
    return size == 1 && !instruction.rex && number >= 4 && number < 8;
}

constexpr bool is_canonical(uint64_t address) {
    return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

// Attribute bits of data and code segments (SDM volume 3, 3.4.5.1).
constexpr unsigned writable_or_readable = 1u << 1;
constexpr unsigned expand_down = 1u << 2;
constexpr unsigned code = 1u << 3;
constexpr unsigned not_system = 1u << 4;
constexpr unsigned present = 1u << 7;

} // namespace

uint64_t Registers::* general_register(unsigned number) { return by_number[number & 15]; }

uint64_t& Execution::general(unsigned number) { return registers.*general_register(number); }

uint64_t Execution::get(unsigned number, unsigned size) {
    if (is_high_byte(instruction, number, size))
        return (general(number - 4) >> 8) & 0xff;
    return general(number) & size_mask(size);
}

void Execution::set(unsigned number, unsigned size, uint64_t value) {
    if (is_high_byte(instruction, number, size)) {
        uint64_t& target = general(number - 4);
        target = (target & ~uint64_t{0xff00}) | ((value & 0xff) << 8);
        return;
    }
    uint64_t& target = general(number);
    uint64_t const mask = size_mask(size);
    target = (size >= 4 ? 0 : target & ~mask) | (value & mask);
}

uint64_t Execution::effective_offset() {
    uint64_t offset = instruction.displacement;
    if (instruction.base == instruction_pointer)
        offset += registers.rip + instruction.length;
    else if (instruction.base != no_register)
        offset += general(instruction.base);
    if (instruction.index != no_register)
        offset += general(instruction.index) << instruction.scale;
    return offset & size_mask(instruction.address_size);
}

Access<GuestAddress> Execution::linear(SegmentRegister segment, uint64_t offset, unsigned size,
                                       bool write) {
    Vector const vector =
        segment == SegmentRegister::ss ? Vector::stack_fault : Vector::general_protection;
    if (code_size == CodeSize::bits64) {
        uint64_t address = offset;
        if (segment == SegmentRegister::fs || segment == SegmentRegister::gs)
            address += TRY(environment.segment(segment)).base;
        if (!is_canonical(address) || !is_canonical(address + size - 1))
            return raise(vector);
        return GuestAddress{address};
    }

    Segment const descriptor = TRY(environment.segment(segment));
    unsigned const attributes = descriptor.attributes;
    bool const is_code = (attributes & code) != 0;
    bool const allowed = is_code ? !write && (attributes & writable_or_readable) != 0
                                 : !write || (attributes & writable_or_readable) != 0;
    if ((attributes & (not_system | present)) != (not_system | present) || !allowed)
        return raise(vector);
    if (!is_code && (attributes & expand_down) != 0)
        return unhandled();
    if (offset > descriptor.limit || size - 1 > descriptor.limit - offset)
        return raise(vector);
    return GuestAddress{(descriptor.base + offset) & size_mask(4)};
}

Access<GuestAddress> Execution::operand_address(unsigned size, bool write, uint64_t bytes_beyond) {
    uint64_t const offset =
        (effective_offset() + bytes_beyond) & size_mask(instruction.address_size);
    return linear(instruction.segment, offset, size, write);
}

Access<uint64_t> Execution::read(GuestAddress from, unsigned size) {
    std::array<std::byte, 8> buffer{};
    TRY(environment.read(from, std::span{buffer}.first(size)));
    uint64_t value = 0;
    for (unsigned n = 0; n < size; ++n)
        value |= std::to_integer<uint64_t>(buffer[n]) << (8 * n);
    return value;
}

Access<> Execution::write(GuestAddress to, unsigned size, uint64_t value) {
    std::array<std::byte, 8> buffer{};
    for (unsigned n = 0; n < size; ++n)
        buffer[n] = static_cast<std::byte>(value >> (8 * n));
    return environment.write(to, std::span{buffer}.first(size));
}

} // namespace hearth::emulate
