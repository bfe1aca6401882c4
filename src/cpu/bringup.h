// Starting the other CPUs.
#pragma once

#include <cstdint>

namespace hearth {

/// Prepares the real-mode page below 1 MiB that start-up IPIs point at.
void prepare_trampoline(uint64_t physical_page);
/// Starts CPU `id`; it calls `main` on its idle stack. False if it does not answer within a second.
bool start_cpu(unsigned id, uint32_t apic_id, uint32_t acpi_id, void (*main)());

} // namespace hearth
