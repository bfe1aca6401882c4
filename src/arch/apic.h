// The local APIC, by MMIO or by MSR (x2APIC), and the vectors that Hearth keeps to itself.
#pragma once

#include "base/address.h"

#include <cstdint>

namespace hearth::arch {

inline constexpr uint8_t first_device_vector = 0x30;
inline constexpr uint8_t last_device_vector = 0xef;
inline constexpr uint8_t vector_timer = 0xf8;
inline constexpr uint8_t vector_reschedule = 0xf9;
inline constexpr uint8_t vector_flush = 0xfa;
inline constexpr uint8_t vector_nmi_noted = 0xfb;
inline constexpr uint8_t vector_error = 0xfe;
inline constexpr uint8_t vector_spurious = 0xff;

/// Where the processor has its registers. The MADT says so, too, but need not know.
PhysicalAddress apic_address();
/// Once, before apic_initialise_cpu: `registers` as mapped. True if in x2APIC mode.
bool apic_setup(void* registers, bool allow_x2apic);
/// `takes_nmi_line`: whether the chipset's NMIs are this CPU's.
void apic_initialise_cpu(bool takes_nmi_line);
uint32_t apic_id();
/// Whether interrupts can be sent to that one, in the mode that the APICs are in.
bool apic_can_reach(uint32_t id);
void apic_send(uint32_t target, uint8_t vector);
void apic_send_init(uint32_t target);
void apic_send_startup(uint32_t target, uint8_t page);
void apic_send_nmi(uint32_t target);
/// An NMI may have come in the middle of another apic_send(), which goes on as if nothing had been.
void apic_send_self_from_nmi(uint8_t vector);
void apic_end_of_interrupt();

/// The APIC timer: fires vector_timer once after `ticks` of its own clock; 0 stops it.
void apic_timer_start(uint32_t ticks);
uint32_t apic_timer_remaining();
/// TSC-deadline mode: fires when the TSC reaches `tsc`; 0 stops it.
void apic_use_tsc_deadline();
void apic_timer_deadline(uint64_t tsc);

} // namespace hearth::arch
