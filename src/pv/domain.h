// Making PV domains and their vCPUs.
#pragma once

#include "domain/guest_mode.h"
#include "pv/vcpu.h"

namespace hearth::pv {

/// A domain without vCPUs, with a shared info page, event channels and grant tables, in the table
/// of domains. exist, nomem.
Result<Domain*> create_domain(DomainId id, bool hardware, GuestLimits const& limits);
/// Lets a prepared vCPU run: its registers say where.
void finish_vcpu(PvVcpu& vcpu);
/// Fills a page with the entry points of the hypercalls.
void write_hypercall_stubs(std::byte* page);
/// The registers of a guest's first instruction.
void set_start_registers(PvVcpu& vcpu, uint64_t entry, uint64_t stack, uint64_t start_info);

} // namespace hearth::pv
