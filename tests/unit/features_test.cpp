// What Hearth turns on in a processor, and what it writes into its own code for it.
#include "cpu/features.h"

#include "arch/x86/asm.h"
#include "fake_machine.h"
#include "memory/image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

extern "C" {
extern char const clac_site[], stac_site[], fill_return_stack_site[], clear_buffers_site[],
    __x86_indirect_thunk_r11[], retpoline[], retpoline_end[], verw_operand[], return_by_sysret[],
    return_by_iret[], airlock_return[], airlock_return_loaded[];
void fill_return_stack();
}

// What an assembler makes of the instructions that Hearth writes.
asm(".pushsection .rodata\n"
    ".globl assembled_verw, assembled_clac, assembled_stac, assembled_call\n"
    "assembled_verw: verw verw_operand(%rip)\n"
    "assembled_clac: clac\n"
    "assembled_stac: stac\n"
    "assembled_call: call fill_return_stack\n"
    ".popsection");
extern "C" char const assembled_verw[], assembled_clac[], assembled_stac[], assembled_call[];

namespace hearth::test {
namespace {

namespace cr4 = arch::cr4;
namespace msr = arch::msr;

class Features : public testing::Test {
protected:
    Features() {
        boot_machine();
        host::cpuid_words().clear();
        state() = {};
        // The image as the linker left it.
        memcpy(code(clac_site), page_of_code(), page_size);
    }
    ~Features() override {
        host::cpuid_words().clear();
        state() = {};
        apply_defences({}, true);
    }
    static host::CpuState& state() { return host::cpu_state(0); }
    static void say(uint32_t leaf, std::array<uint32_t, 4> const& words, uint32_t subleaf = 0) {
        host::cpuid_words()[{leaf, subleaf}] = words;
    }
    static void say_vendor(std::string_view name, uint32_t last_leaf = 7) {
        uint32_t first_letters;
        memcpy(&first_letters, name.data(), sizeof first_letters);
        say(0, {last_leaf, first_letters, 0, 0});
    }
    static char const* page_of_code() {
        return reinterpret_cast<char const*>(
            align_down(reinterpret_cast<uint64_t>(clac_site), page_size));
    }
    /// What the processor would execute there.
    static char* code(char const* place) {
        return direct<char>(image_physical(reinterpret_cast<uint64_t>(place)));
    }
    static std::string bytes_at(char const* place, size_t size) { return {code(place), size}; }
    static bool is_untouched(char const* place) { return memcmp(code(place), place, 5) == 0; }
    /// Where the instruction at `place` leads, by the distance at its end.
    static uint64_t target(char const* place, size_t opcode) {
        int32_t distance;
        memcpy(&distance, code(place) + opcode, sizeof distance);
        return reinterpret_cast<uint64_t>(place) + opcode + sizeof distance + distance;
    }
};

constexpr uint32_t all_of_leaf_7_ebx = 1u << 7 | 1u << 0 | 1u << 20;

TEST_F(Features, EachIsTurnedOnWhereItIs) {
    uint64_t const plain = state().cr4 | cr4::de | cr4::mce | cr4::pge;
    struct Case {
        uint32_t leaf;
        std::array<uint32_t, 4> words;
        uint64_t flag;
    };
    for (auto const& [leaf, words, flag] :
         {Case{7, {0, 1u << 7, 0, 0}, cr4::smep}, Case{7, {0, 0, 1u << 2, 0}, 0},
          Case{7, {0, 1u << 0, 0, 0}, 0}, Case{7, {0, 1u << 20, 0, 0}, cr4::smap},
          Case{1, {0, 0, 1u << 17, 0}, cr4::pcide}, Case{1, {0, 0, 1u << 26, 0}, 0}}) {
        host::cpuid_words().clear();
        state() = {};
        say_vendor("GenuineIntel");
        say(leaf, words);
        enable_cpu_features({.pat = 0x1234}, false);
        EXPECT_EQ(state().cr4, plain | flag) << leaf;
        EXPECT_EQ(state().msrs[msr::pat], 0x1234u);
    }
}

TEST_F(Features, NoneThatTheCommandLineTurnsOff) {
    uint64_t const plain = state().cr4 | cr4::de | cr4::mce | cr4::pge;
    say_vendor("GenuineIntel");
    say(1, {0, 0, 1u << 17 | 1u << 26, 0});
    say(7, {0, all_of_leaf_7_ebx, 0, 0});
    enable_cpu_features(
        {.smep = false, .smap = false, .pcid = false, .fsgsbase = false, .xsave = false}, true);
    EXPECT_EQ(state().cr4, plain);
    EXPECT_TRUE(is_untouched(clac_site));
    EXPECT_EQ(enabled_features().find("SMEP"), std::string_view::npos);
    EXPECT_EQ(enabled_features().find("XSAVE"), std::string_view::npos);
}

TEST_F(Features, GuestsDecideOnTheirOwnBitsOfCr4AndNoOthers) {
    uint64_t const all = ~uint64_t{0};
    say_vendor("GenuineIntel");
    say(7, {0, all_of_leaf_7_ebx, 0, 0});
    for (bool const in_use : {true, false}) {
        enable_cpu_features({.fsgsbase = in_use}, true);
        uint64_t const own = cr4::tsd | (in_use ? cr4::fsgsbase : 0);
        EXPECT_EQ(control_left_to_guests(), own);
        uint64_t const before = state().cr4;
        EXPECT_EQ(before & (cr4::tsd | cr4::fsgsbase), 0u);
        uint64_t const writes = state().cr4_writes;
        set_guest_control(all);
        EXPECT_EQ(state().cr4, before | own);
        EXPECT_EQ(state().cr4_writes, writes + 1);
        set_guest_control(own);
        EXPECT_EQ(state().cr4_writes, writes + 1) << "it is so already";
        set_guest_control(0);
        EXPECT_EQ(state().cr4, before);
    }
}

/// Beyond the last leaf, processors of Intel's give the last one's words.
TEST_F(Features, LeavesThatTheProcessorDoesNotHaveSayNothing) {
    uint64_t const plain = state().cr4 | cr4::de | cr4::mce;
    say_vendor("GenuineIntel", 6);
    say(0x80000000, {0x80000007, 0, 0, 0});
    say(7, {2, ~0u, ~0u, ~0u});
    say(7, {~0u, ~0u, ~0u, ~0u}, 2);
    for (uint32_t const leaf : {0x80000008u, 0x80000021u})
        say(leaf, {~0u, ~0u, ~0u, ~0u});
    enable_cpu_features({}, true);
    EXPECT_EQ(state().cr4, plain);
    EXPECT_TRUE(is_untouched(clac_site));
    state().msrs[msr::arch_capabilities] = ~uint64_t{0};
    ProcessorFacts const facts = processor_facts();
    EXPECT_EQ(facts.leaf_7_ebx, 0u);
    EXPECT_EQ(facts.leaf_7_edx, 0u);
    EXPECT_EQ(facts.leaf_7_2_edx, 0u);
    EXPECT_EQ(facts.extended_8_ebx, 0u);
    EXPECT_EQ(facts.extended_21_eax, 0u);
    EXPECT_EQ(facts.extended_21_ecx, 0u);
    EXPECT_EQ(facts.arch_capabilities, 0u) << "reading it is a fault";
}

TEST_F(Features, AProcessorSaysWhatItIs) {
    for (auto const& [name, vendor] :
         {std::pair{"GenuineIntel", Vendor::intel}, std::pair{"AuthenticAMD", Vendor::amd},
          std::pair{"HygonGenuine", Vendor::hygon}, std::pair{"CentaurHauls", Vendor::other}}) {
        say_vendor(name);
        EXPECT_EQ(processor_facts().vendor, vendor) << name;
    }
    say(0x80000000, {0x80000021, 0, 0, 0});
    say(1, {0x506e3, 0, 0, 0});
    say(7, {2, 1, 0, 1u << 29});
    say(7, {0, 0, 0, 3}, 2);
    say(0x80000008, {0, 4, 0, 0});
    say(0x80000021, {5, 0, 6, 0});
    state().msrs[msr::arch_capabilities] = 0x2b;
    ProcessorFacts const facts = processor_facts();
    EXPECT_EQ(facts.signature, 0x506e3u);
    EXPECT_EQ(facts.leaf_7_ebx, 1u);
    EXPECT_EQ(facts.leaf_7_2_edx, 3u);
    EXPECT_EQ(facts.extended_8_ebx, 4u);
    EXPECT_EQ(facts.extended_21_eax, 5u);
    EXPECT_EQ(facts.extended_21_ecx, 6u);
    EXPECT_EQ(facts.arch_capabilities, 0x2bu);
}

TEST_F(Features, TheFirstCpuWritesTheInstructionsOfSmap) {
    say_vendor("GenuineIntel");
    say(7, {0, 1u << 20, 0, 0});
    enable_cpu_features({}, false);
    EXPECT_TRUE(is_untouched(clac_site)) << "another one executes it";
    enable_cpu_features({}, true);
    EXPECT_EQ(bytes_at(clac_site, 3), std::string(assembled_clac, 3));
    EXPECT_EQ(bytes_at(stac_site, 3), std::string(assembled_stac, 3));
    for (char const* const other : {fill_return_stack_site, clear_buffers_site})
        EXPECT_TRUE(is_untouched(other));
    EXPECT_NE(enabled_features().find(" SMAP"), std::string_view::npos);
}

TEST_F(Features, DefencesAreWrittenWhereTheyBelong) {
    Defences const all{.retpolines = true, .fill_return_stack = true, .clear_buffers = true};
    apply_defences(all, false);
    for (char const* const place :
         {fill_return_stack_site, clear_buffers_site, __x86_indirect_thunk_r11})
        EXPECT_TRUE(is_untouched(place)) << "another CPU executes it";
    apply_defences(all, true);
    auto const size = static_cast<size_t>(retpoline_end - retpoline);
    EXPECT_EQ(bytes_at(__x86_indirect_thunk_r11, size), std::string(retpoline, size));
    EXPECT_EQ(code(__x86_indirect_thunk_r11)[size], '\xcc') << "no more than that";
    EXPECT_EQ(bytes_at(fill_return_stack_site, 1), std::string(assembled_call, 1));
    EXPECT_EQ(target(fill_return_stack_site, 1), reinterpret_cast<uint64_t>(fill_return_stack));
    EXPECT_EQ(bytes_at(clear_buffers_site, 3), std::string(assembled_verw, 3));
    EXPECT_EQ(target(clear_buffers_site, 3), reinterpret_cast<uint64_t>(verw_operand));
    EXPECT_TRUE(is_untouched(clac_site));
}

TEST_F(Features, IsolationLeadsTheWaysOutThroughTheAirlock) {
    state().cr4 |= cr4::pge;
    uint64_t const before = state().cr4;
    apply_defences({.clear_buffers = true, .isolation = true}, false);
    EXPECT_EQ(state().cr4, before & ~cr4::pge) << "Hearth's own translations do not stay";
    EXPECT_TRUE(is_untouched(return_by_sysret));
    apply_defences({.clear_buffers = true, .isolation = true}, true);
    using Way = std::pair<char const*, char const*>;
    for (auto const& [from, to] :
         {Way{return_by_sysret, airlock_return}, Way{return_by_iret, airlock_return_loaded}}) {
        EXPECT_EQ(bytes_at(from, 1), "\xe9");
        EXPECT_EQ(target(from, 1), reinterpret_cast<uint64_t>(to));
    }
    EXPECT_EQ(bytes_at(clear_buffers_site, 3), std::string(assembled_verw, 3));
}

TEST_F(Features, NoDefenceIsWrittenThatIsNotAskedFor) {
    apply_defences({.barrier_on_switch = true}, true);
    for (char const* const place :
         {clac_site, stac_site, fill_return_stack_site, clear_buffers_site,
          __x86_indirect_thunk_r11, return_by_sysret, return_by_iret})
        EXPECT_TRUE(is_untouched(place));
    EXPECT_TRUE(state().cr4 & cr4::pge);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 0u);
    EXPECT_EQ(state().msrs[msr::efer], 0u);
}

TEST_F(Features, BranchesAreRestrictedAsTheVendorHasIt) {
    say_vendor("GenuineIntel");
    apply_defences({.restricted_branches = true}, false);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 1u);
    apply_defences({.restricted_branches = true, .restricted_history = true}, false);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 1u | 1u << 10);
    EXPECT_EQ(state().msrs[msr::efer], 0u);
    state() = {};
    state().msrs[msr::efer] = 0xd01;
    say_vendor("AuthenticAMD");
    apply_defences({.restricted_branches = true}, false);
    EXPECT_EQ(state().msrs[msr::efer], 0xd01u | 1u << 21);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 0u);
    apply_defences({.whole_vector_registers = true}, false);
    EXPECT_EQ(state().msrs[msr::amd_de_cfg], 1u << 9);
    state() = {};
    say_vendor("CentaurHauls");
    apply_defences({.restricted_branches = true}, false);
    EXPECT_EQ(state().msrs[msr::efer], 0u);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 1u);
}

TEST_F(Features, WhatAGuestAsksForIsAddedToHearthsOwn) {
    say_vendor("GenuineIntel");
    apply_defences({.restricted_branches = true}, true);
    constexpr uint64_t ssbd = 4;
    set_speculation_control(ssbd);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 1u | ssbd);
    state().msrs[msr::spec_ctrl] = 0x1234;
    set_speculation_control(ssbd);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 0x1234u) << "it is not written in vain";
    set_speculation_control(0);
    EXPECT_EQ(state().msrs[msr::spec_ctrl], 1u);
}

TEST_F(Features, PredictionsAreForgottenBetweenDomains) {
    unsigned const fills = host::return_stack_fills;
    forget_predictions();
    EXPECT_EQ(state().msrs[msr::pred_cmd], 0u);
    EXPECT_EQ(host::return_stack_fills, fills);
    apply_defences({.barrier_on_switch = true}, true);
    forget_predictions();
    EXPECT_EQ(state().msrs[msr::pred_cmd], 1u);
    EXPECT_EQ(host::return_stack_fills, fills + 1);
    // And so it is when guests take turns.
    Guest first, second;
    for (Guest* const guest : {&first, &second, &first}) {
        unsigned const cpu = guest->vcpu().cpu();
        host::cpu_state(cpu).msrs[msr::pred_cmd] = 0;
        (void)guest->hypercall(abi::Hypercall::xen_version);
        if (first.vcpu().cpu() == second.vcpu().cpu())
            EXPECT_EQ(host::cpu_state(cpu).msrs[msr::pred_cmd], 1u);
    }
}

} // namespace
} // namespace hearth::test
