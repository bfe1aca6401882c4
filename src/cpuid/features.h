// Which processor features a PV guest may see, one word of feature bits at a time.
#pragma once

#include <cstdint>

namespace hearth {

struct CpuidResult {
    uint32_t eax = 0;
    uint32_t ebx = 0;
    uint32_t ecx = 0;
    uint32_t edx = 0;
    bool operator==(CpuidResult const&) const = default;
};

/// ns = ticks * 2^shift * multiplier / 2^32.
struct HostTsc {
    uint32_t khz, multiplier;
    int32_t shift;
};

/// CPUID of the machine, with what the hypervisor itself has disabled already cleared. Asked
/// several times for one guest leaf, so answer from a snapshot: under another hypervisor the
/// instruction costs microseconds.
class HostCpuid {
public:
    [[nodiscard]] virtual CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const = 0;
    /// Bits of the highest address of memory. With more than 44 Linux grants by the second version,
    /// by which its block front end takes grants back that the back end still has (all of 6.1).
    [[nodiscard]] virtual uint32_t address_width() const = 0;
    [[nodiscard]] virtual HostTsc tsc() const = 0;

protected:
    ~HostCpuid() = default;
};

/// Numbered as in the ABI's feature set (public/arch-x86/cpufeatureset.h,
/// XEN_SYSCTL_get_cpu_featureset).
enum class FeatureWord : uint8_t {
    leaf_1_edx,
    leaf_1_ecx,
    extended_1_edx,
    extended_1_ecx,
    leaf_d_1_eax,
    leaf_7_ebx,
    leaf_7_ecx,
    extended_7_edx,
    extended_8_ebx,
    leaf_7_edx,
    leaf_7_1_eax,
    extended_21_eax,
    leaf_7_1_ebx,
    leaf_7_2_edx,
    leaf_7_1_ecx,
    leaf_7_1_edx,
};
inline constexpr unsigned feature_words = 16;

enum class CpuVendor : uint8_t { intel_like, amd_like };
CpuVendor vendor_of(HostCpuid const& host);

/// What the guest's view depends on besides the machine.
struct FeatureInputs {
    bool invariant_tsc = false;    // the guest will not be migrated: show it if the machine has it
    uint64_t xstate_supported = 3; // XCR0 bits that the hypervisor saves and restores
    /// What the toolstack lets the guest see of each word; null: all.
    uint32_t const* allowed = nullptr;
    bool fsgsbase = true; // a guest that turns it on has it
};

/// The machine's bits of a word; zero for leaves that it does not have.
uint32_t host_features(HostCpuid const& host, FeatureWord word);

/// Those of them that a PV guest sees, without the ones that change at run time (OSXSAVE) and
/// HYPERVISOR.
uint32_t pv_features(HostCpuid const& host, FeatureInputs const& inputs, FeatureWord word);

/// Bits of IA32_ARCH_CAPABILITIES that a PV guest sees where the machine sets them.
uint64_t pv_arch_capabilities_mask();

} // namespace hearth
