// The processor as PV guests see it, on this machine.
#pragma once

#include "cpuid/pv_cpuid.h"
#include "pv/vcpu.h"

namespace hearth::pv {

/// What the processor itself says.
HostCpuid const& machine_cpuid();
/// What every vCPU of a domain sees alike; for none in particular: a new guest's.
PvPolicyInputs policy_of(Domain const* domain);
PvPolicyInputs policy_of(PvVcpu const& vcpu);

} // namespace hearth::pv
