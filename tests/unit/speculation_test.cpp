// Which defences a processor needs.
#include "cpu/speculation.h"

#include "processors.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth::test {
namespace {

constexpr uint32_t smep = 1u << 7, rtm = 1u << 11;               // CPUID 7, ebx
constexpr uint32_t verw_clears = 1u << 10, ibrs_ibpb = 1u << 26; // edx
constexpr uint32_t haswell = 0x306c3, skylake = 0x506e3, cascade_lake = 0x50657;
constexpr uint64_t cascade_lake_capabilities = 0x2b; // RDCL_NO, IBRS_ALL, SKIP_L1DFL, MDS_NO
constexpr uint64_t no_history_injection = 1u << 20, gather_control = 1u << 25, no_gather = 1u << 26;

ProcessorFacts intel(uint32_t signature, uint64_t capabilities = 0) {
    return {.vendor = Vendor::intel,
            .signature = signature,
            .leaf_7_ebx = smep,
            .leaf_7_edx = verw_clears | ibrs_ibpb,
            .arch_capabilities = capabilities};
}
ProcessorFacts amd(uint32_t signature, uint32_t extended_8_ebx) {
    return {.vendor = Vendor::amd,
            .signature = signature,
            .leaf_7_ebx = smep,
            .extended_8_ebx = extended_8_ebx};
}
/// What the default leaves open.
Exposure open_of(ProcessorFacts const& facts) { return exposure_of(facts, defences_of(facts)); }
template <class T>
std::string names(T const& what) {
    TextBuffer<200> text;
    describe(text, what);
    return std::string{text.view()};
}

TEST(Speculation, AnOldIntelNeedsNearlyEverything) {
    EXPECT_EQ(names(defences_of(intel(skylake))),
              " retpolines return-stack IBPB VERW XPTI absent-entries");
    EXPECT_EQ(names(open_of(intel(skylake))), " Retbleed Downfall");
    EXPECT_EQ(names(open_of(intel(skylake, gather_control))), " Retbleed");
    EXPECT_EQ(names(exposure_of(intel(skylake), {})), " Meltdown L1TF MDS Retbleed Downfall");
}

TEST(Speculation, WithoutMicrocodeMuchStaysOpen) {
    ProcessorFacts facts = intel(skylake);
    facts.leaf_7_edx = 0;
    EXPECT_EQ(names(defences_of(facts)), " retpolines return-stack XPTI absent-entries");
    EXPECT_EQ(names(open_of(facts)), " MDS Retbleed Downfall Spectre-2 between guests (no IBPB)");
}

TEST(Speculation, WithoutSmepOrWhereItMustNotBeEmptyTheReturnStackIsFilled) {
    constexpr uint64_t falls_back = 1u << 2;
    ProcessorFacts facts = intel(haswell);
    EXPECT_FALSE(defences_of(facts).fill_return_stack);
    EXPECT_FALSE(open_of(facts).branch_types);
    facts.leaf_7_ebx = 0;
    EXPECT_TRUE(defences_of(facts).fill_return_stack);
    facts = intel(haswell, falls_back);
    EXPECT_TRUE(defences_of(facts).fill_return_stack && open_of(facts).branch_types);
    facts = intel(cascade_lake, cascade_lake_capabilities | falls_back);
    EXPECT_FALSE(defences_of(facts).fill_return_stack || open_of(facts).branch_types)
        << "IBRS is for returns, too";
}

TEST(Speculation, EnhancedIbrsIsNotEnoughWhereHistoryChooses) {
    ProcessorFacts facts = intel(cascade_lake, cascade_lake_capabilities);
    EXPECT_TRUE(defences_of(facts).restricted_branches);
    EXPECT_TRUE(defences_of(facts).retpolines) << "nothing else restricts the history";
    facts.leaf_7_2_edx = 1u << 4;
    EXPECT_TRUE(defences_of(facts).restricted_history);
    EXPECT_FALSE(defences_of(facts).retpolines);
    facts.arch_capabilities |= no_history_injection | no_gather;
    EXPECT_FALSE(defences_of(facts).restricted_history || defences_of(facts).retpolines);
    EXPECT_EQ(names(open_of(facts)), " none");
}

TEST(Speculation, BuffersAreClearedForWhatIsLeftOfTheReasons) {
    ProcessorFacts facts = intel(cascade_lake, cascade_lake_capabilities);
    EXPECT_FALSE(defences_of(facts).clear_buffers) << "MDS_NO";
    facts.leaf_7_ebx |= rtm;
    EXPECT_TRUE(defences_of(facts).clear_buffers) << "TAA";
    facts.arch_capabilities |= 1u << 8;
    EXPECT_FALSE(defences_of(facts).clear_buffers) << "TAA_NO";
    facts.arch_capabilities |= 1u << 17;
    EXPECT_TRUE(defences_of(facts).clear_buffers) << "FB_CLEAR: MMIO stale data";
    facts.arch_capabilities |= 7u << 13;
    EXPECT_FALSE(defences_of(facts).clear_buffers) << "SBDR_SSDP_NO, FBSDP_NO, PSDP_NO";
    facts.arch_capabilities |= 1u << 28;
    EXPECT_TRUE(defences_of(facts).clear_buffers) << "RFDS_CLEAR";
    facts.leaf_7_edx &= ~verw_clears;
    EXPECT_FALSE(defences_of(facts).clear_buffers) << "by nothing";
    EXPECT_TRUE(open_of(facts).buffers);
}

TEST(Speculation, AmdHasNoMeltdown) {
    constexpr uint32_t ibpb = 1u << 12, btc_no = 1u << 29;
    constexpr uint32_t zen1 = 0x800f12, zen2 = 0x870f10, zen3 = 0xa20f10;
    EXPECT_EQ(names(defences_of(amd(zen2, ibpb))), " retpolines IBPB whole-vector-registers");
    EXPECT_EQ(names(open_of(amd(zen2, ibpb))), " Retbleed");
    EXPECT_EQ(names(open_of(amd(zen2, ibpb | btc_no))), " none");
    EXPECT_EQ(names(exposure_of(amd(zen2, ibpb | btc_no), {})), " Zenbleed");
    EXPECT_EQ(names(open_of(amd(zen1, ibpb))), " Retbleed quotients");
    ProcessorFacts facts = amd(zen3, ibpb);
    EXPECT_EQ(names(open_of(facts)), " MDS Inception") << "TSA, its kin";
    facts.extended_21_eax = 1u << 5 | 1u << 29;
    EXPECT_EQ(names(open_of(facts)), " none");
    EXPECT_TRUE(defences_of(facts).clear_buffers);
    facts.extended_21_ecx = 3u << 1;
    EXPECT_FALSE(defences_of(facts).clear_buffers);
    facts.extended_21_eax |= 1u << 8;
    EXPECT_EQ(names(defences_of(facts)), " IBRS IBPB");
}

TEST(Speculation, WhatDoesNotSpeculateNeedsNothing) {
    constexpr uint32_t bonnell = 0x106c2, pentium = 0x543;
    EXPECT_EQ(names(defences_of(intel(bonnell))), " none");
    EXPECT_EQ(names(defences_of(intel(pentium))), " none");
    EXPECT_FALSE(open_of(intel(bonnell)).any());
}

TEST(Speculation, TheCommandLineOverrides) {
    ProcessorFacts const facts = intel(haswell);
    EXPECT_EQ(names(chosen_defences(facts, {})), " retpolines IBPB VERW XPTI absent-entries");
    EXPECT_EQ(names(chosen_defences(facts, {.all = false})), " none");
    EXPECT_EQ(names(chosen_defences(facts, {.all = false, .clear_buffers = true})), " VERW");
    EXPECT_EQ(names(chosen_defences(facts, {.retpolines = false, .fill_return_stack = true})),
              " return-stack IBPB VERW XPTI absent-entries");
    EXPECT_EQ(names(chosen_defences(facts, {.isolation = false})),
              " retpolines IBPB VERW absent-entries");
    EXPECT_EQ(names(chosen_defences(facts, {.all = false, .absent_entries_of_domain0 = true})),
              " absent-entries-of-domain-0");
    EXPECT_EQ(names(chosen_defences(amd(0x870f10, 0), {.isolation = true})),
              " retpolines XPTI whole-vector-registers")
        << "it needs no means";
    EXPECT_EQ(names(chosen_defences(amd(0x870f10, 0), {.barrier_on_switch = true})),
              " retpolines whole-vector-registers")
        << "a barrier that is not there";
}

// Real processors: what must hold for each of them, whatever it is.
TEST(Speculation, NoRealProcessorIsLeftWithoutADefenceThatItHas) {
    for (Processor const& processor : processors) {
        SCOPED_TRACE(processor.name);
        ProcessorFacts const& facts = processor.facts;
        Defences const d = defences_of(facts);
        EXPECT_TRUE(d.retpolines || d.restricted_branches);
        EXPECT_TRUE(d.barrier_on_switch || open_of(facts).no_barrier);
        EXPECT_TRUE(d.fill_return_stack || (facts.leaf_7_ebx & smep));
        EXPECT_FALSE(d.clear_buffers && open_of(facts).buffers);
        if (facts.vendor != Vendor::intel)
            EXPECT_FALSE(d.isolation || d.absent_entries);
        else if (!(facts.arch_capabilities & 1))
            EXPECT_TRUE(d.isolation);
        EXPECT_FALSE(open_of(facts).meltdown || open_of(facts).l1_terminal_fault);
    }
    EXPECT_GE(std::size(processors), 20u);
}

} // namespace
} // namespace hearth::test
