// Making PV domains and their vCPUs.
#pragma once

#include "pv/vcpu.h"

namespace hearth::pv {

/// A domain with `vcpus` vCPUs that do not run yet, a shared info page, event channels and grant
/// tables.
Result<Domain*> create_domain(DomainId id, unsigned vcpus, bool hardware);
/// Lets a prepared vCPU run: its registers say where.
void finish_vcpu(PvVcpu& vcpu);
/// The registers of a guest's first instruction.
void set_start_registers(PvVcpu& vcpu, uint64_t entry, uint64_t stack, uint64_t start_info);

} // namespace hearth::pv
