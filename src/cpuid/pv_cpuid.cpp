#include "cpuid/pv_cpuid.h"

#include "base/bits.h"

#include <algorithm>

namespace hearth {
namespace {

constexpr uint32_t last_basic_leaf = 0xd;
constexpr uint32_t extended_base = 0x80000000;
constexpr uint32_t last_extended_leaf_intel = 0x80000008;
constexpr uint32_t last_extended_leaf_amd = 0x80000021;
constexpr uint32_t last_xen_leaf = xen_cpuid_base + 5;
constexpr uint32_t last_leaf_7_subleaf = 2;

constexpr uint32_t feature_xsave = 1u << 26;
constexpr uint32_t feature_os_xsave = 1u << 27;
constexpr uint32_t feature_hypervisor = 1u << 31;
constexpr uint32_t feature_avx = 1u << 28;
constexpr uint32_t feature_avx512f = 1u << 16;
constexpr uint32_t feature_xsavec = 1u << 1;
constexpr uint32_t feature_rdtscp = 1u << 27;
constexpr uint32_t not_vulnerable_to_tsa = 1u << 1 | 1u << 2; // TSA_SQ_NO, TSA_L1_NO

constexpr uint32_t legacy_xsave_size = 576; // FXSAVE area and XSAVE header
constexpr uint64_t state_x87 = 1u << 0;
constexpr uint64_t state_sse = 1u << 1;
constexpr uint64_t state_avx = 1u << 2;
constexpr uint64_t state_avx512 = 0xe0;

/// One question about one machine and guest.
class PvView {
    HostCpuid const& host_;
    PvPolicyInputs const& inputs_;

    uint32_t features(FeatureWord word) const { return pv_features(host_, inputs_.features, word); }
    bool is_amd() const { return vendor_of(host_) == CpuVendor::amd_like; }

    CpuidResult features_1() const;
    CpuidResult features_7(uint32_t subleaf) const;
    CpuidResult extended_state(uint32_t subleaf) const;
    uint32_t standard_size(uint64_t components) const;
    uint32_t compacted_size(uint64_t components) const;

public:
    PvView(HostCpuid const& host, PvPolicyInputs const& inputs) : host_{host}, inputs_{inputs} {}
    CpuidResult basic(uint32_t leaf, uint32_t subleaf) const;
    CpuidResult xen(uint32_t leaf, uint32_t subleaf) const;
    CpuidResult extended(uint32_t leaf) const;
};

CpuidResult PvView::features_1() const {
    CpuidResult const raw = host_.leaf(1, 0);
    uint32_t ecx = features(FeatureWord::leaf_1_ecx) | feature_hypervisor;
    // PV kernels look here before they could have set CR4.OSXSAVE: it says that Hearth has.
    if ((ecx & feature_xsave) != 0)
        ecx |= feature_os_xsave;
    // APIC id 0: as Xen 4.17 shows it on every vCPU of Domain 0.
    return {raw.eax, raw.ebx & 0x00ffffff, ecx, features(FeatureWord::leaf_1_edx)};
}

CpuidResult PvView::features_7(uint32_t subleaf) const {
    uint32_t const last = std::min(host_.leaf(7, 0).eax, last_leaf_7_subleaf);
    if (subleaf > last)
        return {};
    if (subleaf == 0)
        return {last, features(FeatureWord::leaf_7_ebx), features(FeatureWord::leaf_7_ecx),
                features(FeatureWord::leaf_7_edx)};
    if (subleaf == 1)
        return {features(FeatureWord::leaf_7_1_eax), features(FeatureWord::leaf_7_1_ebx),
                features(FeatureWord::leaf_7_1_ecx), features(FeatureWord::leaf_7_1_edx)};
    return {0, 0, 0, features(FeatureWord::leaf_7_2_edx)};
}

/// Bytes of an XSAVE area in standard form: up to the end of the last component.
uint32_t PvView::standard_size(uint64_t components) const {
    uint32_t size = legacy_xsave_size;
    for (uint32_t n = 2; n < 63; ++n) {
        if ((components & bit(n)) == 0)
            continue;
        CpuidResult const component = host_.leaf(0xd, n);
        size = std::max(size, component.ebx + component.eax);
    }
    return size;
}

/// SDM volume 1, 13.4.3.
uint32_t PvView::compacted_size(uint64_t components) const {
    uint32_t size = legacy_xsave_size;
    for (uint32_t n = 2; n < 63; ++n) {
        if ((components & bit(n)) == 0)
            continue;
        CpuidResult const component = host_.leaf(0xd, n);
        if ((component.ecx & 2) != 0)
            size = (size + 63) & ~uint32_t{63};
        size += component.eax;
    }
    return size;
}

CpuidResult PvView::extended_state(uint32_t subleaf) const {
    uint64_t const allowed = pv_xcr0_allowed(host_, inputs_.features);
    if (allowed == 0 || subleaf > 62)
        return {};
    uint64_t const enabled = inputs_.xcr0 & allowed;
    if (subleaf == 0)
        return {static_cast<uint32_t>(allowed), standard_size(enabled), standard_size(allowed),
                static_cast<uint32_t>(allowed >> 32)};
    if (subleaf == 1) {
        uint32_t const instructions = features(FeatureWord::leaf_d_1_eax);
        bool const compacts = (instructions & feature_xsavec) != 0;
        return {instructions, compacts ? compacted_size(enabled) : 0, 0, 0};
    }
    if ((allowed & bit(subleaf)) == 0)
        return {};
    CpuidResult const raw = host_.leaf(0xd, subleaf);
    return {raw.eax, raw.ebx, raw.ecx & 2, 0};
}

CpuidResult PvView::basic(uint32_t leaf, uint32_t subleaf) const {
    CpuidResult const first = host_.leaf(0, 0);
    uint32_t const last = std::min(first.eax, last_basic_leaf);
    if (leaf > last)
        return {};
    switch (leaf) {
    case 0:
        return {last, first.ebx, first.ecx, first.edx};
    case 1:
        return features_1();
    case 2: // Intel's cache descriptors
        return host_.leaf(leaf, 0);
    case 4: // Intel's caches
        return host_.leaf(leaf, subleaf);
    case 7:
        return features_7(subleaf);
    case 0xd:
        return extended_state(subleaf);
    default:
        // Serial number, MONITOR, thermal, performance counters, x2APIC topology.
        return {};
    }
}

CpuidResult PvView::xen(uint32_t leaf, uint32_t subleaf) const {
    switch (leaf - xen_cpuid_base) {
    case 0: // "XenVMMXenVMM"
        return {last_xen_leaf, 0x566e6558, 0x65584d4d, 0x4d4d566e};
    case 1: // version 4.17
        return {0x00040011, 0, 0, 0};
    case 2: // one hypercall page, base of Xen's MSRs, MMU_PT_UPDATE_PRESERVE_AD
        return {1, 0x40000000, 1, 0};
    case 3:
        if (subleaf == 0) {
            bool const rdtscp = (features(FeatureWord::extended_1_edx) & feature_rdtscp) != 0;
            constexpr uint32_t reliable = 2; // and not emulated
            return {reliable | (rdtscp ? 4u : 0u), 0, host_.tsc().khz, 0};
        }
        if (subleaf == 1)
            return {0, 0, host_.tsc().multiplier, static_cast<uint32_t>(host_.tsc().shift)};
        return subleaf == 2 ? CpuidResult{host_.tsc().khz, 0, 0, 0} : CpuidResult{};
    case 5:
        return subleaf == 0 ? CpuidResult{0, host_.address_width(), 0, 0} : CpuidResult{};
    default: // 4 is for HVM guests
        return {};
    }
}

CpuidResult PvView::extended(uint32_t leaf) const {
    CpuidResult const first = host_.leaf(extended_base, 0);
    if (first.eax < extended_base)
        return {};
    bool const amd = is_amd();
    uint32_t const last =
        std::min(first.eax, amd ? last_extended_leaf_amd : last_extended_leaf_intel);
    if (leaf > last)
        return {};
    CpuidResult const raw = host_.leaf(leaf, 0);
    switch (leaf) {
    case 0x80000000:
        return amd ? CpuidResult{last, raw.ebx, raw.ecx, raw.edx} : CpuidResult{last, 0, 0, 0};
    case 0x80000001:
        return {amd ? raw.eax : 0, 0, features(FeatureWord::extended_1_ecx),
                features(FeatureWord::extended_1_edx)};
    case 0x80000002: // the processor's name
    case 0x80000003:
    case 0x80000004:
        return raw;
    case 0x80000005: // AMD's first-level caches and TLBs
        return amd ? raw : CpuidResult{};
    case 0x80000006:
        return amd ? raw : CpuidResult{0, 0, raw.ecx, 0};
    case 0x80000007:
        return {0, 0, 0, features(FeatureWord::extended_7_edx)};
    case 0x80000008: {
        uint32_t const linear_bits = std::min((raw.eax >> 8) & 0xff, 48u); // four levels of tables
        return {(raw.eax & 0xff) | (linear_bits << 8), features(FeatureWord::extended_8_ebx),
                amd ? raw.ecx : 0, 0};
    }
    case 0x80000019: // TLBs for 1 GiB pages
    case 0x8000001a: // performance hints
        return raw;
    case 0x80000021:
        return {features(FeatureWord::extended_21_eax), 0, raw.ecx & not_vulnerable_to_tsa, 0};
    default:
        // SVM, IBS, LWP, topology, memory encryption.
        return {};
    }
}

} // namespace

uint64_t pv_xcr0_allowed(HostCpuid const& host, FeatureInputs const& inputs) {
    if ((pv_features(host, inputs, FeatureWord::leaf_1_ecx) & feature_xsave) == 0)
        return 0;
    uint64_t allowed = state_x87 | state_sse;
    if ((pv_features(host, inputs, FeatureWord::leaf_1_ecx) & feature_avx) != 0)
        allowed |= state_avx;
    if ((pv_features(host, inputs, FeatureWord::leaf_7_ebx) & feature_avx512f) != 0)
        allowed |= state_avx512;
    return allowed;
}

bool pv_xcr0_valid(uint64_t value, HostCpuid const& host, FeatureInputs const& inputs) {
    if ((value & ~pv_xcr0_allowed(host, inputs)) != 0 || (value & state_x87) == 0)
        return false;
    if ((value & state_avx) != 0 && (value & state_sse) == 0)
        return false;
    uint64_t const avx512 = value & state_avx512;
    return avx512 == 0 || (avx512 == state_avx512 && (value & state_avx) != 0);
}

CpuidResult pv_cpuid(uint32_t leaf, uint32_t subleaf, HostCpuid const& host,
                     PvPolicyInputs const& inputs) {
    PvView const view{host, inputs};
    if (leaf <= last_basic_leaf)
        return view.basic(leaf, subleaf);
    if (leaf >= xen_cpuid_base && leaf <= last_xen_leaf)
        return view.xen(leaf, subleaf);
    if (leaf >= extended_base && leaf <= last_extended_leaf_amd)
        return view.extended(leaf);
    return {};
}

} // namespace hearth
