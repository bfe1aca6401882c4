// CPUID as a PV guest sees it, through the forced-emulation prefix or a CPUID fault.
#pragma once

#include "cpuid/features.h"

namespace hearth {

/// Xen leaf 0x40000003 (public/arch-x86/cpuid.h).
struct PvTimeInputs {
    bool emulated = false;
    bool host_reliable = false;
    uint32_t mode = 0; // tsc_mode of the domain
    uint32_t guest_khz = 0;
    uint32_t incarnation = 0;
    uint64_t offset = 0;
    uint32_t multiplier = 0;
    uint32_t shift = 0;
    uint32_t host_khz = 0;
};

struct PvPolicyInputs {
    bool is_hardware_domain = false;
    FeatureInputs features{};
    unsigned vcpu_id = 0;
    uint8_t initial_apic_id = 0; // Xen 4.17 shows 0 on every vCPU of Domain 0
    bool os_xsave = false;       // the guest's CR4.OSXSAVE
    uint64_t xcr0 = 1;           // the guest's
    uint8_t machine_address_width = 52;
    PvTimeInputs time{};
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
