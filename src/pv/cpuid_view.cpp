#include "pv/cpuid_view.h"

#include "arch/fpu.h"
#include "arch/intrinsics.h"
#include "time/clock.h"

namespace hearth::pv {
namespace {

class MachineCpuid final : public HostCpuid {
public:
    [[nodiscard]] CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const override {
        arch::CpuidLeaf const r = arch::cpuid(leaf, subleaf);
        return {r.eax, r.ebx, r.ecx, r.edx};
    }
};
constinit MachineCpuid const machine;

} // namespace

HostCpuid const& machine_cpuid() { return machine; }

PvPolicyInputs policy_of(Domain const* domain) {
    PvPolicyInputs inputs{
        // PV kernels look here before they could have set CR4.OSXSAVE: for them it says that Hearth
        // has.
        .os_xsave = arch::fpu_features() != 0,
        .time = {.host_reliable = true,
                 .guest_khz = tsc_kilohertz(),
                 .multiplier = tsc_scale().multiplier,
                 .shift = static_cast<uint32_t>(static_cast<int32_t>(tsc_scale().shift)),
                 .host_khz = tsc_kilohertz()}};
    inputs.features.xstate_supported = arch::fpu_features();
    if (domain) {
        inputs.is_hardware_domain = domain->hardware;
        inputs.features.invariant_tsc = domain->hardware || domain->settings.invariant_tsc;
        inputs.features.allowed = domain->settings.allowed_features;
    }
    return inputs;
}

} // namespace hearth::pv
