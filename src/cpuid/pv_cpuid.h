// CPUID as a PV guest sees it, through the forced-emulation prefix or a CPUID fault.
#pragma once

#include "cpuid/features.h"

namespace hearth {

struct PvPolicyInputs {
    bool is_hardware_domain = false;
    FeatureInputs features{};
    unsigned vcpu_id = 0;
    uint64_t xcr0 = 1; // the guest's
};

inline constexpr uint32_t xen_cpuid_base = 0x40000000;

/// Zeros for every leaf beyond the ends of the basic, Xen and extended ranges, and for leaves that
/// say nothing to a PV guest.
CpuidResult pv_cpuid(uint32_t leaf, uint32_t subleaf, HostCpuid const& host,
                     PvPolicyInputs const& inputs);

/// Bits of XCR0 that the guest may set.
uint64_t pv_xcr0_allowed(HostCpuid const& host, FeatureInputs const& inputs);

/// Whether xsetbv may load `value`: bits allowed, x87 on, AVX only with SSE, AVX-512 whole and with
/// AVX.
bool pv_xcr0_valid(uint64_t value, HostCpuid const& host, FeatureInputs const& inputs);

} // namespace hearth
