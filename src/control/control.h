// Hypercalls that do not depend on how a guest is virtualised.
#pragma once

#include "domain/domain.h"

#include <string_view>

namespace hearth {

Result<int64_t> do_xen_version(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_memory_op(Context& context, uint32_t command, uint64_t argument);
/// Part of memory_op: frames that Hearth shares with another domain, for a toolstack to map.
Result<int64_t> acquire_resource(Context& context, uint64_t argument);
Result<int64_t> do_sched_op(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_set_timer_op(Context& context, uint64_t timeout);
Result<int64_t> do_vcpu_op(Context& context, uint32_t command, uint32_t vcpu, uint64_t argument);
Result<int64_t> do_console_io(Context& context, uint32_t command, uint32_t count, uint64_t buffer);
Result<int64_t> do_physdev_op(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_platform_op(Context& context, uint64_t argument);
Result<int64_t> do_mca(Context& context, uint64_t argument);
Result<int64_t> do_domctl(Context& context, uint64_t argument);
Result<int64_t> do_sysctl(Context& context, uint64_t argument);

/// Until so much can be written to the console without waiting for its ports; others run meanwhile.
/// A port that takes nothing any more is not waited for.
void wait_for_console(size_t size);

/// Facts from start-up that guests may ask for.
struct MachineFacts {
    std::string_view command_line;
    uint16_t pm1a_control = 0, pm1b_control = 0;
    unsigned cpu_count = 0;
    bool has_io_apics = false;
};
void set_machine_facts(MachineFacts const& facts);
MachineFacts const& machine_facts();

/// The firmware's memory map, as Domain 0 asks for it.
void add_machine_memory(uint64_t start, uint64_t size, uint32_t type);

/// Whether a domain may bind a physical interrupt that Domain 0 has mapped. inval: no such number;
/// perm: it has not; opnotsupp, nomem.
Result<> permit_mapped_pirq(Domain& domain, uint32_t pirq, bool allow);

} // namespace hearth
