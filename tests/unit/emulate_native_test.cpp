// Each data instruction is executed by this machine's processor and by the emulator; memory,
// registers and flags must agree.
#include "emulate/emulate.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace hearth::emulate {
namespace {

constexpr size_t arena_size = 512;
using Arena = std::array<std::byte, arena_size>;

struct State {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, flags;
};

std::vector<std::byte> parse(std::string_view hex) {
    std::vector<std::byte> bytes;
    for (size_t n = 0; n + 1 < hex.size(); n += 3)
        bytes.push_back(
            static_cast<std::byte>(std::stoul(std::string{hex.substr(n, 2)}, nullptr, 16)));
    return bytes;
}

/// A page of code that holds one instruction and a return.
class Code {
    void* page_;

public:
    explicit Code(std::vector<std::byte> const& bytes)
        : page_{mmap(nullptr, page_size, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)} {
        if (page_ == MAP_FAILED)
            std::abort();
        std::memcpy(page_, bytes.data(), bytes.size());
        static_cast<uint8_t*>(page_)[bytes.size()] = 0xc3;
    }
    ~Code() { munmap(page_, page_size); }
    Code(Code const&) = delete;
    Code& operator=(Code const&) = delete;

    void run(State& state) const {
        // SAFETY: the instruction touches the arena and these registers only; the red zone is
        // stepped over.
        asm volatile("lea -128(%%rsp), %%rsp\n\t"
                     "push %[flags]\n\tpopfq\n\t"
                     "call *%[code]\n\t"
                     "pushfq\n\tpop %[flags]\n\t"
                     "cld\n\t"
                     "lea 128(%%rsp), %%rsp"
                     : "+a"(state.rax), "+b"(state.rbx), "+c"(state.rcx), "+d"(state.rdx),
                       "+S"(state.rsi), "+D"(state.rdi), [flags] "+r"(state.flags)
                     : [code] "r"(page_)
                     : "memory", "cc");
    }
};

/// A copy of the arena at the addresses of the real one, and the code.
class CopyEnvironment final : public Environment {
    uint64_t base_;
    std::vector<std::byte> const& code_;

    Access<std::byte*> at(GuestAddress a, size_t size) {
        if (a.raw() < base_ || a.raw() - base_ > arena_size - size)
            return raise(Vector::page_fault, 2, a.raw());
        return memory.data() + (a.raw() - base_);
    }

public:
    Arena memory;
    unsigned exchanges = 0;
    unsigned writes = 0;

    CopyEnvironment(Arena const& arena, std::vector<std::byte> const& code)
        : base_{reinterpret_cast<uint64_t>(arena.data())}, code_{code}, memory{arena} {}

    Access<size_t> fetch(GuestAddress, std::span<std::byte> to) override {
        size_t const size = std::min(to.size(), code_.size());
        std::memcpy(to.data(), code_.data(), size);
        return size;
    }
    Access<> read(GuestAddress from, std::span<std::byte> to) override {
        std::memcpy(to.data(), TRY(at(from, to.size())), to.size());
        return {};
    }
    Access<> write(GuestAddress to, std::span<std::byte const> from) override {
        ++writes;
        std::memcpy(TRY(at(to, from.size())), from.data(), from.size());
        return {};
    }
    Access<Wide> compare_exchange(GuestAddress where, unsigned size, Wide expected,
                                  Wide desired) override {
        ++exchanges;
        std::byte* const place = TRY(at(where, size));
        Wide old = 0;
        std::memcpy(&old, place, size);
        if (old == expected)
            std::memcpy(place, &desired, size);
        return old;
    }
};

struct Case {
    char const* code;
    uint64_t undefined = 0; // flags that the architecture does not define
    bool atomic = true;     // must go through compare_exchange only
};

constexpr uint64_t status =
    rflags::cf | rflags::pf | rflags::af | rflags::zf | rflags::sf | rflags::of;
constexpr uint64_t all_but_carry = status & ~rflags::cf & ~rflags::zf;

void PrintTo(Case const& c, std::ostream* out) { *out << c.code; }

class NativeTest : public testing::TestWithParam<Case> {};

TEST_P(NativeTest, AgreesWithTheProcessor) {
    auto const bytes = parse(GetParam().code);
    Code const code{bytes};
    std::mt19937_64 random{std::hash<std::string>{}(GetParam().code)};
    auto const pick = [&]() -> uint64_t {
        constexpr uint64_t edges[] = {0,
                                      1,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      0x7fffffff,
                                      0x80000000,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      ~uint64_t{0}};
        return random() % 3 == 0 ? edges[random() % std::size(edges)] : random();
    };
    for (unsigned round = 0; round < 300; ++round) {
        alignas(64) Arena arena;
        for (size_t n = 0; n < arena_size; n += 8) {
            uint64_t const word = pick();
            std::memcpy(arena.data() + n, &word, 8);
        }
        auto const middle = reinterpret_cast<uint64_t>(arena.data()) + arena_size / 2;
        State state{pick(),
                    pick(),
                    random() % 9,
                    pick(),
                    pick(),
                    middle,
                    (random() & (status | rflags::df)) | rflags::fixed | rflags::interrupts};
        if (random() % 2 == 0) {
            std::memcpy(&state.rax, arena.data() + arena_size / 2, 8);
            std::memcpy(&state.rdx, arena.data() + arena_size / 2 + 8, 8);
        }
        // Codes with movs read at rsi; those with a far bit offset take it from rbx, within the
        // arena.
        if (bytes.back() == std::byte{0xa4} || bytes.back() == std::byte{0xa5})
            state.rsi = middle + random() % 32;
        state.rbx = static_cast<uint64_t>(static_cast<int64_t>(random() % 3000) - 1500);

        CopyEnvironment environment{arena, bytes};
        Registers registers{};
        registers.rax = state.rax;
        registers.rbx = state.rbx;
        registers.rcx = state.rcx;
        registers.rdx = state.rdx;
        registers.rsi = state.rsi;
        registers.rdi = state.rdi;
        registers.rflags = state.flags;
        registers.rip = 0x1000;
        auto const outcome = run(registers, CodeSize::bits64, environment, {.memory = true});
        code.run(state);

        ASSERT_EQ(outcome.status, Outcome::Status::done);
        EXPECT_EQ(registers.rip, 0x1000 + bytes.size());
        ASSERT_EQ(environment.memory, arena) << "round " << round;
        ASSERT_EQ(registers.rax, state.rax);
        ASSERT_EQ(registers.rbx, state.rbx);
        ASSERT_EQ(registers.rcx, state.rcx);
        ASSERT_EQ(registers.rdx, state.rdx);
        ASSERT_EQ(registers.rsi, state.rsi);
        ASSERT_EQ(registers.rdi, state.rdi);
        uint64_t const compared = (status | rflags::df) & ~GetParam().undefined;
        ASSERT_EQ(registers.rflags & compared, state.flags & compared);
        if (GetParam().atomic)
            ASSERT_EQ(environment.writes, 0u);
        else
            ASSERT_EQ(environment.exchanges, 0u);
    }
}

// ModRM 37 is [rdi] with rsi or dh, 1f is [rdi] with rbx, 0f with rcx or cl, 27 with rsp or ah.
INSTANTIATE_TEST_SUITE_P(
    Arithmetic, NativeTest,
    testing::Values(Case{"00 37"}, Case{"01 37"}, Case{"66 01 37"}, Case{"48 01 37"},
                    Case{"40 00 37"}, Case{"f0 48 01 37"}, Case{"08 27", rflags::af},
                    Case{"48 09 37", rflags::af}, Case{"10 37"}, Case{"11 37"}, Case{"48 11 37"},
                    Case{"66 11 37"}, Case{"18 37"}, Case{"19 37"}, Case{"48 19 37"},
                    Case{"20 1f", rflags::af}, Case{"48 21 37", rflags::af}, Case{"28 37"},
                    Case{"29 37"}, Case{"66 29 37"}, Case{"48 29 37"}, Case{"30 0f", rflags::af},
                    Case{"48 31 37", rflags::af}, Case{"48 31 74 4f 05", rflags::af},
                    Case{"48 01 b4 8f 80 ff ff ff"}, Case{"38 37", 0, false},
                    Case{"48 39 37", 0, false}, Case{"66 39 37", 0, false}, Case{"80 07 81"},
                    Case{"81 17 78 56 34 92"}, Case{"48 81 1f 78 56 34 92"}, Case{"66 81 2f 34 92"},
                    Case{"48 83 27 fe", rflags::af}, Case{"48 83 0f 42", rflags::af},
                    Case{"83 3f 00", 0, false}, Case{"48 83 37 40", rflags::af}, Case{"fe 07"},
                    Case{"ff 07"}, Case{"48 ff 07"}, Case{"fe 0f"}, Case{"66 ff 0f"},
                    Case{"48 ff 0f"}, Case{"f6 17"}, Case{"48 f7 17"}, Case{"f6 1f"}, Case{"f7 1f"},
                    Case{"48 f7 1f"}));
INSTANTIATE_TEST_SUITE_P(
    Exchange, NativeTest,
    testing::Values(Case{"86 37"}, Case{"87 37"}, Case{"66 87 37"}, Case{"48 87 37"}, Case{"86 27"},
                    Case{"0f c0 37"}, Case{"0f c1 37"}, Case{"66 0f c1 37"}, Case{"f0 48 0f c1 37"},
                    Case{"0f b0 1f"}, Case{"0f b1 37"}, Case{"66 0f b1 37"}, Case{"48 0f b1 37"},
                    Case{"f0 48 0f b1 37"}, Case{"0f c7 0f"}, Case{"f0 48 0f c7 0f"}));
INSTANTIATE_TEST_SUITE_P(
    Bits, NativeTest,
    testing::Values(Case{"0f a3 1f", all_but_carry, false}, Case{"0f ab 1f", all_but_carry},
                    Case{"66 0f ab 1f", all_but_carry}, Case{"48 0f ab 1f", all_but_carry},
                    Case{"f0 48 0f b3 1f", all_but_carry}, Case{"0f bb 1f", all_but_carry},
                    Case{"48 0f ba 27 45", all_but_carry, false},
                    Case{"48 0f ba 2f 3f", all_but_carry}, Case{"0f ba 37 ff", all_but_carry},
                    Case{"66 0f ba 3f 1f", all_but_carry}));
INSTANTIATE_TEST_SUITE_P(
    Moves, NativeTest,
    testing::Values(Case{"88 37", 0, false}, Case{"89 37", 0, false}, Case{"66 89 37", 0, false},
                    Case{"48 89 37", 0, false}, Case{"48 89 74 cf f8", 0, false},
                    Case{"c6 07 9a", 0, false}, Case{"c7 07 78 56 34 92", 0, false},
                    Case{"66 c7 07 34 92", 0, false}, Case{"48 c7 07 78 56 34 92", 0, false},
                    Case{"48 c7 47 18 78 56 34 92", 0, false}, Case{"0f c3 37", 0, false},
                    Case{"48 0f c3 37", 0, false}, Case{"aa", 0, false}, Case{"48 ab", 0, false},
                    Case{"f3 ab", 0, false}, Case{"f3 48 ab", 0, false}, Case{"f2 66 ab", 0, false},
                    Case{"a4", 0, false}, Case{"48 a5", 0, false}, Case{"f3 a4", 0, false},
                    Case{"f3 48 a5", 0, false}, Case{"f3 a5", 0, false}));

} // namespace
} // namespace hearth::emulate
