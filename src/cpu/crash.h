// What Hearth does when it finds that it cannot go on.
#pragma once

#include "arch/registers.h"
#include "console/log.h"

#include <string_view>

namespace hearth {

/// Prints the frame, a stack trace and what each CPU was running; then stops or reboots as told.
/// Never returns.
[[noreturn]] void crash_report(Registers const& frame, std::string_view reason);
/// Whether a CPU reports a crash; the others stop when they hear of it.
bool crash_in_progress();
/// Returns on the CPU that reports.
void stop_for_crash();
/// Owned by irq/.
void handle_nmi(Registers& frame);
void set_reboot_on_panic(bool reboot);
void print_registers(LogSource source, Registers const& frame);
/// The end of Domain 0 is the end of the machine: reboots, or stops where told not to.
[[noreturn]] void leave_machine_after_crash();
/// `automatic`: each of them in turn. `none`: stops instead.
enum class ResetMethod : uint8_t { automatic, keyboard, acpi, pci, triple_fault, none };
void set_reset_method(ResetMethod method);
/// Resets the machine, by the method that was set, or by all means known should it not work.
[[noreturn]] void reset_machine();
/// The FADT's reset register, if it has one: an I/O port and the value.
void set_reset_register(uint16_t port, uint8_t value);
/// Describes what a CPU is running, for the report; owned by sched/.
std::string_view describe_running(unsigned cpu);

} // namespace hearth
