// What Hearth does when it finds that it cannot go on.
#pragma once

#include "arch/registers.h"

#include <string_view>

namespace hearth {

/// Prints the frame, a stack trace and what each CPU was running; then stops or reboots as told.
/// Never returns.
[[noreturn]] void crash_report(Registers const& frame, std::string_view reason);
void handle_nmi(Registers& frame);
void set_reboot_on_panic(bool reboot);
void print_registers(Registers const& frame);
/// The end of Domain 0 is the end of the machine: reboots, or stops where told not to.
[[noreturn]] void leave_machine_after_crash();
/// Resets the machine, by all means known.
[[noreturn]] void reset_machine();
/// The FADT's reset register, if it has one: an I/O port and the value.
void set_reset_register(uint16_t port, uint8_t value);
/// Describes what a CPU is running, for the report; owned by sched/.
std::string_view describe_running(unsigned cpu);

} // namespace hearth
