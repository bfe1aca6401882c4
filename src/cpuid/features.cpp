#include "cpuid/features.h"

#include "base/bits.h"

#include <array>

namespace hearth {
namespace {

template <class... N>
constexpr uint32_t of(N... n) {
    return static_cast<uint32_t>((uint32_t{0} | ... | (uint32_t{1} << n)));
}

// Below, what is absent from a list is hidden. The classes of what is hidden:
//  - works at CPL 0 only, or needs CR4 bits or MSRs that a PV kernel does not own: VME, PSE, PSE36,
//  PGE, MTRR,
//    SMEP, SMAP, UMIP, PCID, INVPCID, PKU, LA57, CET, XSAVES, TSC_ADJUST, 1 GiB pages (page tables
//    are the hypervisor's to validate, with 4 KiB leaves only);
//  - belongs to the platform: MONITOR, EIST, TM, ACPI throttling, DS and PDCM, topology extensions,
//  x2APIC and
//    the TSC deadline timer (there is no local APIC), IBS, LWP, OSVW, PQM, SGX, SMX, processor
//    trace;
//  - virtualisation: VMX, SVM;
//  - would need state that is not switched: MPX, AMX, data breakpoint extensions (DBEXT);
//  - unknown today.

// FPU DE TSC MSR PAE MCE CX8 APIC SEP MCA CMOV PAT CLFLUSH ACPI MMX FXSR SSE SSE2 SS HTT
constexpr uint32_t leaf_1_edx =
    of(0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 19, 22, 23, 24, 25, 26, 27, 28);
// SSE3 PCLMULQDQ SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AESNI XSAVE AVX F16C RDRAND
constexpr uint32_t leaf_1_ecx = of(0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28, 29, 30);
// SYSCALL NX MMXEXT FFXSR RDTSCP LM 3DNOWEXT 3DNOW
constexpr uint32_t extended_1_edx = of(11, 20, 22, 25, 27, 29, 30, 31);
// Bits 0-9, 12-17, 23 and 24 repeat leaf 1 on AMD (APM volume 3, E.4.2).
constexpr uint32_t extended_1_edx_repeated = 0x0183f3ff;
// LAHF_LM CMP_LEGACY ABM SSE4A MISALIGNSSE 3DNOWPREFETCH XOP FMA4 TBM
constexpr uint32_t extended_1_ecx = of(0, 1, 5, 6, 7, 8, 11, 16, 21);
// XSAVEOPT XSAVEC XGETBV1
constexpr uint32_t leaf_d_1_eax = of(0, 1, 2);
// FSGSBASE BMI1 AVX2 FDP_EXCP_ONLY BMI2 ERMS RTM NO_FPU_SEL AVX512F AVX512DQ RDSEED ADX AVX512_IFMA
// CLFLUSHOPT CLWB AVX512PF AVX512ER AVX512CD SHA AVX512BW AVX512VL
constexpr uint32_t leaf_7_ebx =
    of(0, 3, 5, 6, 8, 9, 11, 13, 16, 17, 18, 19, 21, 23, 24, 26, 27, 28, 29, 30, 31);
// PREFETCHWT1 AVX512_VBMI AVX512_VBMI2 GFNI VAES VPCLMULQDQ AVX512_VNNI AVX512_BITALG
// AVX512_VPOPCNTDQ RDPID CLDEMOTE
constexpr uint32_t leaf_7_ecx = of(0, 1, 6, 8, 9, 10, 11, 12, 14, 22, 25);
// Invariant TSC, for guests that stay
constexpr uint32_t extended_7_edx = of(8);
// CLZERO RSTR_FP_ERR_PTRS IBPB SSB_NO BTC_NO IBPB_RET
constexpr uint32_t extended_8_ebx = of(0, 2, 12, 26, 29, 30);
// AVX512_4VNNIW AVX512_4FMAPS FSRM MD_CLEAR SERIALIZE IBRSB STIBP ARCH_CAPS SSBD
constexpr uint32_t leaf_7_edx = of(2, 3, 4, 10, 14, 26, 27, 29, 31);
// AVX_VNNI AVX512_BF16 FZRM FSRS FSRCS
constexpr uint32_t leaf_7_1_eax = of(4, 5, 10, 11, 12);
// LFENCE_DISPATCH VERW_CLEAR NSCB SBPB IBPB_BRTYPE SRSO_NO SRSO_US_NO
constexpr uint32_t extended_21_eax = of(2, 5, 6, 27, 28, 29, 30);
// PSFD MCDT_NO
constexpr uint32_t leaf_7_2_edx = of(0, 5);

constexpr std::array<uint32_t, feature_words> visible = {
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
    0,
    leaf_7_2_edx,
    0,
    0,
};

// Features that make no sense without the state that they use.
constexpr std::array<uint32_t, feature_words> needs_avx = [] {
    std::array<uint32_t, feature_words> words{};
    words[1] = of(12, 28, 29); // FMA AVX F16C
    words[3] = of(11, 16);     // XOP FMA4
    words[5] = of(5);          // AVX2
    words[6] = of(9, 10);      // VAES VPCLMULQDQ
    words[10] = of(4);         // AVX_VNNI
    return words;
}();
constexpr std::array<uint32_t, feature_words> needs_avx512 = [] {
    std::array<uint32_t, feature_words> words{};
    words[5] = of(16, 17, 21, 26, 27, 28, 30, 31);
    words[6] = of(1, 6, 11, 12, 14);
    words[9] = of(2, 3);
    words[10] = of(5);
    return words;
}();

constexpr uint32_t xsave = of(26);
constexpr uint32_t avx = of(28);
constexpr uint32_t avx512f = of(16);
constexpr uint64_t x87_and_sse_state = 3;
constexpr uint64_t avx_state = 4;
constexpr uint64_t avx512_state = 0xe0;

struct Location {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t CpuidResult::* output;
};
constexpr std::array<Location, feature_words> locations = {{
    {1, 0, &CpuidResult::edx},
    {1, 0, &CpuidResult::ecx},
    {0x80000001, 0, &CpuidResult::edx},
    {0x80000001, 0, &CpuidResult::ecx},
    {0xd, 1, &CpuidResult::eax},
    {7, 0, &CpuidResult::ebx},
    {7, 0, &CpuidResult::ecx},
    {0x80000007, 0, &CpuidResult::edx},
    {0x80000008, 0, &CpuidResult::ebx},
    {7, 0, &CpuidResult::edx},
    {7, 1, &CpuidResult::eax},
    {0x80000021, 0, &CpuidResult::eax},
    {7, 1, &CpuidResult::ebx},
    {7, 2, &CpuidResult::edx},
    {7, 1, &CpuidResult::ecx},
    {7, 1, &CpuidResult::edx},
}};

/// Whether the machine has enough of the extended state that the hypervisor switches.
bool has_state(HostCpuid const& host, FeatureInputs const& inputs, uint64_t wanted) {
    if ((host_features(host, FeatureWord::leaf_1_ecx) & xsave) == 0)
        return false;
    uint64_t const usable = inputs.xstate_supported & host.leaf(0xd, 0).eax;
    return (usable & wanted) == wanted;
}

} // namespace

CpuVendor vendor_of(HostCpuid const& host) {
    constexpr uint32_t authentic_amd = 0x68747541; // "Auth"
    constexpr uint32_t hygon_genuine = 0x6f677948; // "Hygo"
    uint32_t const name = host.leaf(0, 0).ebx;
    return name == authentic_amd || name == hygon_genuine ? CpuVendor::amd_like
                                                          : CpuVendor::intel_like;
}

uint32_t host_features(HostCpuid const& host, FeatureWord word) {
    Location const& location = locations[static_cast<uint8_t>(word) % feature_words];
    uint32_t const range = location.leaf & 0x80000000;
    uint32_t const last = host.leaf(range, 0).eax;
    if ((last & 0x80000000) != range || last < location.leaf)
        return 0;
    // Leaf 7 says itself how many subleaves it has.
    if (location.leaf == 7 && location.subleaf > host.leaf(7, 0).eax)
        return 0;
    return host.leaf(location.leaf, location.subleaf).*location.output;
}

uint32_t pv_features(HostCpuid const& host, FeatureInputs const& inputs, FeatureWord word) {
    unsigned const n = static_cast<uint8_t>(word) % feature_words;
    uint32_t mask = visible[n];

    bool const is_amd = vendor_of(host) == CpuVendor::amd_like;
    if (word == FeatureWord::leaf_1_edx && is_amd)
        mask &= ~of(11); // no SYSENTER in long mode
    if (word == FeatureWord::extended_1_edx && is_amd)
        mask |= leaf_1_edx & extended_1_edx_repeated;
    if (word == FeatureWord::extended_7_edx && !inputs.invariant_tsc)
        mask = 0;

    if (word == FeatureWord::leaf_7_ebx && !inputs.fsgsbase)
        mask &= ~of(0);

    // What the toolstack has taken away takes with it what would need it.
    auto const has = [&](FeatureWord where, uint32_t bits) {
        uint32_t const allowed =
            inputs.allowed ? inputs.allowed[static_cast<uint8_t>(where) % feature_words] : ~0u;
        return (host_features(host, where) & allowed & bits) == bits;
    };
    bool const has_xsave =
        has_state(host, inputs, x87_and_sse_state) && has(FeatureWord::leaf_1_ecx, of(26));
    if (!has_xsave && word == FeatureWord::leaf_1_ecx)
        mask &= ~xsave;
    if (!has_xsave && word == FeatureWord::leaf_d_1_eax)
        mask = 0;
    bool const has_avx = has_xsave && has_state(host, inputs, x87_and_sse_state | avx_state) &&
                         has(FeatureWord::leaf_1_ecx, avx);
    if (!has_avx)
        mask &= ~needs_avx[n];
    bool const has_avx512 = has_avx &&
                            has_state(host, inputs, x87_and_sse_state | avx_state | avx512_state) &&
                            has(FeatureWord::leaf_7_ebx, avx512f);
    if (!has_avx512)
        mask &= ~needs_avx512[n];
    if (inputs.allowed)
        mask &= inputs.allowed[n];
    return host_features(host, word) & mask;
}

uint64_t pv_arch_capabilities_mask() {
    // RDCL_NO EIBRS RSBA SSB_NO MDS_NO IF_PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO
    // FB_CLEAR RRSBA BHI_NO PBRSB_NO GDS_NO RFDS_NO RFDS_CLEAR ITS_NO
    uint64_t const statements = of(0, 1, 2, 4, 5, 6, 8, 13, 14, 15, 17, 19, 20, 24, 26, 27, 28);
    return statements | bit(62);
}

} // namespace hearth
