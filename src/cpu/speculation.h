// Which defences against speculative execution a processor needs. Pure functions: what it says of
// itself goes in, decisions come out.
//
// Sources: Intel, "Speculative Execution Side Channel Mitigations" and the list of affected
// processors; AMD, "Software Techniques for Managing Speculation" and the bulletins named below.
#pragma once

#include "base/format.h"

#include <cstdint>
#include <optional>

namespace hearth {

enum class Vendor : uint8_t { intel, amd, hygon, other };

/// Words of CPUID, and of IA32_ARCH_CAPABILITIES (0 where there is none).
struct ProcessorFacts {
    Vendor vendor = Vendor::other;
    uint32_t signature = 0;  // leaf 1, eax
    uint32_t leaf_7_ebx = 0; // subleaf 0
    uint32_t leaf_7_edx = 0;
    uint32_t leaf_7_2_edx = 0;    // subleaf 2
    uint32_t extended_8_ebx = 0;  // 0x80000008
    uint32_t extended_21_eax = 0; // 0x80000021
    uint32_t extended_21_ecx = 0;
    uint64_t arch_capabilities = 0;

    [[nodiscard]] unsigned family() const;
    [[nodiscard]] unsigned model() const;
};

/// What Hearth does about it.
struct Defences {
    bool restricted_branches = false; ///< SPEC_CTRL.IBRS or EFER.AIBRSE, set for good
    bool restricted_history = false;  ///< SPEC_CTRL.BHI_DIS_S, set for good
    bool retpolines = false;          ///< no indirect branch is predicted
    bool fill_return_stack = false;   ///< at every entry from a guest
    bool barrier_on_switch = false;   ///< IBPB, and a filled return stack, between domains
    bool clear_buffers = false;       ///< VERW on every way to a guest
    bool isolation = false;           ///< guests run with nearly nothing of Hearth's mapped (XPTI)
    /// Absent entries of page tables name no memory (L1TF): guests', and Domain 0's.
    bool absent_entries = false, absent_entries_of_domain0 = false;
    bool whole_vector_registers = false; ///< DE_CFG[9]: none is renamed in part (Zenbleed)
    bool operator==(Defences const&) const = default;
};
Defences defences_of(ProcessorFacts const& facts);

/// What guests can do all the same, since Hearth, or the microcode, has nothing against it.
struct Exposure {
    bool meltdown = false;          ///< read all that is mapped, since all is
    bool l1_terminal_fault = false; ///< read what is in the first-level cache, by absent entries
    bool buffers = false;           ///< MDS and its kin, without a VERW that clears
    bool branch_types = false;      ///< Retbleed: returns that are predicted as other branches
    bool trained_returns = false;   ///< Inception: returns that a guest has trained
    bool vector_registers = false;  ///< Zenbleed: read what was in the upper half of one
    bool gathers = false;           ///< Downfall: read vector registers, by older microcode
    bool quotients = false;         ///< of the last division (Zen 1)
    bool no_barrier = false;        ///< train branches for another guest, by microcode without IBPB
    bool operator==(Exposure const&) const = default;
    [[nodiscard]] bool any() const { return *this != Exposure{}; }
};
Exposure exposure_of(ProcessorFacts const& facts, Defences const& defences);

/// What the command line asks for instead; unset: as the processor needs.
struct DefenceChoice {
    std::optional<bool> all{}, retpolines{}, fill_return_stack{}, clear_buffers{},
        barrier_on_switch{}, isolation{}, absent_entries{}, absent_entries_of_domain0{};
};
/// A defence that the processor has no means for stays off, whatever is asked.
Defences chosen_defences(ProcessorFacts const& facts, DefenceChoice const& choice);

/// For the log: " retpolines verw ...", or " none".
void describe(TextSink& sink, Defences const& defences);
void describe(TextSink& sink, Exposure const& exposure);

} // namespace hearth
