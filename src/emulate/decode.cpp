#include "emulate/decode.h"

#include <array>

namespace hearth::emulate {
namespace {

enum Trait : uint8_t {
    byte_operand = 1,
    lockable = 2,
    memory_only = 4,
    no_prefix = 8, // 66, F2 and F3 select other instructions or none
};

enum class Group : uint8_t { none, arithmetic, unary, step, move, bit, wide, system };

struct Row {
    Operation operation = Operation::none;
    Form form = Form::none;
    uint8_t traits = 0;
    Group group = Group::none; // ModRM.reg completes the opcode; the group gives the operation
};
using Map = std::array<Row, 256>;

constexpr Operation nth(Operation first, unsigned n) {
    return static_cast<Operation>(static_cast<unsigned>(first) + n);
}

// SDM volume 2, appendix A, table A-2.
constexpr Map one_byte = [] {
    using enum Operation;
    Map map{};
    for (unsigned n = 0; n < 8; ++n) {
        Operation const operation = nth(add, n);
        uint8_t const lock = operation == cmp ? 0 : lockable;
        map[n * 8] = {operation, Form::rm_register, static_cast<uint8_t>(lock | byte_operand)};
        map[n * 8 + 1] = {operation, Form::rm_register, lock};
    }
    map[0x6c] = {ins, Form::string, byte_operand};
    map[0x6d] = {ins, Form::string};
    map[0x6e] = {outs, Form::string, byte_operand};
    map[0x6f] = {outs, Form::string};
    map[0x80] = {none, Form::rm_immediate, byte_operand, Group::arithmetic};
    map[0x81] = {none, Form::rm_immediate, 0, Group::arithmetic};
    map[0x83] = {none, Form::rm_immediate8, 0, Group::arithmetic};
    map[0x86] = {xchg, Form::rm_register, byte_operand | lockable};
    map[0x87] = {xchg, Form::rm_register, lockable};
    map[0x88] = {mov, Form::rm_register, byte_operand};
    map[0x89] = {mov, Form::rm_register};
    map[0xa2] = {mov, Form::offset, byte_operand};
    map[0xa3] = {mov, Form::offset};
    map[0xa4] = {movs, Form::string, byte_operand};
    map[0xa5] = {movs, Form::string};
    map[0xaa] = {stos, Form::string, byte_operand};
    map[0xab] = {stos, Form::string};
    map[0xc6] = {none, Form::rm_immediate, byte_operand, Group::move};
    map[0xc7] = {none, Form::rm_immediate, 0, Group::move};
    map[0xe4] = {in, Form::port_immediate, byte_operand};
    map[0xe5] = {in, Form::port_immediate};
    map[0xe6] = {out, Form::port_immediate, byte_operand};
    map[0xe7] = {out, Form::port_immediate};
    map[0xec] = {in, Form::port_dx, byte_operand};
    map[0xed] = {in, Form::port_dx};
    map[0xee] = {out, Form::port_dx, byte_operand};
    map[0xef] = {out, Form::port_dx};
    map[0xf4] = {hlt, Form::none};
    map[0xf6] = {none, Form::rm, byte_operand, Group::unary};
    map[0xf7] = {none, Form::rm, 0, Group::unary};
    map[0xfa] = {cli, Form::none};
    map[0xfb] = {sti, Form::none};
    map[0xfe] = {none, Form::rm, byte_operand, Group::step};
    map[0xff] = {none, Form::rm, 0, Group::step};
    return map;
}();

// Table A-3: the byte after 0F.
constexpr Map two_byte = [] {
    using enum Operation;
    Map map{};
    map[0x01] = {none, Form::rm, 0, Group::system};
    map[0x06] = {clts, Form::none};
    map[0x08] = {invd, Form::none};
    map[0x09] = {wbinvd, Form::none};
    map[0x20] = {mov_from_control, Form::registers};
    map[0x21] = {mov_from_debug, Form::registers};
    map[0x22] = {mov_to_control, Form::registers};
    map[0x23] = {mov_to_debug, Form::registers};
    map[0x30] = {wrmsr, Form::none};
    map[0x31] = {rdtsc, Form::none};
    map[0x32] = {rdmsr, Form::none};
    map[0x33] = {rdpmc, Form::none};
    map[0xa2] = {cpuid, Form::none};
    map[0xa3] = {bt, Form::rm_register};
    map[0xab] = {bts, Form::rm_register, lockable};
    map[0xb3] = {btr, Form::rm_register, lockable};
    map[0xbb] = {btc, Form::rm_register, lockable};
    map[0xba] = {none, Form::rm_immediate8, 0, Group::bit};
    map[0xb0] = {cmpxchg, Form::rm_register, byte_operand | lockable};
    map[0xb1] = {cmpxchg, Form::rm_register, lockable};
    map[0xc0] = {xadd, Form::rm_register, byte_operand | lockable};
    map[0xc1] = {xadd, Form::rm_register, lockable};
    map[0xc3] = {mov, Form::rm_register, memory_only | no_prefix}; // movnti
    map[0xc7] = {none, Form::rm, 0, Group::wide};
    return map;
}();

// Tables A-6: operation and traits by ModRM.reg.
constexpr Row group_row(Group group, unsigned reg) {
    using enum Operation;
    switch (group) {
    case Group::none:
        return {};
    case Group::arithmetic: {
        Operation const operation = nth(add, reg);
        return {operation, Form::none, static_cast<uint8_t>(operation == cmp ? 0 : lockable)};
    }
    case Group::unary:
        if (reg == 2)
            return {bitwise_not, Form::none, lockable};
        return reg == 3 ? Row{neg, Form::none, lockable} : Row{};
    case Group::step:
        if (reg == 0)
            return {inc, Form::none, lockable};
        return reg == 1 ? Row{dec, Form::none, lockable} : Row{};
    case Group::move:
        return reg == 0 ? Row{mov} : Row{};
    case Group::bit: {
        if (reg < 4)
            return {};
        Operation const operation = nth(bt, reg - 4);
        return {operation, Form::none, static_cast<uint8_t>(operation == bt ? 0 : lockable)};
    }
    case Group::wide:
        return reg == 1 ? Row{cmpxchg_wide, Form::none, lockable | memory_only} : Row{};
    case Group::system:
        if (reg == 4)
            return {smsw};
        if (reg == 6)
            return {lmsw};
        return reg == 7 ? Row{invlpg, Form::none, memory_only} : Row{};
    }
    return {};
}

// 0F 01 with mod 3: the whole ModRM byte is part of the opcode but for smsw and lmsw.
constexpr Row system_register_row(uint8_t modrm) {
    if (modrm == 0xd1)
        return {Operation::xsetbv, Form::none, no_prefix};
    if (modrm == 0xf9)
        return {Operation::rdtscp, Form::none, no_prefix};
    return group_row(Group::system, (modrm >> 3) & 7);
}

class Decoder {
    std::span<std::byte const> bytes_;
    CodeSize size_;
    Instruction& out_;
    size_t position_ = 0;
    bool exhausted_ = false;
    uint8_t rex_ = 0;
    bool operand_prefix_ = false;
    bool repeat_prefix_ = false;
    bool segment_prefix_ = false;
    uint8_t mod_ = 0;

    bool long_mode() const { return size_ == CodeSize::bits64; }
    uint8_t rex_bit(unsigned n) const { return static_cast<uint8_t>(((rex_ >> n) & 1) << 3); }

    uint64_t take(unsigned count) {
        if (bytes_.size() - position_ < count) {
            exhausted_ = true;
            position_ = bytes_.size();
            return 0;
        }
        uint64_t value = 0;
        for (unsigned n = 0; n < count; ++n)
            value |= std::to_integer<uint64_t>(bytes_[position_++]) << (8 * n);
        return value;
    }
    uint64_t take_signed(unsigned count) {
        unsigned const unused = 64 - 8 * count;
        return static_cast<uint64_t>(static_cast<int64_t>(take(count) << unused) >> unused);
    }
    void override_segment(SegmentRegister segment) {
        // In 64-bit code the prefixes of the flat segments are ignored.
        if (long_mode() && segment != SegmentRegister::fs && segment != SegmentRegister::gs)
            return;
        out_.segment = segment;
        segment_prefix_ = true;
    }

    bool take_prefix(uint8_t byte);
    uint8_t take_prefixes();
    bool take_memory_operand(uint8_t rm);
    bool take_modrm(Row& row);
    bool set_sizes(Row const& row);
    void take_immediate();

public:
    Decoder(std::span<std::byte const> bytes, CodeSize size, Instruction& out)
        : bytes_{bytes.first(bytes.size() < longest_instruction ? bytes.size()
                                                                : longest_instruction)},
          size_{size}, out_{out} {}
    DecodeStatus run();
};

bool Decoder::take_prefix(uint8_t byte) {
    switch (byte) {
    case 0x26:
        override_segment(SegmentRegister::es);
        return true;
    case 0x2e:
        override_segment(SegmentRegister::cs);
        return true;
    case 0x36:
        override_segment(SegmentRegister::ss);
        return true;
    case 0x3e:
        override_segment(SegmentRegister::ds);
        return true;
    case 0x64:
        override_segment(SegmentRegister::fs);
        return true;
    case 0x65:
        override_segment(SegmentRegister::gs);
        return true;
    case 0x66:
        operand_prefix_ = true;
        return true;
    case 0x67:
        out_.address_size = long_mode() ? 4 : 2;
        return true;
    case 0xf0:
        out_.lock = true;
        return true;
    case 0xf2:
    case 0xf3:
        repeat_prefix_ = true;
        return true;
    default:
        return false;
    }
}

/// Takes all prefixes and returns the first byte of the opcode.
uint8_t Decoder::take_prefixes() {
    for (;;) {
        auto const byte = static_cast<uint8_t>(take(1));
        if (exhausted_)
            return 0;
        if (take_prefix(byte)) {
            rex_ = 0; // counts only directly before the opcode
        } else if (long_mode() && (byte & 0xf0) == 0x40) {
            rex_ = byte;
        } else {
            out_.rex = rex_ != 0;
            return byte;
        }
    }
}

/// SDM volume 2, tables 2-2 and 2-3. 16-bit addressing is not decoded.
bool Decoder::take_memory_operand(uint8_t rm) {
    if (out_.address_size == 2)
        return false;
    out_.memory = true;
    unsigned displacement = mod_ == 1 ? 1 : mod_ == 2 ? 4 : 0;
    if (rm == 4) {
        auto const sib = static_cast<uint8_t>(take(1));
        out_.scale = sib >> 6;
        auto const index = static_cast<uint8_t>(((sib >> 3) & 7) | rex_bit(1));
        out_.index = index == 4 ? no_register : index;
        out_.base = (sib & 7) | rex_bit(0);
        if ((sib & 7) == 5 && mod_ == 0) {
            out_.base = no_register;
            displacement = 4;
        }
    } else if (rm == 5 && mod_ == 0) {
        out_.base = long_mode() ? instruction_pointer : no_register;
        displacement = 4;
    } else {
        out_.base = rm | rex_bit(0);
    }
    if (!segment_prefix_ && (out_.base == 4 || out_.base == 5))
        out_.segment = SegmentRegister::ss;
    if (displacement != 0)
        out_.displacement = take_signed(displacement);
    return true;
}

/// Takes ModRM and what belongs to it; completes `row` from its group.
bool Decoder::take_modrm(Row& row) {
    auto const modrm = static_cast<uint8_t>(take(1));
    mod_ = modrm >> 6;
    out_.reg = static_cast<uint8_t>(((modrm >> 3) & 7) | rex_bit(2));
    out_.rm = static_cast<uint8_t>((modrm & 7) | rex_bit(0));
    if (row.group != Group::none) {
        Row const member = row.group == Group::system && mod_ == 3
                               ? system_register_row(modrm)
                               : group_row(row.group, (modrm >> 3) & 7);
        row.operation = member.operation;
        row.traits |= member.traits;
    }
    if (row.form == Form::registers || mod_ == 3)
        return (row.traits & memory_only) == 0;
    return take_memory_operand(modrm & 7);
}

bool Decoder::set_sizes(Row const& row) {
    if ((row.traits & no_prefix) != 0 && (operand_prefix_ || repeat_prefix_))
        return false;
    bool const wide = (rex_ & 8) != 0;
    if (row.operation == Operation::cmpxchg_wide)
        out_.operand_size = wide ? 16 : 8;
    else if (row.form == Form::registers)
        out_.operand_size = long_mode() ? 8 : 4;
    else if ((row.traits & byte_operand) != 0)
        out_.operand_size = 1;
    else if (wide)
        out_.operand_size = 8;
    else
        out_.operand_size = operand_prefix_ ? 2 : 4;
    bool const port = row.operation == Operation::in || row.operation == Operation::out ||
                      row.operation == Operation::ins || row.operation == Operation::outs;
    if (port && out_.operand_size == 8)
        out_.operand_size = 4;
    return true;
}

void Decoder::take_immediate() {
    switch (out_.form) {
    case Form::rm_immediate:
        out_.immediate = take_signed(out_.operand_size < 4 ? out_.operand_size : 4);
        break;
    case Form::rm_immediate8:
        out_.immediate = take_signed(1);
        break;
    case Form::port_immediate:
        out_.immediate = take(1);
        break;
    case Form::offset:
        out_.memory = true;
        out_.displacement = take(out_.address_size);
        break;
    default:
        break;
    }
}

DecodeStatus Decoder::run() {
    auto const ran_out = [this] {
        return bytes_.size() == longest_instruction ? DecodeStatus::too_long
                                                    : DecodeStatus::incomplete;
    };
    out_ = {};
    out_.address_size = long_mode() ? 8 : 4;
    uint8_t opcode = take_prefixes();
    bool const escaped = opcode == 0x0f;
    if (escaped)
        opcode = static_cast<uint8_t>(take(1));
    if (exhausted_)
        return ran_out();

    Row row = escaped ? two_byte[opcode] : one_byte[opcode];
    if (row.operation == Operation::none && row.group == Group::none)
        return DecodeStatus::unknown;
    bool const has_modrm = row.form == Form::rm || row.form == Form::rm_register ||
                           row.form == Form::rm_immediate || row.form == Form::rm_immediate8 ||
                           row.form == Form::registers;
    bool const good = !has_modrm || take_modrm(row);
    if (exhausted_)
        return ran_out();
    if (!good || row.operation == Operation::none || out_.address_size == 2 || !set_sizes(row))
        return DecodeStatus::unknown;

    out_.operation = row.operation;
    out_.form = row.form;
    out_.lockable = (row.traits & lockable) != 0 && out_.memory;
    out_.repeat = repeat_prefix_ && row.form == Form::string;
    if (row.form != Form::rm_register && row.form != Form::registers)
        take_immediate();
    if (exhausted_)
        return ran_out();
    out_.length = static_cast<uint8_t>(position_);
    return DecodeStatus::done;
}

} // namespace

DecodeStatus decode(std::span<std::byte const> bytes, CodeSize size, Instruction& into) {
    return Decoder{bytes, size, into}.run();
}

} // namespace hearth::emulate
