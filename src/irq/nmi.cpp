#include "irq/nmi.h"

#include "arch/apic.h"
#include "arch/port_io.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"

#include <atomic>

namespace hearth {
namespace {

constinit NmiAction action = NmiAction::to_dom0;
constinit void (*listener)(uint32_t reasons) = nullptr;
constinit void (*watchdog)(Registers const& frame) = nullptr;
constinit std::atomic<uint32_t> noted{0};

/// The PC's port that says why. What has been seen is turned off, or it would come at once again.
uint32_t read_reason() {
    constexpr uint16_t port = 0x61;
    constexpr uint8_t system_error = 0x80, io_check = 0x40;
    constexpr uint8_t clear_system_error = 4, clear_io_check = 8, kept = 0xf;
    uint8_t const status = arch::in8(port);
    if (status & system_error)
        arch::out8(port, (status & kept) | clear_system_error);
    if (status & io_check)
        arch::out8(port, (status & kept) | clear_io_check);
    return (status & system_error ? nmi_reason::system_error : 0) |
           (status & io_check ? nmi_reason::io_check : 0);
}

char const* describe(uint32_t reasons) {
    if (reasons & nmi_reason::system_error)
        return "NMI: the chipset reports a system error (memory, PCI)";
    if (reasons & nmi_reason::io_check)
        return "NMI: a device reports an I/O check";
    return "NMI of unknown cause";
}

} // namespace

void set_nmi_action(NmiAction a) { action = a; }
void set_nmi_listener(void (*l)(uint32_t)) { listener = l; }
void set_nmi_watchdog(void (*tick)(Registers const&)) { watchdog = tick; }

void handle_nmi(Registers& frame) {
    if (crash_in_progress())
        return stop_for_crash();
    // The lines of the chipset lead to the first CPU; others get what Hearth itself sends.
    uint32_t reasons = this_cpu_id() == 0 ? read_reason() : 0;
    if (reasons == 0 && watchdog)
        return watchdog(frame);
    if (this_cpu_id() != 0)
        return;
    if (reasons == 0)
        reasons = nmi_reason::unknown;
    if (action == NmiAction::fatal)
        crash_report(frame, describe(reasons));
    if (action == NmiAction::to_dom0 && listener) {
        noted.fetch_or(reasons);
        arch::apic_send_self_from_nmi(arch::vector_nmi_noted);
    }
}

void nmi_interrupt() {
    if (uint32_t const reasons = noted.exchange(0); reasons != 0 && listener)
        listener(reasons);
}

} // namespace hearth
