// Making PV domains and their vCPUs.
#pragma once

#include "pv/vcpu.h"

namespace hearth::pv {

struct DomainLimits {
    uint32_t vcpus = 1;
    uint32_t grant_frames = 64;
};
/// A domain without vCPUs, with a shared info page, event channels and grant tables, in the table
/// of domains. exist, nomem.
Result<Domain*> create_domain(DomainId id, bool hardware, DomainLimits const& limits);
/// Its vCPUs, up to the limit; none of them runs yet. nomem: those that there was memory for exist.
Result<> create_vcpus(Domain& domain);
/// Lets a prepared vCPU run: its registers say where.
void finish_vcpu(PvVcpu& vcpu);
/// The registers of a guest's first instruction.
void set_start_registers(PvVcpu& vcpu, uint64_t entry, uint64_t stack, uint64_t start_info);

} // namespace hearth::pv
