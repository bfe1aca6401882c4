// Hostile instruction bytes, registers and memory that faults at will.
#include "emulate/emulate.h"

#include <cstdlib>
#include <cstring>

namespace hearth::emulate {
namespace {

void require(bool condition) {
    if (!condition)
        std::abort();
}

class Input {
    std::span<uint8_t const> left_;

public:
    Input(uint8_t const* data, size_t size) : left_{data, size} {}
    template <class T>
    T take() {
        T value{};
        size_t const size = sizeof value < left_.size() ? sizeof value : left_.size();
        if (size != 0)
            std::memcpy(&value, left_.data(), size);
        left_ = left_.subspan(size);
        return value;
    }
    std::span<uint8_t const> rest() const { return left_; }
};

/// Answers everything; each answer may be a fault instead, as the input has it.
class HostileEnvironment final : public Environment {
    uint64_t choices_;
    std::span<uint8_t const> code_;
    uint8_t memory_[64] = {};

    Access<> chance() {
        choices_ = choices_ * 6364136223846793005 + 1442695040888963407;
        switch (choices_ >> 59) {
        case 0:
            return raise(Vector::page_fault, 6, choices_);
        case 1:
            return unhandled();
        default:
            return {};
        }
    }

public:
    unsigned effects = 0;

    HostileEnvironment(uint64_t choices, std::span<uint8_t const> code)
        : choices_{choices}, code_{code} {}

    Access<size_t> fetch(GuestAddress, std::span<std::byte> to) override {
        require(to.size() <= longest_instruction);
        TRY(chance());
        size_t const size = to.size() < code_.size() ? to.size() : code_.size();
        if (size != 0)
            std::memcpy(to.data(), code_.data(), size);
        return size;
    }
    Access<Segment> segment(SegmentRegister which) override {
        require(which <= SegmentRegister::gs);
        TRY(chance());
        return Segment{choices_, static_cast<uint32_t>(choices_ >> 7),
                       static_cast<uint16_t>((choices_ >> 20) & 0xff)};
    }
    Access<> read(GuestAddress from, std::span<std::byte> to) override {
        require(to.size() <= 8);
        TRY(chance());
        for (size_t n = 0; n < to.size(); ++n)
            to[n] = static_cast<std::byte>(memory_[(from.raw() + n) % sizeof memory_]);
        return {};
    }
    Access<> write(GuestAddress to, std::span<std::byte const> from) override {
        require(from.size() <= 8);
        TRY(chance());
        ++effects;
        for (size_t n = 0; n < from.size(); ++n)
            memory_[(to.raw() + n) % sizeof memory_] = std::to_integer<uint8_t>(from[n]);
        return {};
    }
    Access<Wide> compare_exchange(GuestAddress, unsigned size, Wide expected, Wide) override {
        require(size == 1 || size == 2 || size == 4 || size == 8 || size == 16);
        require(size == 16 || expected >> (8 * size) == 0);
        TRY(chance());
        if (choices_ % 3 == 0)
            return expected ^ 1;
        ++effects;
        return expected;
    }
    Access<uint32_t> io_in(uint16_t, unsigned size) override {
        require(size == 1 || size == 2 || size == 4);
        TRY(chance());
        return static_cast<uint32_t>(choices_);
    }
    Access<> io_out(uint16_t, unsigned size, uint32_t) override {
        require(size == 1 || size == 2 || size == 4);
        TRY(chance());
        ++effects;
        return {};
    }
    Access<uint64_t> read_msr(uint32_t) override {
        TRY(chance());
        return choices_;
    }
    Access<uint64_t> read_control(unsigned n) override {
        require(n <= 8 && n != 1);
        TRY(chance());
        return choices_;
    }
    Access<> write_control(unsigned n, uint64_t) override {
        require(n <= 8 && n != 1);
        TRY(chance());
        ++effects;
        return {};
    }
    Access<uint64_t> read_debug(unsigned n) override {
        require(n < 8);
        return choices_;
    }
    Access<> halt() override { return chance(); }
};

void one(Input input) {
    auto const mode = input.take<uint8_t>();
    auto const choices = input.take<uint64_t>();
    auto registers = input.take<Registers>();
    HostileEnvironment environment{choices, input.rest()};
    Permitted const permitted{
        .memory = (mode & 2) != 0, .port = (mode & 4) != 0, .privileged = (mode & 8) != 0};
    CodeSize const size = (mode & 1) != 0 ? CodeSize::bits32 : CodeSize::bits64;
    Registers const before = registers;
    Outcome const outcome = run(registers, size, environment, permitted);

    switch (outcome.status) {
    case Outcome::Status::unhandleable:
    case Outcome::Status::exception:
        require(std::memcmp(&before, &registers, sizeof before) == 0);
        require(environment.effects == 0);
        require(!outcome.single_step && !outcome.halted);
        break;
    case Outcome::Status::again:
        require(registers.rip == before.rip);
        break;
    case Outcome::Status::done: {
        uint64_t moved = registers.rip - before.rip;
        if (size == CodeSize::bits32)
            moved &= 0xffffffff;
        require(moved >= 1 && moved <= longest_instruction);
        break;
    }
    }
    require(registers.cs == before.cs && registers.ss == before.ss);
    constexpr uint64_t changeable =
        rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::of | rflags::rf;
    require(((registers.rflags ^ before.rflags) & ~changeable) == 0);
    require(permitted.memory || permitted.port || permitted.privileged ||
            outcome.status == Outcome::Status::unhandleable ||
            outcome.status == Outcome::Status::exception);
}

} // namespace
} // namespace hearth::emulate

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    hearth::emulate::one({data, size});
    return 0;
}
