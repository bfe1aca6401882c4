#include "emulate/emulate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace hearth::emulate {
namespace {

using Status = Outcome::Status;

constexpr uint64_t code_start = 0x401000;
constexpr uint64_t data_start = 0x600000;
constexpr size_t data_size = 2 * page_size;
constexpr uint64_t fs_base = data_start + 0x100;

/// Two pages of data, code that may end at any byte, and machine registers that record their use.
class FakeMachine final : public Environment {
public:
    std::vector<std::byte> code;
    uint64_t code_end = code_start + page_size; // beyond it nothing is mapped
    std::vector<std::byte> data = std::vector<std::byte>(data_size);
    std::map<unsigned, uint64_t> control{{0, 0x8005003b}, {3, 0x1000}};
    std::map<unsigned, uint64_t> debug;
    std::map<uint32_t, uint64_t> msrs{{0xc0000103, 7}};
    std::vector<std::string> log;
    Segment segments[6];
    bool ports_allowed = true;
    unsigned races = 0; // so many exchanges find that somebody else changed the memory
    uint32_t port_value = 0x11223344;

    FakeMachine() {
        for (Segment& segment : segments)
            segment = {0, 0xffffffff, 0x93};
        segments[1].attributes = 0x9b;
        segments[4].base = fs_base;
    }
    template <class T>
    T peek(uint64_t address) {
        T value;
        std::memcpy(&value, data.data() + (address - data_start), sizeof value);
        return value;
    }
    template <class T>
    void poke(uint64_t address, T value) {
        std::memcpy(data.data() + (address - data_start), &value, sizeof value);
    }

    Access<std::byte*> at(GuestAddress a, size_t size, uint32_t error_code) {
        for (size_t n = 0; n < size; ++n)
            if (a.raw() + n < data_start || a.raw() + n >= data_start + data_size)
                return raise(Vector::page_fault, error_code, a.raw() + n);
        return data.data() + (a.raw() - data_start);
    }
    Access<size_t> fetch(GuestAddress from, std::span<std::byte> to) override {
        if (from.raw() < code_start || from.raw() >= code_end)
            return raise(Vector::page_fault, 0x14, from.raw());
        size_t got = 0;
        for (; got < to.size() && from.raw() + got < code_end; ++got) {
            size_t const n = from.raw() + got - code_start;
            to[got] = n < code.size() ? code[n] : std::byte{0x90};
        }
        return got;
    }
    Access<Segment> segment(SegmentRegister s) override {
        return segments[static_cast<unsigned>(s)];
    }
    Access<> read(GuestAddress from, std::span<std::byte> to) override {
        std::memcpy(to.data(), TRY(at(from, to.size(), 4)), to.size());
        return {};
    }
    Access<> write(GuestAddress to, std::span<std::byte const> from) override {
        std::memcpy(TRY(at(to, from.size(), 6)), from.data(), from.size());
        return {};
    }
    Access<> check_write(GuestAddress to, size_t size) override {
        TRY(at(to, size, 6));
        return {};
    }
    Access<Wide> compare_exchange(GuestAddress where, unsigned size, Wide expected,
                                  Wide desired) override {
        std::byte* const place = TRY(at(where, size, 6));
        if (races > 0) {
            --races;
            *place ^= std::byte{0x20}; // the page walker sets a bit
        }
        Wide old = 0;
        std::memcpy(&old, place, size);
        if (old == expected)
            std::memcpy(place, &desired, size);
        return old;
    }
    Access<> check_port(uint16_t, unsigned) override {
        return ports_allowed ? Access<>{} : raise(Vector::general_protection);
    }
    Access<uint32_t> io_in(uint16_t port, unsigned size) override {
        TRY(check_port(port, size));
        log.push_back("in " + std::to_string(port) + " " + std::to_string(size));
        return port_value++;
    }
    Access<> io_out(uint16_t port, unsigned size, uint32_t value) override {
        TRY(check_port(port, size));
        log.push_back("out " + std::to_string(port) + " " + std::to_string(size) + " " +
                      std::to_string(value));
        return {};
    }
    Access<uint64_t> read_msr(uint32_t index) override {
        auto const found = msrs.find(index);
        if (found == msrs.end())
            return raise(Vector::general_protection);
        return found->second;
    }
    Access<> write_msr(uint32_t index, uint64_t value) override {
        msrs[index] = value;
        return {};
    }
    Access<uint64_t> read_control(unsigned n) override { return control[n]; }
    Access<> write_control(unsigned n, uint64_t value) override {
        control[n] = value;
        return {};
    }
    Access<uint64_t> read_debug(unsigned n) override { return debug[n]; }
    Access<> write_debug(unsigned n, uint64_t value) override {
        debug[n] = value;
        return {};
    }
    Access<CpuidLeaf> cpuid(uint32_t leaf, uint32_t subleaf) override {
        return CpuidLeaf{leaf + 1, subleaf + 2, 3, 4};
    }
    Access<uint64_t> read_tsc() override { return 0x123456789abcdef0; }
    Access<uint64_t> read_pmc(uint32_t n) override { return 0x100000000 + n; }
    Access<> write_extended_control(uint32_t n, uint64_t value) override {
        log.push_back("xsetbv " + std::to_string(n) + " " + std::to_string(value));
        return {};
    }
    Access<> invalidate_page(GuestAddress a) override {
        log.push_back("invlpg " + std::to_string(a.raw()));
        return {};
    }
    Access<> flush_caches() override {
        log.push_back("wbinvd");
        return {};
    }
    Access<> set_interrupts(bool enabled) override {
        log.push_back(enabled ? "sti" : "cli");
        return {};
    }
    Access<> halt() override { return {}; }
};

class EmulateTest : public testing::Test {
protected:
    FakeMachine machine;
    Registers registers{};
    CodeSize size = CodeSize::bits64;
    Permitted permitted{.memory = true, .port = true, .privileged = true};

    EmulateTest() {
        registers.rip = code_start;
        registers.rflags = rflags::fixed | rflags::interrupts;
        registers.rdi = data_start + 0x80;
        registers.rsi = data_start + 0x40;
    }
    Outcome execute(std::initializer_list<int> code) {
        machine.code.clear();
        for (int const byte : code)
            machine.code.push_back(static_cast<std::byte>(byte));
        return run(registers, size, machine, permitted);
    }
    /// The instruction faults so and changes no register.
    void expect_fault(std::initializer_list<int> code, Vector vector, uint32_t error_code = 0,
                      uint64_t address = 0) {
        Registers const before = registers;
        Outcome const outcome = execute(code);
        ASSERT_EQ(outcome.status, Status::exception);
        EXPECT_EQ(outcome.exception.vector, vector);
        EXPECT_EQ(outcome.exception.error_code, error_code);
        EXPECT_EQ(outcome.exception.address, address);
        EXPECT_EQ(std::memcmp(&before, &registers, sizeof before), 0);
    }
    void expect_unhandleable(std::initializer_list<int> code) {
        Registers const before = registers;
        EXPECT_EQ(execute(code).status, Status::unhandleable);
        EXPECT_EQ(std::memcmp(&before, &registers, sizeof before), 0);
    }
    void expect_done(std::initializer_list<int> code) {
        uint64_t const rip = registers.rip;
        ASSERT_EQ(execute(code).status, Status::done);
        EXPECT_EQ(registers.rip, rip + code.size());
        registers.rip = rip;
    }
};

TEST_F(EmulateTest, FetchUpToAPageBorderThatIsNotMapped) {
    registers.rip = code_start;
    machine.code_end = code_start + 3;
    registers.rax = 0x1122;
    expect_done({0x48, 0x89, 0x07}); // mov %rax,(%rdi): fits exactly
    EXPECT_EQ(machine.peek<uint64_t>(data_start + 0x80), 0x1122u);
    expect_fault({0x48, 0x89, 0x47, 0x08}, Vector::page_fault, 0x14, code_start + 3);
    expect_fault({0x48, 0xc7, 0x07, 1, 2, 3, 4}, Vector::page_fault, 0x14, code_start + 3);
    registers.rip = code_start + 3;
    expect_fault({0x90}, Vector::page_fault, 0x14, code_start + 3);
}

TEST_F(EmulateTest, AtMostFifteenBytes) {
    expect_done(
        {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x89, 7});
    expect_fault({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                  0x66, 0x89, 7},
                 Vector::general_protection);
    expect_fault({0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
                  0x2e, 0x2e, 0x2e},
                 Vector::general_protection);
}

TEST_F(EmulateTest, LockOnlyWhereTheArchitectureHasIt) {
    expect_done({0xf0, 0x01, 0x07});                                      // lock add
    expect_fault({0xf0, 0x89, 0x07}, Vector::invalid_opcode);             // mov
    expect_fault({0xf0, 0x39, 0x07}, Vector::invalid_opcode);             // cmp
    expect_fault({0xf0, 0x0f, 0xa3, 0x07}, Vector::invalid_opcode);       // bt
    expect_fault({0xf0, 0x83, 0x3f, 0x01}, Vector::invalid_opcode);       // cmp, group 1
    expect_fault({0xf0, 0x0f, 0xba, 0x27, 0x01}, Vector::invalid_opcode); // bt, group 8
    expect_fault({0xf0, 0xab}, Vector::invalid_opcode);                   // stos
    expect_fault({0xf0, 0x0f, 0x30}, Vector::invalid_opcode);             // wrmsr
}

TEST_F(EmulateTest, OnlyWhatIsPermitted) {
    permitted = {.memory = true};
    expect_unhandleable({0x0f, 0x30});
    expect_unhandleable({0xee});
    expect_unhandleable({0x6e});
    permitted = {.privileged = true};
    expect_unhandleable({0x89, 0x07});
    expect_unhandleable({0xab});
    expect_unhandleable({0xe4, 0x60});
    permitted = {.port = true};
    expect_unhandleable({0x0f, 0xa2});
    expect_done({0xe4, 0x60});
}

TEST_F(EmulateTest, WhatItDoesNotKnowIsUnhandleable) {
    expect_unhandleable({0x90});
    expect_unhandleable({0x8b, 0x07});                   // a load
    expect_unhandleable({0x89, 0xc7});                   // register to register
    expect_unhandleable({0x0f, 0x01, 0xf8});             // swapgs
    expect_unhandleable({0x66, 0x0f, 0xc3, 0x07});       // movnti has no 66
    expect_unhandleable({0x0f, 0xc7, 0x37});             // rdrand's group, memory
    expect_unhandleable({0xc5, 0xf8, 0x29, 0x07});       // VEX
    expect_unhandleable({0xc7, 0x4f, 0x00, 1, 2, 3, 4}); // c7 /1
    expect_unhandleable({0xf3, 0x0f, 0x01, 0xd1});
    registers.rflags |= rflags::vm;
    expect_unhandleable({0x89, 0x07});
}

TEST_F(EmulateTest, EffectiveAddresses) {
    registers.rax = 0xab;
    // mov %al, disp32(%rip) with an immediate after it would be relative to the end: c6 05 disp32
    // imm8
    int const to_data = static_cast<int>(data_start - code_start);
    expect_done({0xc6, 0x05, (to_data - 7) & 0xff, (to_data - 7) >> 8 & 0xff, to_data >> 16 & 0xff,
                 0, 0x5a});
    EXPECT_EQ(machine.peek<uint8_t>(data_start), 0x5a);
    // SIB without a base, REX.X makes r12 the index
    registers.r12 = data_start / 4;
    expect_done({0x42, 0x88, 0x04, 0xa5, 5, 0, 0, 0});
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 5), 0xab);
    registers.rsp = 0x1000;
    // Index 4 means none, REX.B does not change that base 5 with mod 0 means none
    expect_done({0x41, 0x88, 0x04, 0x25, 6, 0, 0x60, 0});
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 6), 0xab);
    // r13 with mod 1, negative displacement
    registers.r13 = data_start + 16;
    expect_done({0x41, 0x88, 0x45, 0xf8});
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 8), 0xab);
    // fs base; ds override is ignored after it
    registers.rdx = 4;
    expect_done({0x64, 0x3e, 0x88, 0x02});
    EXPECT_EQ(machine.peek<uint8_t>(fs_base + 4), 0xab);
    // Address-size prefix cuts to 32 bits
    registers.rdx = 0xffffffff00000000 | (data_start + 9);
    expect_done({0x67, 0x88, 0x02});
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 9), 0xab);
    // Absolute address
    expect_done({0xa2, 10, 0, 0x60, 0, 0, 0, 0, 0});
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 10), 0xab);
    expect_done({0x67, 0xa2, 11, 0, 0x60, 0});
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 11), 0xab);
    // A REX prefix counts only directly before the opcode
    registers.r8 = 0;
    expect_done({0x41, 0x66, 0x89, 0x07});
}

TEST_F(EmulateTest, NonCanonicalAddressesFault) {
    registers.rdx = 0x0000'7fff'ffff'fffc;
    expect_fault({0x48, 0x89, 0x02}, Vector::general_protection);
    registers.rbp = registers.rdx;
    expect_fault({0x48, 0x89, 0x45, 0x00}, Vector::stack_fault);
    machine.segments[4].base = 0x8000'0000'0000'0000;
    expect_fault({0x64, 0x89, 0x07}, Vector::general_protection);
}

TEST_F(EmulateTest, FaultsLeaveTheRegistersAlone) {
    uint64_t const end = data_start + data_size;
    registers.rdx = end - 4;
    registers.rflags |= rflags::cf | rflags::zf;
    expect_fault({0x48, 0x89, 0x02}, Vector::page_fault, 6, end);
    expect_fault({0x48, 0x01, 0x02}, Vector::page_fault, 4, end);
    expect_fault({0x48, 0x0f, 0xb1, 0x02}, Vector::page_fault, 6, end);
    registers.rsi = end;
    expect_fault({0xa4}, Vector::page_fault, 4, end);
    registers.rbx = data_start + 8;
    expect_fault({0x48, 0x0f, 0xc7, 0x0b}, Vector::general_protection); // cmpxchg16b, misaligned
}

TEST_F(EmulateTest, UpdatesAreAtomicTowardsOthers) {
    machine.poke<uint64_t>(data_start + 0x80, 0x067);
    registers.rax = 0x100;
    machine.races = 3; // toggles 0x20 three times
    expect_done({0x48, 0x09, 0x07});
    EXPECT_EQ(machine.peek<uint64_t>(data_start + 0x80), 0x147u);
    machine.races = 1;
    expect_done({0x48, 0x87, 0x07});
    EXPECT_EQ(registers.rax, 0x167u);

    // Somebody who never stops: nothing happens and the guest tries again.
    machine.races = ~0u;
    Registers const before = registers;
    EXPECT_EQ(execute({0x48, 0x0f, 0xc1, 0x07}).status, Status::again);
    EXPECT_EQ(std::memcmp(&before, &registers, sizeof before), 0);
}

TEST_F(EmulateTest, RepetitionIsBoundedAndInterruptible) {
    registers.rdi = data_start;
    registers.rcx = 1000;
    registers.rax = 0x55;
    EXPECT_EQ(execute({0xf3, 0xaa}).status, Status::again);
    EXPECT_EQ(registers.rip, code_start);
    EXPECT_EQ(registers.rcx, 936u);
    EXPECT_EQ(registers.rdi, data_start + 64);
    unsigned calls = 1;
    while (execute({0xf3, 0xaa}).status == Status::again)
        ++calls;
    EXPECT_EQ(calls, 1000u / 64);
    registers.rip = code_start;
    EXPECT_EQ(registers.rcx, 0u);
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 999), 0x55);
    EXPECT_EQ(machine.peek<uint8_t>(data_start + 1000), 0);

    // A fault on the way keeps what was done; the next call reports it.
    registers.rcx = 5;
    registers.rdi = data_start + data_size - 16;
    EXPECT_EQ(execute({0xf3, 0x48, 0xab}).status, Status::again);
    EXPECT_EQ(registers.rcx, 3u);
    expect_fault({0xf3, 0x48, 0xab}, Vector::page_fault, 6, data_start + data_size);

    // With the address-size prefix the count is ecx. Nothing at all happens for a count of zero.
    registers.rcx = 0xf00000000;
    registers.rdi = 0;
    expect_done({0x67, 0xf3, 0xaa});
}

TEST_F(EmulateTest, TraceFlagAndResumeFlag) {
    registers.rflags |= rflags::tf | rflags::rf;
    registers.rcx = 3;
    Outcome outcome = execute({0xf3, 0xaa});
    EXPECT_EQ(outcome.status, Status::again);
    EXPECT_TRUE(outcome.single_step);
    EXPECT_EQ(registers.rcx, 2u);
    outcome = execute({0x89, 0x07});
    EXPECT_EQ(outcome.status, Status::done);
    EXPECT_TRUE(outcome.single_step);
    EXPECT_EQ(registers.rflags & rflags::rf, 0u);
    registers.rflags &= ~rflags::tf;
    registers.rip = code_start;
    EXPECT_FALSE(execute({0x89, 0x07}).single_step);
}

TEST_F(EmulateTest, Ports) {
    registers.rdx = 0xf0070;
    registers.rax = 0xffff'ffff'ffff'ff12;
    expect_done({0xee});
    expect_done({0x66, 0xe7, 0x80});
    expect_done({0x48, 0xef}); // no 64-bit ports
    expect_done({0xec});
    EXPECT_EQ(registers.rax, 0xffff'ffff'ffff'ff44);
    expect_done({0x66, 0xe5, 0x61});
    EXPECT_EQ(registers.rax, 0xffff'ffff'ffff'3345);
    expect_done({0xed});
    EXPECT_EQ(registers.rax, 0x11223346u);
    EXPECT_EQ(machine.log,
              (std::vector<std::string>{"out 112 1 18", "out 128 2 65298", "out 112 4 4294967058",
                                        "in 112 1", "in 97 2", "in 112 4"}));
    machine.ports_allowed = false;
    expect_fault({0xec}, Vector::general_protection);
    expect_fault({0xe6, 0x80}, Vector::general_protection);
}

TEST_F(EmulateTest, PortStrings) {
    registers.rdx = 0x1f0;
    registers.rcx = 4;
    registers.rdi = data_start;
    expect_done({0xf3, 0x66, 0x6d});
    EXPECT_EQ(machine.peek<uint64_t>(data_start), 0x3347'3346'3345'3344u);
    EXPECT_EQ(registers.rdi, data_start + 8);
    machine.log.clear();
    registers.rsi = data_start + 1;
    registers.rflags |= rflags::df;
    expect_done({0x6e});
    EXPECT_EQ(machine.log, std::vector<std::string>{"out 496 1 51"});
    EXPECT_EQ(registers.rsi, data_start);
    // Where the result cannot be stored the port is not read.
    machine.log.clear();
    registers.rdi = 0;
    expect_fault({0x6c}, Vector::page_fault, 6, 0);
    EXPECT_TRUE(machine.log.empty());
    // Who may not use the port does not learn what is mapped.
    machine.ports_allowed = false;
    registers.rsi = 0;
    for (uint8_t const opcode : {uint8_t{0x6c}, uint8_t{0x6e}})
        expect_fault({opcode}, Vector::general_protection);
    machine.ports_allowed = true;
}

TEST_F(EmulateTest, ModelSpecificRegistersAndTime) {
    registers.rcx = 0xf'0000'0277;
    registers.rax = 0xffff'ffff'0000'0406;
    registers.rdx = 0xffff'ffff'0005'0100;
    expect_done({0x0f, 0x30});
    EXPECT_EQ(machine.msrs[0x277], 0x0005'0100'0000'0406u);
    registers.rax = registers.rdx = ~uint64_t{0};
    expect_done({0x0f, 0x32});
    EXPECT_EQ(registers.rax, 0x406u);
    EXPECT_EQ(registers.rdx, 0x50100u);
    registers.rcx = 0x1234;
    expect_fault({0x0f, 0x32}, Vector::general_protection);
    expect_done({0x0f, 0x01, 0xf9}); // rdtscp
    EXPECT_EQ(registers.rax, 0x9abcdef0u);
    EXPECT_EQ(registers.rdx, 0x12345678u);
    EXPECT_EQ(registers.rcx, 7u);
    expect_done({0x0f, 0x33}); // rdpmc
    EXPECT_EQ(registers.rax, 7u);
    EXPECT_EQ(registers.rdx, 1u);
    registers.rax = 0x1'0000'000b;
    registers.rcx = 0x2'0000'0001;
    expect_done({0x0f, 0xa2});
    EXPECT_EQ(registers.rax, 12u);
    EXPECT_EQ(registers.rbx, 3u);
}

TEST_F(EmulateTest, ControlAndDebugRegisters) {
    expect_done({0x0f, 0x20, 0xd8}); // mov %cr3,%rax
    EXPECT_EQ(registers.rax, 0x1000u);
    registers.r9 = 0x2000;
    expect_done({0x41, 0x0f, 0x22, 0x19}); // mod is ignored: mov %r9,%cr3
    EXPECT_EQ(machine.control[3], 0x2000u);
    expect_done({0x44, 0x0f, 0x22, 0xc0}); // cr8
    EXPECT_EQ(machine.control[8], 0x1000u);
    expect_fault({0x0f, 0x20, 0xc8}, Vector::invalid_opcode);       // cr1
    expect_fault({0x44, 0x0f, 0x23, 0xc0}, Vector::invalid_opcode); // dr8
    registers.rbx = 0xffff0ff0;
    expect_done({0x0f, 0x23, 0xf3});
    EXPECT_EQ(machine.debug[6], 0xffff0ff0u);
    expect_done({0x0f, 0x21, 0xf1});
    EXPECT_EQ(registers.rcx, 0xffff0ff0u);

    expect_done({0x0f, 0x06}); // clts
    EXPECT_EQ(machine.control[0], 0x80050033u);
    registers.rax = 0x8;
    expect_done({0x0f, 0x01, 0xf0}); // lmsw: sets TS, clears MP and EM, cannot clear PE
    EXPECT_EQ(machine.control[0], 0x80050039u);
    registers.rax = ~uint64_t{0};
    expect_done({0x66, 0x0f, 0x01, 0xe0});
    EXPECT_EQ(registers.rax, 0xffff'ffff'ffff'0039u);
    expect_done({0x0f, 0x01, 0x27});
    EXPECT_EQ(machine.peek<uint32_t>(data_start + 0x80), 0x39u);
}

TEST_F(EmulateTest, TheRestOfTheSystemInstructions) {
    registers.rcx = 0;
    registers.rax = 7;
    registers.rdx = 0;
    expect_done({0x0f, 0x01, 0xd1});
    expect_done({0x0f, 0x01, 0x3f});
    registers.rbx = 0x8000'0000'0000'0000;
    expect_done({0x0f, 0x01, 0x3b}); // not canonical: nothing to invalidate
    expect_done({0x0f, 0x09});
    expect_done({0x0f, 0x08});
    expect_done({0xfa});
    expect_done({0xfb});
    EXPECT_EQ(machine.log, (std::vector<std::string>{"xsetbv 0 7", "invlpg 6291584", "wbinvd",
                                                     "wbinvd", "cli", "sti"}));
    EXPECT_TRUE(execute({0xf4}).halted);
}

TEST_F(EmulateTest, ThirtyTwoBitCodeHasSegments) {
    size = CodeSize::bits32;
    registers.rax = 0x11;
    registers.rdx = 0xdead'0000'0000'0000 | data_start;
    expect_done({0x89, 0x02});
    EXPECT_EQ(machine.peek<uint32_t>(data_start), 0x11u);
    expect_done({0xa3, 4, 0, 0x60, 0});
    EXPECT_EQ(machine.peek<uint32_t>(data_start + 4), 0x11u);
    expect_done({0xc7, 0x05, 8, 0, 0x60, 0, 1, 0, 0, 0}); // no rip-relative addresses here
    EXPECT_EQ(machine.peek<uint32_t>(data_start + 8), 1u);
    expect_unhandleable({0x67, 0x89, 0x02}); // 16-bit addressing
    expect_unhandleable({0x48, 0x89, 0x02}); // dec %eax

    machine.segments[3].limit = data_start + 2;
    expect_fault({0x89, 0x02}, Vector::general_protection);
    machine.segments[3] = {0, 0xffffffff, 0x91}; // read-only
    expect_fault({0x89, 0x02}, Vector::general_protection);
    machine.segments[3] = {0, 0xffffffff, 0x13}; // not present
    expect_fault({0x89, 0x02}, Vector::general_protection);
    machine.segments[2].limit = 0;
    registers.rbp = data_start;
    expect_fault({0x89, 0x45, 0x00}, Vector::stack_fault);
    machine.segments[1].limit = code_start + 1; // the code segment ends within the instruction
    expect_fault({0x26, 0x89, 0x02}, Vector::general_protection);
}

/// Every instruction that plain_store() takes for one does what it says, by the emulator.
TEST(PlainStore, AgreesWithTheEmulator) {
    std::mt19937_64 random{1};
    unsigned stores = 0, immediates = 0, exchanges = 0;
    constexpr uint64_t opcodes[] = {0x8900, 0xc700, 0x8700};
    for (unsigned n = 0; n < 200'000; ++n) {
        uint64_t bytes = random();
        if (n % 2) // mostly what it looks for
            bytes = (bytes & ~uint64_t{0xffff}) | (0x40 | (random() & 0xf)) |
                    opcodes[random() % std::size(opcodes)];
        if (n % 4 == 3) // and with a displacement that reaches
            bytes &= 0x0000'001f'ffff'ffff;
        Registers registers{};
        uint64_t* const general = &registers.r15; // rdi is the last of the fifteen
        for (unsigned i = 0; i < 15; ++i)
            general[i] = data_start + 0x800 + i * 0x10;
        registers.rsp = data_start + 0xa00;
        registers.rip = code_start;
        registers.rflags = rflags::fixed;
        auto const store = plain_store(bytes, registers);
        if (!store || store->address < data_start || store->address + 8 > data_start + data_size)
            continue;
        FakeMachine machine;
        machine.code.resize(sizeof bytes);
        std::memcpy(machine.code.data(), &bytes, sizeof bytes);
        std::vector<std::byte> expected = machine.data;
        std::memcpy(expected.data() + (store->address - data_start), &store->value, 8);
        Registers after = registers;
        if (store->exchanged)
            after.*store->exchanged = machine.peek<uint64_t>(store->address);
        after.rip += store->length;
        auto const outcome = run(registers, CodeSize::bits64, machine, {.memory = true});
        ASSERT_EQ(outcome.status, Status::done) << std::hex << bytes;
        ASSERT_EQ(std::memcmp(&registers, &after, sizeof after), 0) << std::hex << bytes;
        ASSERT_EQ(machine.data, expected) << std::hex << bytes;
        ++(store->exchanged ? exchanges : (bytes >> 8 & 0xff) == 0xc7 ? immediates : stores);
    }
    EXPECT_GT(stores, 1000u);
    EXPECT_GT(immediates, 300u);
    EXPECT_GT(exchanges, 1000u);
}

} // namespace
} // namespace hearth::emulate
