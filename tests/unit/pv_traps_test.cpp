// A PV kernel's exceptions, privileged instructions, system calls and returns, as its handlers find
// them.
#include "fake_machine.h"

#include "abi/operations.h"
#include "abi/physdev.h"
#include "arch/fpu.h"
#include "cpu/features.h"
#include "cpuid/features.h"
#include "pv/bounce.h"
#include "pv/way_back.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

extern "C" {
void guest_exception(hearth::Thread& vcpu, hearth::Registers& frame);
void guest_syscall32(hearth::Registers& frame);
void guest_sysenter(hearth::Registers& frame);
}

namespace hearth::test {
namespace {

using abi::Hypercall;
namespace page_fault = pv::page_fault;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t code = 0x201000, stack = 0x202000, stack_top = stack + 0x1000,
                   handlers = 0x10000, callback = 0x20000, event_callback = 0x30000,
                   failsafe_callback = 0x40000;
constexpr uint64_t kernel_cs = 0xe030, user_cs = 0xe033, flat_ss = 0xe02b;

class Traps : public testing::Test {
protected:
    Guest guest;
    pv::PvVcpu& v = guest.vcpu();
    Mfn code_page = guest.new_frame(), stack_page = guest.new_frame(),
        user_root = guest.new_frame();

    explicit Traps(bool hardware = false) : guest{1, ~0u, hardware} {
        map(code, code_page);
        map(stack, stack_page);
        auto* const table = &guest.argument<abi::TrapInfo>();
        for (unsigned n = 0; n < 255; ++n)
            table[n] = {static_cast<uint8_t>(n), level_of(n), user_cs, 0, handlers + n};
        table[255] = {};
        EXPECT_EQ(guest.hypercall(Hypercall::set_trap_table, Guest::argument_address), 0);
        EXPECT_EQ(
            guest.hypercall(Hypercall::set_callbacks, event_callback, failsafe_callback, callback),
            0);
        EXPECT_EQ(guest.hypercall(Hypercall::stack_switch, flat_ss, stack_top), 0);
        v.info->upcall_mask = 1;
    }

    /// Who may enter a gate by an instruction.
    static uint8_t level_of(unsigned vector) { return vector == 0x80 ? 3 : vector == 0x21 ? 1 : 0; }
    void map(uint64_t address, Mfn frame) {
        ASSERT_EQ(guest.hypercall(Hypercall::update_va_mapping, address,
                                  address_of(frame).raw() | Guest::table_flags, 0),
                  0);
    }
    uint64_t* stacked() {
        return reinterpret_cast<uint64_t*>(direct<char>(stack_page) + (r().rsp - stack));
    }
    Registers& r() { return v.registers(); }

    /// The guest meets the exception at `instruction`; the registers are set up by `prepare`.
    void meet(
        Vector vector, Bytes const& instruction, uint32_t error_code = 0,
        std::function<void(Registers&)> const& prepare = [](Registers&) {}) {
        memcpy(direct<char>(code_page), instruction.data(), instruction.size());
        length = instruction.size();
        ASSERT_TRUE(guest.run([&] {
            Registers& frame = r();
            frame.rip = code;
            frame.cs = user_cs;
            frame.ss = flat_ss;
            frame.rsp = stack_top - 0x100;
            frame.rflags = rflags::fixed | rflags::interrupts;
            prepare(frame);
            frame.vector = static_cast<uint32_t>(vector);
            frame.error_code = error_code;
            guest_exception(v, frame);
        }));
    }
    void privileged(
        Bytes const& instruction,
        std::function<void(Registers&)> const& prepare = [](Registers&) {}) {
        meet(Vector::general_protection, instruction, 0, prepare);
    }
    uint64_t read_msr(uint32_t index) {
        privileged({0x0f, 0x32}, [=](Registers& frame) { frame.rcx = index; });
        return r().rdx << 32 | r().rax;
    }
    void write_msr(uint32_t index, uint64_t value) {
        privileged({0x0f, 0x30}, [=](Registers& frame) {
            frame.rcx = index;
            frame.rax = static_cast<uint32_t>(value);
            frame.rdx = value >> 32;
        });
    }
    /// `int n`, as the IDT's own gate refuses it.
    void privileged_gate(uint8_t n) { meet(Vector::general_protection, {0xcd, n}, n * 8u + 2); }
    [[nodiscard]] bool crashed() {
        return guest.domain.is_shut_down() &&
               guest.domain.shutdown.load() == static_cast<uint32_t>(abi::ShutdownReason::crash);
    }
    [[nodiscard]] bool done() { return r().rip == code + length; }
    [[nodiscard]] bool in_handler(Vector vector) {
        return r().rip == handlers + static_cast<unsigned>(vector);
    }
    /// Gives user mode the same pages.
    void prepare_user() {
        memcpy(direct<char>(user_root), direct<char>(guest.l4), page_size);
        Worker::run([&] {
            v.user_table = user_root;
            Guest::must(pv::get_page_and_type(guest.domain, user_root, PageType::l4));
        });
    }
    /// What follows runs in user mode.
    void go_to_user() {
        prepare_user();
        ASSERT_TRUE(guest.run([&] {
            *reinterpret_cast<abi::IretContext*>(direct<char>(stack_page)) = {
                0, 11, 12, 0, code, user_cs, rflags::fixed | rflags::interrupts, 0x7000, flat_ss};
            Registers& frame = r();
            frame.rsp = stack;
            frame.rax = static_cast<uint64_t>(Hypercall::iret);
            system_call(v);
        }));
        ASSERT_FALSE(v.kernel_mode);
    }

    size_t length = 0;
};

/// One that may use the machine's ports.
class HardwareTraps : public Traps {
protected:
    HardwareTraps() : Traps{true} {}
    ~HardwareTraps() override { host::read_port = nullptr; }
    int64_t ask(abi::PhysdevOperation operation) {
        return guest
            .hypercall(Hypercall::physdev_op, static_cast<uint64_t>(operation),
                       Guest::argument_address)
            .value_or(-1);
    }
    void set_iopl(uint32_t level) {
        guest.argument<abi::SetIopl>() = {level};
        ASSERT_EQ(ask(abi::PhysdevOperation::set_iopl), 0);
    }
};

// --- Frames

TEST_F(Traps, AnExceptionOfTheKernelFindsItsFrame) {
    meet(Vector::divide_error, {0xf7, 0xf0}, 0, [](Registers& frame) {
        frame.rcx = 1;
        frame.r11 = 2;
        frame.rflags |= rflags::tf | rflags::cf;
    });
    ASSERT_TRUE(in_handler(Vector::divide_error));
    EXPECT_EQ(r().rsp, stack_top - 0x100 - 7 * 8);
    uint64_t const events_masked = uint64_t{1} << 32;
    uint64_t const expected[] = {1,
                                 2,
                                 code,
                                 kernel_cs | events_masked,
                                 rflags::fixed | rflags::tf | rflags::cf,
                                 stack_top - 0x100,
                                 flat_ss};
    EXPECT_EQ(memcmp(stacked(), expected, sizeof expected), 0);
    EXPECT_EQ(r().rflags & rflags::tf, 0u);
}

TEST_F(Traps, ExceptionsThatHaveAnErrorCodeShowIt) {
    for (Vector const vector : {Vector::invalid_tss, Vector::segment_not_present,
                                Vector::stack_fault, Vector::alignment_check}) {
        meet(vector, {0x90}, 0x18);
        ASSERT_TRUE(in_handler(vector));
        EXPECT_EQ(stacked()[2], 0x18u);
        EXPECT_EQ(stacked()[3], code);
    }
}

TEST_F(Traps, AnExceptionOfUserModeComesOnTheKernelsStack) {
    go_to_user();
    EXPECT_EQ(r().rcx, 12u);
    EXPECT_EQ(r().r11, 11u);
    meet(Vector::divide_error, {0xf7, 0xf0}, 0, [](Registers& frame) { frame.rsp = 0x7000; });
    ASSERT_TRUE(in_handler(Vector::divide_error));
    EXPECT_TRUE(v.kernel_mode);
    EXPECT_EQ(r().rsp, stack_top - 7 * 8);
    EXPECT_EQ(stacked()[3] & 0xffff, user_cs);
    EXPECT_EQ(stacked()[5], 0x7000u);
}

TEST_F(Traps, APageFaultSaysWhereAndWhoseItWas) {
    host::cpu_state(v.cpu()).cr2 = 0x12345678;
    meet(Vector::page_fault, {0x90}, page_fault::write | 8);
    ASSERT_TRUE(in_handler(Vector::page_fault));
    EXPECT_EQ(v.info->cr2, 0x12345678u);
    EXPECT_EQ(stacked()[2], page_fault::write);
    go_to_user();
    host::cpu_state(v.cpu()).cr2 = 0x5000;
    meet(Vector::page_fault, {0x90}, page_fault::present);
    EXPECT_EQ(v.info->cr2, 0x5000u);
    EXPECT_EQ(stacked()[2], page_fault::present | 4u);
}

TEST_F(Traps, AFaultInTheHypervisorsAddressesIsTheGuestsOwn) {
    host::cpu_state(v.cpu()).cr2 = 0xffff800000000000;
    meet(Vector::page_fault, {0x90}, page_fault::present | page_fault::write);
    ASSERT_TRUE(in_handler(Vector::page_fault));
    EXPECT_EQ(stacked()[2], page_fault::write) << "nothing is there, as far as the guest can tell";
}

TEST_F(Traps, WithoutAHandlerTheGuestCrashes) {
    EXPECT_EQ(guest.hypercall(Hypercall::set_trap_table, 0), 0);
    meet(Vector::divide_error, {0xf7, 0xf0});
    EXPECT_TRUE(crashed());
}

TEST_F(Traps, WithoutAStackTheGuestCrashes) {
    meet(Vector::divide_error, {0xf7, 0xf0}, 0, [](Registers& frame) { frame.rsp = 0x9000; });
    EXPECT_TRUE(crashed());
}

// --- Gates and system calls

TEST_F(Traps, AnIretInAListOfHypercallsEndsIt) {
    prepare_user();
    auto* const list = &guest.argument<abi::MulticallEntry>();
    list[0] = list[2] = {static_cast<uint64_t>(Hypercall::xen_version), -7, {}};
    list[1] = {static_cast<uint64_t>(Hypercall::iret), -7, {}};
    *reinterpret_cast<abi::IretContext*>(direct<char>(stack_page)) = {
        55, 11, 12, 0, code, user_cs, rflags::fixed | rflags::interrupts, 0x7000, flat_ss};
    ASSERT_TRUE(guest.run([&] {
        Registers& frame = r();
        frame.rsp = stack;
        frame.rax = static_cast<uint64_t>(Hypercall::multicall);
        frame.rdi = Guest::argument_address;
        frame.rsi = 3;
        system_call(v);
    }));
    EXPECT_FALSE(v.kernel_mode);
    EXPECT_EQ(r().rip, code);
    EXPECT_EQ(r().rsp, 0x7000u);
    EXPECT_EQ(r().rax, 55u);
    EXPECT_EQ(r().rcx, 12u);
    EXPECT_GT(list[0].result, 0);
    EXPECT_EQ(list[2].result, -7);
}

/// By that flag a kernel gives up the selectors, whatever its frame has; rcx and r11 too.
TEST_F(Traps, AnIretFromASystemCallIsToFlatSegments) {
    constexpr uint64_t flat32_cs = 0xe023;
    prepare_user();
    for (auto const& [wanted, cs] :
         {std::pair{uint64_t{3}, user_cs}, {uint64_t{0x33}, user_cs}, {flat32_cs, flat32_cs}}) {
        *reinterpret_cast<abi::IretContext*>(direct<char>(stack_page)) = {
            55,     11, 12, abi::iret_in_syscall, code, wanted, rflags::fixed | rflags::interrupts,
            0x7000, 0};
        ASSERT_TRUE(guest.run([&] {
            pv::enter_mode(v, true);
            Registers& frame = r();
            frame = {};
            frame.cs = user_cs;
            frame.ss = flat_ss;
            frame.rsp = stack;
            frame.rax = static_cast<uint64_t>(Hypercall::iret);
            system_call(v);
        }));
        EXPECT_FALSE(v.kernel_mode);
        EXPECT_EQ(r().rip, code);
        EXPECT_EQ(r().cs, cs);
        EXPECT_EQ(r().ss, flat_ss);
        EXPECT_NE(r().rcx, 12u);
    }
}

TEST_F(Traps, SetCallbacksSaysNothingOfMasks) {
    auto& request = guest.argument<abi::CallbackRegister>();
    request = {};
    request.type = static_cast<uint16_t>(abi::CallbackType::syscall);
    request.flags = 1; // mask_events
    request.address = 0x40000;
    ASSERT_EQ(guest.hypercall(Hypercall::callback_op,
                              static_cast<uint64_t>(abi::CallbackOperation::register_callback),
                              Guest::argument_address),
              0);
    EXPECT_TRUE(v.syscall_callback.masks_events);
    ASSERT_EQ(guest.hypercall(Hypercall::set_callbacks, event_callback, failsafe_callback, 0x50000),
              0);
    EXPECT_EQ(v.syscall_callback.address, 0x50000u);
    EXPECT_FALSE(v.syscall_callback.masks_events);
}

TEST_F(Traps, AListInAListOfHypercallsIsRefused) {
    guest.argument<abi::MulticallEntry>() = {static_cast<uint64_t>(Hypercall::multicall), 0, {}};
    EXPECT_EQ(guest.hypercall(Hypercall::multicall, Guest::argument_address, 1), 0);
    EXPECT_EQ(guest.argument<abi::MulticallEntry>().result, -22);
}

TEST_F(Traps, SoftwareInterruptsAskTheGuestsOwnTable) {
    meet(Vector::breakpoint, {0xcc}, 0, [](Registers& frame) { ++frame.rip; });
    ASSERT_TRUE(in_handler(Vector::breakpoint));
    EXPECT_EQ(stacked()[2], code + 1);
    // Through a gate that the IDT keeps for ring 0.
    privileged_gate(0x21);
    ASSERT_TRUE(in_handler(Vector{0x21}));
    EXPECT_EQ(stacked()[2], code + 2);
    privileged_gate(0x22);
    ASSERT_TRUE(in_handler(Vector::general_protection)) << "of level 0, which is nobody's";
    EXPECT_EQ(stacked()[2], 0x22u * 8 + 2);
    go_to_user();
    privileged_gate(0x80);
    ASSERT_TRUE(in_handler(Vector{0x80}));
    go_to_user();
    privileged_gate(0x21);
    ASSERT_TRUE(in_handler(Vector::general_protection)) << "its privilege is the kernel's";
    EXPECT_EQ(stacked()[2], 0x21u * 8 + 2);
    EXPECT_EQ(stacked()[3], code);
    go_to_user();
    meet(Vector::breakpoint, {0xcc}, 0, [](Registers& frame) { ++frame.rip; });
    ASSERT_TRUE(in_handler(Vector::general_protection));
    EXPECT_EQ(stacked()[2], 3u * 8 + 2);
    EXPECT_EQ(stacked()[3], code) << "back at the instruction";
}

TEST_F(Traps, ASystemCallGoesToItsCallback) {
    go_to_user();
    ASSERT_TRUE(guest.run([&] {
        Registers& frame = r();
        frame.rip = frame.rcx = code + 2;
        frame.rsp = 0x7000;
        frame.rax = 99;
        system_call(v);
    }));
    EXPECT_EQ(r().rip, callback);
    EXPECT_TRUE(v.kernel_mode);
    EXPECT_EQ(r().rax, 99u);
    EXPECT_EQ(stacked()[2], code + 2);
}

TEST_F(Traps, WithoutACallbackThereIsNoSuchInstruction) {
    v.syscall_callback = {};
    go_to_user();
    ASSERT_TRUE(guest.run([&] {
        r().rip = r().rcx = code + 2;
        system_call(v);
    }));
    ASSERT_TRUE(in_handler(Vector::invalid_opcode));
    EXPECT_EQ(stacked()[2], code);
    go_to_user();
    ASSERT_TRUE(guest.run([&] {
        r().rip = code + 2;
        guest_syscall32(r());
    }));
    ASSERT_TRUE(in_handler(Vector::invalid_opcode));
    go_to_user();
    ASSERT_TRUE(guest.run([&] { guest_sysenter(r()); }));
    ASSERT_TRUE(in_handler(Vector::general_protection));
}

TEST_F(Traps, TheOtherSystemCallsHaveCallbacksToo) {
    auto const set = [&](abi::CallbackType type, uint64_t address) {
        guest.argument<abi::CallbackRegister>() = {static_cast<uint16_t>(type), 0, 0, address};
        ASSERT_EQ(guest.hypercall(Hypercall::callback_op, 0, Guest::argument_address), 0);
    };
    set(abi::CallbackType::syscall32, 0x50000);
    set(abi::CallbackType::sysenter, 0x60000);
    go_to_user();
    ASSERT_TRUE(guest.run([&] { guest_syscall32(r()); }));
    EXPECT_EQ(r().rip, 0x50000u);
    go_to_user();
    ASSERT_TRUE(guest.run([&] { guest_sysenter(r()); }));
    EXPECT_EQ(r().rip, 0x60000u);
    EXPECT_EQ(stacked()[2], 0u) << "where it came from only its callers know";
}

TEST_F(Traps, AnIretThatCannotBeDoneCrashes) {
    ASSERT_TRUE(guest.run([&] {
        r().rsp = 0x9000;
        r().rax = static_cast<uint64_t>(Hypercall::iret);
        system_call(v);
    }));
    EXPECT_TRUE(crashed()) << "no frame";
}

TEST_F(Traps, AnIretToUserModeNeedsAnAddressSpace) {
    ASSERT_TRUE(guest.run([&] {
        *reinterpret_cast<abi::IretContext*>(direct<char>(stack_page)) = {
            0, 0, 0, 0, code, user_cs, rflags::fixed, 0x7000, flat_ss};
        r().rsp = stack;
        r().rax = static_cast<uint64_t>(Hypercall::iret);
        system_call(v);
    }));
    EXPECT_TRUE(crashed());
}

// --- Privileged instructions

struct Privileged {
    char const* name;
    Bytes instruction;
};
Privileged const of_kernels_only[] = {
    {"rdmsr", {0x0f, 0x32}},
    {"wrmsr", {0x0f, 0x30}},
    {"mov %cr0, %rax", {0x0f, 0x20, 0xc0}},
    {"mov %rax, %cr0", {0x0f, 0x22, 0xc0}},
    {"mov %dr7, %rax", {0x0f, 0x21, 0xf8}},
    {"mov %rax, %dr7", {0x0f, 0x23, 0xf8}},
    {"clts", {0x0f, 0x06}},
    {"hlt", {0xf4}},
    {"wbinvd", {0x0f, 0x09}},
    {"invlpg (%rax)", {0x0f, 0x01, 0x38}},
    {"xsetbv", {0x0f, 0x01, 0xd1}},
};

TEST_F(Traps, UserModeMayNot) {
    v.cr4 = arch::cr4::osxsave;
    for (auto const& [name, instruction] : of_kernels_only) {
        go_to_user();
        privileged(instruction, [](Registers& frame) { frame.rax = frame.rcx = 0; });
        EXPECT_TRUE(in_handler(Vector::general_protection)) << name;
        EXPECT_EQ(stacked()[3], code) << name;
    }
}

TEST_F(Traps, NobodyWithoutPortsMayUseThem) {
    for (Bytes const& instruction :
         {Bytes{0xec}, Bytes{0xed}, Bytes{0xee}, Bytes{0xef}, Bytes{0xfa}, Bytes{0xfb}}) {
        privileged(instruction);
        EXPECT_TRUE(in_handler(Vector::general_protection)) << unsigned{instruction[0]};
    }
}

TEST_F(Traps, ControlRegistersAreTheGuestsOwn) {
    privileged({0x0f, 0x20, 0xc0});
    ASSERT_TRUE(done());
    EXPECT_EQ(r().rax & 8, 0u);
    privileged({0x0f, 0x22, 0xc0}, [](Registers& frame) { frame.rax = 0x8005003b | 8; });
    ASSERT_TRUE(done());
    EXPECT_TRUE(v.task_switched);
    for (uint64_t const value : {uint64_t{0}, uint64_t{0x80010033}, ~uint64_t{0}}) {
        privileged({0x0f, 0x22, 0xc0}, [=](Registers& frame) { frame.rax = value; });
        EXPECT_TRUE(in_handler(Vector::general_protection)) << "only TS is its own";
        EXPECT_TRUE(v.task_switched);
    }
    privileged({0x0f, 0x20, 0xc0});
    EXPECT_EQ(r().rax & 8, 8u);
    meet(Vector::device_not_available, {0xd9, 0xe8});
    EXPECT_TRUE(in_handler(Vector::device_not_available));
    EXPECT_FALSE(v.task_switched) << "the fault itself ends it";
    meet(Vector::device_not_available, {0xd9, 0xe8}, 0,
         [](Registers& frame) { frame.rip = code + 1; });
    EXPECT_EQ(r().rip, code + 1) << "Hearth's own, and the guest goes on";

    privileged({0x0f, 0x22, 0xd0}, [](Registers& frame) { frame.rax = 0x1234; });
    ASSERT_TRUE(done());
    privileged({0x0f, 0x20, 0xd1}); // into rcx
    EXPECT_EQ(r().rcx, 0x1234u);
    privileged({0x0f, 0x20, 0xd8});
    EXPECT_EQ(r().rax, address_of(guest.l4).raw());
    privileged({0x0f, 0x22, 0xd8}); // what was read
    EXPECT_TRUE(done());
    privileged({0x0f, 0x22, 0xd8},
               [&](Registers& frame) { frame.rax = address_of(guest.l1).raw(); });
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "no root";
    EXPECT_EQ(v.kernel_table, guest.l4);
    privileged({0x44, 0x0f, 0x20, 0xc0}); // cr8
    EXPECT_TRUE(in_handler(Vector::general_protection));
    privileged({0x44, 0x0f, 0x22, 0xc0});
    EXPECT_TRUE(in_handler(Vector::general_protection));
}

/// A machine that has FSGSBASE, XSAVE, and nothing else.
class ControlRegister4 : public Traps {
protected:
    static constexpr uint64_t always = 0x660; // PAE MCE OSFXSR OSXMMEXCPT
    static constexpr uint64_t tsd = arch::cr4::tsd, fsgsbase = arch::cr4::fsgsbase;

    ControlRegister4() {
        host::cpuid_words()[{0, 0}] = {7, 0x756e6547, 0, 0};
        host::cpuid_words()[{1, 0}] = {0, 0, 1u << 26, 0};
        host::cpuid_words()[{7, 0}] = {0, 1, 0, 0};
        host::cpuid_words()[{0xd, 0}] = {3, 0, 0, 0};
        enable_cpu_features({}, true);
    }
    ~ControlRegister4() override {
        host::cpuid_words().clear();
        enable_cpu_features({}, true);
    }
    uint64_t read() {
        privileged({0x0f, 0x20, 0xe0});
        EXPECT_TRUE(done());
        return r().rax;
    }
    void write(uint64_t value) {
        privileged({0x0f, 0x22, 0xe0}, [=](Registers& frame) { frame.rax = value; });
        EXPECT_TRUE(done());
    }
    static uint64_t in_force() {
        return host::cpu_state(host::current_cpu()).cr4 & (tsd | fsgsbase);
    }
};

TEST_F(ControlRegister4, IsTheGuestsInPart) {
    EXPECT_EQ(read(), always);
    write(~uint64_t{0});
    EXPECT_EQ(read(), always | 0xc | fsgsbase | (arch::fpu_features() ? arch::cr4::osxsave : 0));
    EXPECT_EQ(in_force(), tsd | fsgsbase);
    write(0);
    EXPECT_EQ(read(), always);
    EXPECT_EQ(in_force(), 0u);
    guest.domain.settings.allowed_features[static_cast<unsigned>(FeatureWord::leaf_7_ebx)] = 0;
    write(fsgsbase);
    EXPECT_EQ(read(), always) << "its toolstack has not given it that";
    EXPECT_EQ(in_force(), 0u);
}

TEST_F(ControlRegister4, IsEachVcpusOwn) {
    write(fsgsbase);
    Guest other;
    for (unsigned turn = 0; turn < 3; ++turn) {
        EXPECT_TRUE(guest.run([&] { EXPECT_EQ(in_force(), fsgsbase); }));
        EXPECT_TRUE(other.run([&] { EXPECT_EQ(in_force(), 0u); }));
    }
}

TEST_F(ControlRegister4, KeepsTheTimeFromUserMode) {
    Bytes const rdtsc{0x0f, 0x31}, rdtscp{0x0f, 0x01, 0xf9};
    write(tsd);
    privileged(rdtsc);
    EXPECT_TRUE(done()) << "the kernel is ring 3 to the processor only";
    for (Bytes const& instruction : {rdtsc, rdtscp}) {
        go_to_user();
        privileged(instruction);
        EXPECT_TRUE(in_handler(Vector::general_protection));
        EXPECT_EQ(stacked()[3], code);
    }
}

TEST_F(ControlRegister4, MustSayThatXsaveIsInUse) {
    privileged({0x0f, 0x01, 0xd1}, [](Registers& frame) { frame.rcx = 0, frame.rax = 3; });
    EXPECT_TRUE(in_handler(Vector::invalid_opcode));
}

TEST_F(Traps, DebugRegistersTakeNoAddressOfOurs) {
    privileged({0x0f, 0x23, 0xc0}, [](Registers& frame) { frame.rax = code; });
    ASSERT_TRUE(done());
    privileged({0x0f, 0x21, 0xc1});
    EXPECT_EQ(r().rcx, code);
    privileged({0x0f, 0x23, 0xc0}, [](Registers& frame) { frame.rax = 0xffff800000001000; });
    EXPECT_TRUE(in_handler(Vector::general_protection));
    privileged({0x0f, 0x23, 0xc0}, [](Registers& frame) { frame.rax = 0x8000000000000000; });
    EXPECT_TRUE(in_handler(Vector::general_protection));
    privileged({0x0f, 0x23, 0xf8}, [](Registers& frame) { frame.rax = 0x20001; });
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "a breakpoint on ports";
    privileged({0x0f, 0x23, 0xf8}, [](Registers& frame) { frame.rax = 0x2001; });
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "general detect";
    privileged({0x0f, 0x23, 0xf8}, [](Registers& frame) { frame.rax = 0x2f800; });
    EXPECT_TRUE(in_handler(Vector::general_protection));
    privileged({0x0f, 0x23, 0xf8}, [](Registers& frame) { frame.rax = 0x2d800; });
    ASSERT_TRUE(done()) << "one on ports that is not enabled";
    privileged({0x0f, 0x21, 0xf8});
    EXPECT_EQ(r().rax, 0x20400u) << "a bit is always on, and four off";
    privileged({0x0f, 0x23, 0xf0}, [](Registers& frame) { frame.rax = ~0u; });
    privileged({0x0f, 0x21, 0xf0});
    EXPECT_EQ(r().rax, 0xffffefffu);
    EXPECT_EQ(v.debug[0], code);
}

/// Two of them are others' old names, until the kernel says that they are none.
TEST_F(Traps, DebugRegistersHaveOldNames) {
    constexpr int64_t inval = -22, nodev = -19;
    privileged({0x0f, 0x23, 0xe8}, [](Registers& frame) { frame.rax = 0x20500; }); // dr5
    ASSERT_TRUE(done());
    privileged({0x0f, 0x21, 0xf8});
    EXPECT_EQ(r().rax, 0x20500u);
    EXPECT_EQ(guest.hypercall(Hypercall::get_debugreg, 5), 0x20500);
    EXPECT_EQ(guest.hypercall(Hypercall::set_debugreg, 4, 3), 0);
    EXPECT_EQ(guest.hypercall(Hypercall::get_debugreg, 6), 0xffff0ff3);
    v.cr4 |= arch::cr4::de;
    for (uint8_t const number : {uint8_t{4}, uint8_t{5}}) {
        EXPECT_EQ(guest.hypercall(Hypercall::get_debugreg, number), nodev);
        EXPECT_EQ(guest.hypercall(Hypercall::set_debugreg, number, 0), nodev);
        auto const registers = static_cast<uint8_t>(0xc0 | number << 3);
        for (uint8_t const opcode : {uint8_t{0x21}, uint8_t{0x23}}) {
            privileged({0x0f, opcode, registers});
            EXPECT_TRUE(in_handler(Vector::invalid_opcode));
        }
    }
    EXPECT_EQ(guest.hypercall(Hypercall::get_debugreg, 8), nodev);
    EXPECT_EQ(guest.hypercall(Hypercall::set_debugreg, 8, 0), nodev);
    for (uint64_t const number : {6u, 7u})
        EXPECT_EQ(guest.hypercall(Hypercall::set_debugreg, number, uint64_t{1} << 32), inval);
}

/// `sysret` would fault there with the hypervisor's privilege and the guest's stack.
TEST_F(Traps, ASystemCallThatCannotBeDeliveredDoesNotGoBackByItself) {
    go_to_user();
    v.kernel_sp = 0x7000'0000; // nothing is there
    auto way = pv::WayBack::sysret;
    EXPECT_TRUE(guest.run([&] {
        // Another vCPU has shut the domain down, and has not come to tell this one.
        guest.domain.shutdown = uint32_t{0};
        Registers& frame = r();
        frame.vector = ENTERED_BY_SYSCALL;
        frame.rip = uint64_t{1} << 47;
        frame.rflags = rflags::fixed | rflags::interrupts;
        v.settle(~0u);
        way = guest_syscall(v, frame).way;
    }));
    EXPECT_EQ(way, pv::WayBack::border);
}

TEST_F(Traps, ModelSpecificRegisters) {
    constexpr uint32_t efer = 0xc0000080, fs_base = 0xc0000100, unknown = 0x12345678;
    EXPECT_EQ(read_msr(efer) & 0x500, 0x500u);
    ASSERT_TRUE(done());
    write_msr(fs_base, 0x7f0000001000);
    ASSERT_TRUE(done());
    EXPECT_EQ(read_msr(fs_base), 0x7f0000001000u);
    write_msr(fs_base, 0x8000000000000000);
    EXPECT_EQ(read_msr(fs_base), 0x7f0000001000u) << "not canonical";
    write_msr(unknown, 1);
    EXPECT_TRUE(in_handler(Vector::general_protection));
    (void)read_msr(unknown);
    EXPECT_TRUE(in_handler(Vector::general_protection));
    // Who has no handler yet is told of nothing rather than ended; what the hypervisor's own would
    // be is none, whoever asks.
    host::cpu_state(0).msrs[unknown] = 5;
    v.traps.remove(static_cast<uint8_t>(Vector::general_protection));
    EXPECT_EQ(read_msr(unknown), 0u);
    EXPECT_FALSE(crashed());
    (void)read_msr(0x40000123);
    EXPECT_TRUE(crashed());
}

TEST_F(Traps, TheTimeStampCounterIsTheProcessors) {
    host::tsc = 0x123456789a;
    EXPECT_GE(read_msr(0x10), 0x123456789au);
    ASSERT_TRUE(done());
}

TEST_F(Traps, SpeculationIsControlledByEachVcpuForItself) {
    constexpr uint32_t control = 0x48, command = 0x49;
    constexpr uint64_t ssbd = 4;
    auto const in_force = [=] { return host::cpu_state(host::current_cpu()).msrs[control]; };
    write_msr(control, ssbd);
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "the machine has none";
    host::cpuid_words()[{0, 0}] = {7, 0x756e6547, 0, 0};
    host::cpuid_words()[{7, 0}] = {0, 0, 0, 1u << 26 | 1u << 31}; // IBRS and IBPB, SSBD
    EXPECT_EQ(read_msr(control), 0u);
    write_msr(control, ssbd);
    ASSERT_TRUE(done());
    EXPECT_EQ(read_msr(control), ssbd);
    write_msr(control, 2);
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "STIBP, which there is not";
    write_msr(command, 1);
    EXPECT_TRUE(done());
    EXPECT_EQ(host::cpu_state(0).msrs[command], 1u);

    Guest other;
    for (unsigned turn = 0; turn < 3; ++turn) {
        EXPECT_TRUE(guest.run([&] { EXPECT_EQ(in_force(), ssbd); }));
        EXPECT_TRUE(other.run([&] { EXPECT_EQ(in_force(), 0u); }));
    }
    host::cpuid_words().clear();
}

TEST_F(Traps, CpuidByItsPrefixAndByItsFault) {
    Bytes const forced{0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2};
    auto const ask = [](Registers& frame) { frame.rax = 0x40000000, frame.rcx = 0; };
    meet(Vector::invalid_opcode, forced, 0, ask);
    ASSERT_TRUE(done());
    EXPECT_EQ(r().rbx, 0x566e6558u); // "XenV"
    privileged({0x0f, 0xa2}, ask);
    ASSERT_TRUE(done());
    EXPECT_EQ(r().rbx, 0x566e6558u);
    meet(Vector::invalid_opcode, {0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa3}, 0, ask);
    EXPECT_TRUE(in_handler(Vector::invalid_opcode));
    // At the end of what is mapped.
    memcpy(direct<char>(stack_page) + page_size - forced.size(), forced.data(), forced.size());
    ASSERT_TRUE(guest.run([&] {
        ask(r());
        r().rip = stack_top - forced.size();
        r().vector = static_cast<uint32_t>(Vector::invalid_opcode);
        guest_exception(v, r());
    }));
    EXPECT_EQ(r().rip, stack_top);
    EXPECT_EQ(r().rbx, 0x566e6558u);
}

TEST_F(Traps, OtherInstructionsOfKernels) {
    privileged({0x0f, 0x31}); // rdtsc, where it is made to fault
    EXPECT_TRUE(done());
    privileged({0x0f, 0x09});
    EXPECT_TRUE(done());
    uint64_t const before = host::cpu_state(v.cpu()).pages_invalidated;
    privileged({0x0f, 0x01, 0x38}, [](Registers& frame) { frame.rax = code; });
    ASSERT_TRUE(done());
    EXPECT_EQ(host::cpu_state(v.cpu()).pages_invalidated, before + 1);
    privileged({0x0f, 0x01, 0x38}, [](Registers& frame) { frame.rax = 0xffff800000000000; });
    ASSERT_TRUE(done());
    EXPECT_EQ(host::cpu_state(v.cpu()).pages_invalidated, before + 1) << "that is not its page";
    v.cr4 = arch::cr4::osxsave;
    privileged({0x0f, 0x01, 0xd1}, [](Registers& frame) { frame.rcx = 1; });
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "there is no XCR1";
    privileged({0x0f, 0x06});
    EXPECT_TRUE(done());
    privileged({0x90});
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "nothing that could be done for it";
    privileged({0x0f, 0x31}, [](Registers& frame) { frame.rip = 0x9000; });
    EXPECT_TRUE(in_handler(Vector::page_fault)) << "its instruction is not there";
    EXPECT_EQ(v.info->cr2, 0x9000u);
}

TEST_F(Traps, DebugStatusStaysUntilTheGuestClearsIt) {
    uint64_t& processors = host::cpu_state(v.cpu()).dr6;
    v.debug[6] = arch::dr6::none;
    processors = 0xffff0ff1;
    meet(Vector::debug, {0x90});
    ASSERT_TRUE(in_handler(Vector::debug));
    EXPECT_EQ(v.debug[6], 0xffff0ff1u);
    EXPECT_EQ(processors, arch::dr6::none) << "nothing for the next";
    processors = 0xffff4ff0;
    meet(Vector::debug, {0x90});
    EXPECT_EQ(v.debug[6], 0xffff4ff1u);
    EXPECT_EQ(guest.hypercall(Hypercall::set_debugreg, 6, 0), 0);
    meet(Vector::debug, {0x90});
    EXPECT_EQ(v.debug[6], arch::dr6::none);
}

TEST_F(Traps, ASingleStepOverAnEmulatedInstructionIsReported) {
    privileged({0x0f, 0x06}, [](Registers& frame) { frame.rflags |= rflags::tf; });
    ASSERT_TRUE(in_handler(Vector::debug));
    EXPECT_EQ(stacked()[2], code + 2);
    EXPECT_TRUE(v.debug[6] & bit(14));
    v.debug[6] = arch::dr6::none;
    meet(Vector::invalid_opcode, {0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2}, 0,
         [](Registers& frame) {
             frame.rax = 0x40000000;
             frame.rflags |= rflags::tf;
         });
    ASSERT_TRUE(in_handler(Vector::debug));
    EXPECT_EQ(stacked()[2], code + 7);
    EXPECT_EQ(r().rbx, 0x566e6558u);
    EXPECT_TRUE(v.debug[6] & bit(14));
}

// --- Ports

TEST_F(HardwareTraps, PrivilegeOpensThePorts) {
    host::read_port = [](uint16_t port, uint8_t) { return static_cast<uint8_t>(port + 1); };
    auto const in = [&](uint16_t port) {
        privileged({0xec}, [=](Registers& frame) { frame.rdx = port; });
    };
    in(0x60);
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "not asked for yet";
    set_iopl(1);
    in(0x60);
    ASSERT_TRUE(done());
    EXPECT_EQ(r().rax & 0xff, 0x61u);
    privileged({0xfa});
    EXPECT_TRUE(done());
    go_to_user();
    in(0x60);
    EXPECT_TRUE(in_handler(Vector::general_protection)) << "the kernel's privilege";
    set_iopl(3);
    go_to_user();
    in(0x60);
    EXPECT_TRUE(done());
    privileged({0xee}, [](Registers& frame) { frame.rdx = 0x80; });
    EXPECT_TRUE(done());
    privileged({0x66, 0xed}, [](Registers& frame) { frame.rdx = 0x60; });
    EXPECT_EQ(r().rax & 0xffff, 0xffffu) << "the fake machine's wider ports float";
    privileged({0x66, 0xef}, [](Registers& frame) { frame.rdx = 0x60; });
    privileged({0xef}, [](Registers& frame) { frame.rdx = 0x60; });
    EXPECT_TRUE(done());
}

TEST_F(HardwareTraps, AKernelIsOfLevelZeroWhereTheArchitecturesRulesHold) {
    host::read_port = [](uint16_t, uint8_t) { return uint8_t{1}; };
    privileged({0xec}, [](Registers& frame) { frame.rdx = 0x60; });
    EXPECT_TRUE(in_handler(Vector::general_protection));
    ASSERT_EQ(guest.hypercall(Hypercall::vm_assist, 0,
                              static_cast<uint64_t>(abi::VmAssist::architectural_iopl)),
              0);
    privileged({0xec}, [](Registers& frame) { frame.rdx = 0x60; });
    EXPECT_TRUE(done());
    go_to_user();
    privileged({0xec}, [](Registers& frame) { frame.rdx = 0x60; });
    EXPECT_TRUE(in_handler(Vector::general_protection));
}

TEST_F(HardwareTraps, TheBitmapOpensSingleOnes) {
    host::read_port = [](uint16_t, uint8_t) { return uint8_t{7}; };
    constexpr uint64_t bitmap = Guest::argument_address + 0x100;
    memset(&guest.argument<uint8_t>(0x100), 0xff, 0x80);
    guest.argument<uint8_t>(0x100 + 0x60 / 8) = 0xfc; // ports 0x60 and 0x61
    guest.argument<abi::SetIobitmap>() = {bitmap, 0x400, 0};
    ASSERT_EQ(ask(abi::PhysdevOperation::set_iobitmap), 0);
    auto const in = [&](Bytes const& instruction, uint16_t port) {
        go_to_user();
        privileged(instruction, [=](Registers& frame) { frame.rdx = port; });
        bool const read = done();
        EXPECT_EQ(in_handler(Vector::general_protection), !read);
        if (read)
            meet(Vector::divide_error, {0xf7, 0xf0}); // back into the kernel
        return read;
    };
    EXPECT_TRUE(in({0xec}, 0x60));
    EXPECT_TRUE(in({0x66, 0xed}, 0x60));
    EXPECT_FALSE(in({0xed}, 0x60)) << "two of the four";
    EXPECT_FALSE(in({0xec}, 0x62));
    EXPECT_FALSE(in({0xec}, 0x400)) << "beyond its end";
    guest.argument<abi::SetIobitmap>() = {0x9000, 0x400, 0};
    ASSERT_EQ(ask(abi::PhysdevOperation::set_iobitmap), 0);
    EXPECT_FALSE(in({0xec}, 0x60)) << "a bitmap that is not there";
    guest.argument<abi::SetIobitmap>() = {bitmap, 65537, 0};
    EXPECT_EQ(ask(abi::PhysdevOperation::set_iobitmap), -22);
}

TEST_F(HardwareTraps, TheAddressOfPciSpaceIsKeptForEachVcpu) {
    set_iopl(1);
    auto const port = [](uint16_t number, uint64_t value = 0) {
        return [=](Registers& frame) { frame.rdx = number, frame.rax = value; };
    };
    privileged({0xef}, port(0xcf8, 0x80001004));
    ASSERT_TRUE(done());
    privileged({0xed}, port(0xcf8));
    EXPECT_EQ(r().rax, 0x80001004u);
    privileged({0xed}, port(0xcfc));
    EXPECT_EQ(r().rax, 0xffffffffu) << "nobody is there";
    privileged({0xef}, port(0xcfc, 1));
    EXPECT_TRUE(done());
    privileged({0xef}, port(0xcf8, 0x1004)); // not enabled
    privileged({0xed}, port(0xcfc));
    EXPECT_EQ(r().rax, 0xffffffffu);
}

// --- Writes to page tables

TEST_F(Traps, AWriteToATableIsDoneForTheGuest) {
    ASSERT_EQ(guest.hypercall(Hypercall::vm_assist, 0,
                              static_cast<uint64_t>(abi::VmAssist::writable_pagetables)),
              0);
    constexpr uint64_t table = 0x203000, mapped = 0x210000;
    ASSERT_EQ(guest.hypercall(Hypercall::update_va_mapping, table,
                              address_of(guest.l1).raw() | (Guest::table_flags & ~pte::writable),
                              0),
              0);
    Mfn const frame = guest.new_frame();
    uint64_t const entry = address_of(frame).raw() | Guest::table_flags,
                   slot = table + table_index(mapped, 1) * 8;
    Pte& found = direct<Pte>(guest.l1)[table_index(mapped, 1)];
    auto const store = [&](Bytes const& instruction, uint64_t value, uint64_t at) {
        host::cpu_state(v.cpu()).cr2 = at;
        meet(Vector::page_fault, instruction, page_fault::present | page_fault::write,
             [=](Registers& registers) { registers.rax = value, registers.rdi = at; });
    };
    store({0x48, 0x89, 0x07}, entry, slot); // mov %rax, (%rdi)
    ASSERT_TRUE(done());
    EXPECT_EQ(found.v & ~0xfffull, address_of(frame).raw());
    store({0xc7, 0x07, 0, 0, 0, 0}, 0, slot); // movl $0, (%rdi): half of it
    ASSERT_TRUE(done());
    EXPECT_FALSE(found.present());
    store({0x48, 0x87, 0x07}, entry, slot); // xchg
    ASSERT_TRUE(done());
    EXPECT_TRUE(found.present());
    store({0xf0, 0x48, 0x0f, 0xb1, 0x37}, 0, slot); // cmpxchg with what is not there
    ASSERT_TRUE(done());
    EXPECT_EQ(r().rax & ~0xfffull, address_of(frame).raw());
    EXPECT_FALSE(r().rflags & rflags::zf);
    // A table of its own, writable: the kernel hears of it.
    store({0x48, 0x89, 0x07}, address_of(guest.l1).raw() | Guest::table_flags, slot);
    EXPECT_FALSE(done());
    EXPECT_EQ(found.v & ~0xfffull, address_of(frame).raw());
    store({0x48, 0x89, 0x07}, entry, slot + 4); // across two entries
    EXPECT_TRUE(in_handler(Vector::page_fault));
    store({0x48, 0x89, 0x07}, entry, 0x9000);
    EXPECT_TRUE(in_handler(Vector::page_fault));
}

} // namespace
} // namespace hearth::test
