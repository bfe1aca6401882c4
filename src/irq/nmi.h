// Non-maskable interrupts: what they are about, and who hears of them.
//
// They come at any instruction, also with locks held. So a handler takes no lock and prints
// nothing, unless it ends the machine.
#pragma once

#include "arch/registers.h"

#include <cstdint>

namespace hearth {

/// What to do about one that hardware sends.
enum class NmiAction : uint8_t { to_dom0, ignore, fatal };
void set_nmi_action(NmiAction action);

/// Why one came, as the ABI tells Domain 0. (public/nmi.h, XEN_NMIREASON_*)
namespace nmi_reason {
inline constexpr uint32_t io_check = 1, system_error = 2, unknown = 4;
} // namespace nmi_reason
/// For Domain 0's sake: called later, on the same CPU, as any interrupt handler is.
void set_nmi_listener(void (*listener)(uint32_t reasons));
/// The handler of the interrupt that "later" is.
void nmi_interrupt();

/// The watchdog takes those that nobody else has sent; on every CPU.
void set_nmi_watchdog(void (*tick)(Registers const& frame));

} // namespace hearth
