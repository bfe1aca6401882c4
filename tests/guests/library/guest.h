// A kernel library for test guests. What does not depend on the kind of guest is here, in report.h,
// events.h and grants.h; what does, below pv/.
//
// A guest runs as Domain 0 in seconds, or beside it, given to xl. It prints "GUEST name: ok" or
// "GUEST name: FAILED" and powers off.
#pragma once

#include "abi/operations.h"
#include "abi/xen.h"
#include "library/hypercall.h"
#include "library/pv/tables.h"
#include "library/pv/traps.h"
#include "library/report.h"

#include <initializer_list>

namespace guest {

extern hearth::abi::StartInfo* start_info;
/// Mapped before guest_main() begins, every event masked.
extern hearth::abi::SharedInfo volatile* shared;

bool is_domain_0();
/// Not another hypervisor, where one looks how that one answers.
bool on_hearth();
/// Whether the command line has the word.
bool command_line_has(char const* word);
/// What it says behind "name=", in decimal.
uint64_t command_line_number(char const* name, uint64_t otherwise);

/// Pages of our own, zeroed, mapped writable.
void* page();

uint64_t read_tsc();
/// System time in nanoseconds. (public/xen.h)
uint64_t now();
inline constexpr uint64_t millisecond = 1'000'000;
/// Lets the other vCPUs run.
void yield();
/// In system time; events end it no sooner. The hypervisor is asked even if it has passed.
void sleep_until(uint64_t deadline);

[[noreturn]] void finish();
/// Until the toolstack ends it.
[[noreturn]] void sleep_for_ever();

} // namespace guest

/// Each guest's own part.
extern char const guest_name[];
void guest_main();
