// Device interrupts: from a line or message to whoever is to hear of it. Hearth itself handles none
// beyond acknowledging.
//
// An interrupt has a number: below gsi_limit() the global system interrupt of an IO-APIC pin, above
// it a message-signalled interrupt handed out here. Each that is in use has a vector of its own, on
// one CPU.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstdint>
#include <span>

namespace hearth {

inline constexpr unsigned irq_limit = 256;

/// Hears of an interrupt, on the CPU that took it, interrupts off, no lock held.
using InterruptHandler = void (*)(void* argument, unsigned irq);

struct IoApicDescription {
    PhysicalAddress registers;
    uint32_t first_gsi;
};
/// Where an ISA interrupt does not arrive at the GSI of its own number, edge-triggered and active
/// high.
struct IsaOverride {
    uint8_t isa;
    uint32_t gsi;
    bool level, active_low;
};
/// Before the local APIC stops listening to them, or what they have pending is never taken back.
void irq_silence_legacy_controllers();
/// Masks every pin.
void irq_initialise(std::span<IoApicDescription const> io_apics,
                    std::span<IsaOverride const> overrides);
unsigned gsi_limit();

/// The GSI that a legacy ISA interrupt arrives at.
unsigned gsi_of_isa(unsigned isa);

struct LineMode {
    bool level;
    bool active_low;
};
/// Sets how a pin is wired. inval: no such pin. Harmless when nothing changes.
Result<> irq_set_line_mode(unsigned gsi, LineMode mode);
/// Gives the interrupt a vector and unmasks it. busy: somebody has it. nospc: out of vectors.
Result<> irq_bind(unsigned irq, InterruptHandler handler, void* argument);
void irq_unbind(unsigned irq);
/// Has a pin send NMIs to all CPUs, until it is unbound. inval: no such pin. busy.
Result<> irq_send_as_nmi(unsigned gsi);
/// A level-triggered line stays masked from its interrupt until this.
void irq_end(unsigned irq);
bool irq_needs_end(unsigned irq);
bool irq_is_bound(unsigned irq);

/// Where a message-signalled interrupt is programmed.
struct MessageSource {
    uint8_t bus, devfn;
    bool extended;  // MSI-X
    uint16_t entry; // MSI-X: of the table; MSI: which of the device's messages
};
/// A number for a device's message. nodev: no such device or capability. nospc.
Result<unsigned> irq_allocate_message(MessageSource const& source, unsigned count = 1);
/// From the first of several messages of one device on, how many they are; else 1.
unsigned irq_messages_from(unsigned number);
void irq_free_message(unsigned irq);
/// Writes a device's messages again, after it lost them (power state).
void irq_restore_messages(uint8_t bus, uint8_t devfn);

/// An IO-APIC's registers as Domain 0 may read them. inval: no such IO-APIC or register.
Result<uint32_t> io_apic_read_for_guest(uint64_t base, uint32_t reg);

/// The device vectors' handler.
void irq_dispatch(uint8_t vector);

} // namespace hearth
