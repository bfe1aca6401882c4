// Turns on what the CPU has and Hearth uses.
#pragma once

#include "cpu/speculation.h"

#include <cstdint>
#include <string_view>

namespace hearth {

/// What the processor says of itself.
ProcessorFacts processor_facts();
/// On each CPU, early. The first patches the code, for all.
void apply_defences(Defences const& defences, bool first_cpu);
/// Whether such domains' tables must name no memory in absent entries.
bool absent_entries_matter(bool domain0);
/// What a vCPU has written to SPEC_CTRL: in force on this CPU, beside what Hearth has there, until
/// the next is said. Only where processors have the register.
void set_speculation_control(uint64_t of_guest);
/// Bits of CR4 that each vCPU decides on for itself: TSD, and FSGSBASE where it is in use.
uint64_t control_left_to_guests();
/// What a vCPU has of these: in force on this CPU until the next is said.
void set_guest_control(uint64_t of_guest);
/// Between two domains on this CPU: what the one taught its predictors is forgotten.
void forget_predictions();

struct FeatureSwitches {
    uint64_t pat = 0; // what guests rely on page attributes to mean
    bool smep = true, smap = true, pcid = true, fsgsbase = true, xsave = true;
};
/// On each CPU, early. The first patches the entry paths for SMAP.
void enable_cpu_features(FeatureSwitches const& switches, bool first_cpu);
/// What is in use, for the log.
std::string_view enabled_features();
bool has_tsc_deadline();

} // namespace hearth
