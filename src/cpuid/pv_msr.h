// Model-specific registers as a PV guest sees them. Default: #GP, which guests probe for.
#pragma once

#include "cpuid/pv_cpuid.h"

namespace hearth {

struct MsrRead {
    enum class Kind : uint8_t {
        fault, // #GP(0)
        value, // `value`
        host,  // (the machine's register & `mask`) | `value`; read it so that a #GP there becomes
               // the guest's
        vcpu,  // the caller keeps it: segment bases, TSC_AUX, SPEC_CTRL
        tsc,   // the guest's time stamp counter
    };
    Kind kind = Kind::fault;
    uint64_t value = 0;
    uint64_t mask = 0;
};

struct MsrWrite {
    enum class Kind : uint8_t {
        fault,
        ignore,
        vcpu, // valid: the caller stores it, or for PRED_CMD performs it
    };
    Kind kind = Kind::fault;
};

/// PAT as PV guests rely on it being programmed: WB WT UC- UC WC WP UC UC (the ABI's meaning of PTE
/// cache attributes). The machine's PAT must hold the same.
inline constexpr uint64_t pv_pat = 0x0000050100070406;

MsrRead pv_read_msr(uint32_t index, HostCpuid const& host, PvPolicyInputs const& inputs);
MsrWrite pv_write_msr(uint32_t index, uint64_t value, HostCpuid const& host,
                      PvPolicyInputs const& inputs);

} // namespace hearth
