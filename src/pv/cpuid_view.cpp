#include "pv/cpuid_view.h"

#include "arch/fpu.h"
#include "arch/intrinsics.h"
#include "cpu/features.h"
#include "memory/page.h"
#include "time/clock.h"

#include <bit>

namespace hearth::pv {
namespace {

class MachineCpuid final : public HostCpuid {
public:
    [[nodiscard]] CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const override {
        arch::CpuidLeaf const r = arch::cpuid(leaf, subleaf);
        return {r.eax, r.ebx, r.ecx, r.edx};
    }
    [[nodiscard]] uint32_t address_width() const override {
        return static_cast<uint32_t>(std::bit_width(frame_limit().raw() - 1)) + page_shift;
    }
    [[nodiscard]] HostTsc tsc() const override {
        return {tsc_kilohertz(), tsc_scale().multiplier, tsc_scale().shift};
    }
};
constinit MachineCpuid const machine;

} // namespace

HostCpuid const& machine_cpuid() { return machine; }

PvPolicyInputs policy_of(Domain const* domain) {
    PvPolicyInputs inputs;
    inputs.features.xstate_supported = arch::fpu_features();
    inputs.features.fsgsbase = control_left_to_guests() & arch::cr4::fsgsbase;
    if (domain) {
        inputs.is_hardware_domain = domain->hardware;
        inputs.features.invariant_tsc = domain->hardware || domain->settings.invariant_tsc;
        inputs.features.allowed = domain->settings.allowed_features;
    }
    return inputs;
}
PvPolicyInputs policy_of(PvVcpu const& v) {
    PvPolicyInputs inputs = policy_of(&v.domain);
    inputs.vcpu_id = v.id;
    inputs.xcr0 = v.xcr0;
    return inputs;
}

} // namespace hearth::pv
