// The operations of domctl, by what they are about. Each works on a domain whose `control` is held,
// except where said.
#pragma once

#include "abi/domctl.h"
#include "domain/domain.h"

namespace hearth {

/// Whether the argument goes back to the caller, with what the operation filled in; there are
/// errors that it explains.
enum class Answer : uint8_t { none, argument, argument_and_inval, argument_and_nobufs };

// Lifetime (domctl_domain.cpp).
Result<> create_domain(abi::Domctl& op);
/// Not oneself, nor the hardware domain.
bool may_destroy(Context const& c, Domain const& d);
Result<Answer> destroy_by_toolstack(Context& c, Domain& d);
Result<Answer> pause_by_toolstack(Domain& d);
Result<Answer> unpause_by_toolstack(Domain& d);
Result<Answer> resume_domain(Domain& d);
Result<Answer> create_vcpus(Domain& d, abi::Domctl const& op);
Result<Answer> set_max_memory(Domain& d, abi::Domctl const& op);
Result<Answer> set_handle(Domain& d, abi::Domctl const& op);
Result<Answer> set_time_offset(Domain& d, abi::Domctl const& op);
Result<Answer> set_tsc_info(Domain& d, abi::Domctl const& op);
Result<Answer> get_tsc_info(Domain& d, abi::Domctl& op);
Result<Answer> set_debugging(Domain& d, abi::Domctl const& op);
Result<Answer> set_virq_handler(Domain& d, abi::Domctl const& op);
Result<Answer> subscribe(Domain& d, abi::Domctl const& op);
Result<Answer> set_node_affinity(Domain& d, abi::Domctl const& op);
Result<Answer> get_node_affinity(Domain& d, abi::Domctl const& op);
/// Needs no lock.
abi::DomctlInfo describe_domain(Domain& d);

// vCPUs (domctl_vcpu.cpp).
Result<Answer> set_vcpu_context(Domain& d, abi::Domctl const& op);
Result<Answer> get_vcpu_context(Domain& d, abi::Domctl const& op);
Result<Answer> get_vcpu_info(Domain& d, abi::Domctl& op);
Result<Answer> set_vcpu_affinity(Domain& d, abi::Domctl& op);
Result<Answer> get_vcpu_affinity(Domain& d, abi::Domctl& op);
/// Its weight, cap and CPU pool hold for its vCPUs from now on.
void apply_scheduling(Domain& d);
Result<Answer> scheduler_parameters(Domain& d, abi::Domctl& op);
Result<Answer> send_trigger(Domain& d, abi::Domctl const& op);
Result<Answer> set_extended_context(Context& c, Domain& d, abi::Domctl const& op);
Result<Answer> get_extended_context(Context& c, Domain& d, abi::Domctl& op);
Result<Answer> set_extended_state(Context& c, Domain& d, abi::Domctl const& op);
Result<Answer> get_extended_state(Context& c, Domain& d, abi::Domctl& op);
Result<Answer> set_vcpu_msrs(Context& c, Domain& d, abi::Domctl& op);
Result<Answer> get_vcpu_msrs(Context& c, Domain& d, abi::Domctl& op);

// Memory (domctl_memory.cpp).
Result<Answer> page_types(Domain& d, abi::Domctl const& op);
Result<Answer> write_hypercall_page(Domain& d, abi::Domctl const& op);
Result<Answer> set_address_size(Domain& d, abi::Domctl const& op);
Result<Answer> get_address_size(Domain& d, abi::Domctl& op);

// The frames that it writes to (domctl_dirty_log.cpp).
Result<Answer> dirty_log_operation(Context& c, Domain& d, abi::Domctl& op);

// What it may use of the machine (domctl_device.cpp).
Result<Answer> permit_io_ports(Domain& d, abi::Domctl const& op);
Result<Answer> permit_device_memory(Domain& d, abi::Domctl const& op);
Result<Answer> permit_interrupt(Domain& d, abi::Domctl const& op);
/// That another domain works for it: not for PV guests.
Result<Answer> set_target(Context& c, Domain& d, abi::Domctl const& op);

// What it sees of the processor (cpu_policy.cpp).
Result<Answer> get_cpu_policy(Domain& d, abi::Domctl& op);
Result<Answer> set_cpu_policy(Domain& d, abi::Domctl& op);

} // namespace hearth
