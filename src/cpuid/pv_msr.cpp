#include "cpuid/pv_msr.h"

#include "base/bits.h"

namespace hearth {
namespace {

// SDM volume 4; APM volume 2, appendix A.
namespace msr {
constexpr uint32_t p5_mc_addr = 0x0;
constexpr uint32_t p5_mc_type = 0x1;
constexpr uint32_t tsc = 0x10;
constexpr uint32_t platform_id = 0x17;
constexpr uint32_t apic_base = 0x1b;
constexpr uint32_t feature_control = 0x3a;
constexpr uint32_t spec_ctrl = 0x48;
constexpr uint32_t pred_cmd = 0x49;
constexpr uint32_t microcode_revision = 0x8b;
constexpr uint32_t platform_info = 0xce;
constexpr uint32_t arch_capabilities = 0x10a;
constexpr uint32_t misc_features_enables = 0x140;
constexpr uint32_t mcg_cap = 0x179;
constexpr uint32_t mcg_status = 0x17a;
constexpr uint32_t perf_status = 0x198;
constexpr uint32_t perf_ctl = 0x199;
constexpr uint32_t therm_status = 0x19c;
constexpr uint32_t misc_enable = 0x1a0;
constexpr uint32_t pat = 0x277;
constexpr uint32_t perf_capabilities = 0x345;
constexpr uint32_t hypercall_page = 0x40000000;
constexpr uint32_t efer = 0xc0000080;
constexpr uint32_t fs_base = 0xc0000100;
constexpr uint32_t gs_base = 0xc0000101;
constexpr uint32_t kernel_gs_base = 0xc0000102;
constexpr uint32_t tsc_aux = 0xc0000103;
constexpr uint32_t amd_syscfg = 0xc0010010;
constexpr uint32_t amd_hwcr = 0xc0010015;
constexpr uint32_t amd_iorr_base_0 = 0xc0010016;
constexpr uint32_t amd_top_mem = 0xc001001a;
constexpr uint32_t amd_top_mem2 = 0xc001001d;
constexpr uint32_t amd_pstate_limit = 0xc0010061;
constexpr uint32_t amd_pstate_last = 0xc001006b;
constexpr uint32_t amd_smm_address = 0xc0010112;
constexpr uint32_t amd_smm_mask = 0xc0010113;
constexpr uint32_t amd_de_cfg = 0xc0011029;
} // namespace msr

constexpr uint64_t apic_base_enabled = 0xfee00800;
constexpr uint64_t apic_base_bootstrap = 1u << 8;
constexpr uint64_t feature_control_locked = 1; // and nothing enabled
// Fast strings; no branch trace store, no PEBS, xTPR messages disabled.
constexpr uint64_t misc_enable_value = bit(0) | bit(11) | bit(12) | bit(23);
constexpr uint64_t hwcr_tsc_frequency_select = bit(24);
constexpr uint64_t de_cfg_lfence_serializing = bit(1);

constexpr uint32_t feature_nx = 1u << 20;
constexpr uint32_t feature_rdtscp = 1u << 27;
constexpr uint32_t feature_rdpid = 1u << 22;
constexpr uint32_t feature_ibrsb = 1u << 26;
constexpr uint32_t feature_stibp = 1u << 27;
constexpr uint32_t feature_arch_capabilities = 1u << 29;
constexpr uint32_t feature_ssbd = 1u << 31;
constexpr uint32_t feature_amd_ibpb = 1u << 12;
constexpr uint32_t feature_intel_psfd = 1u << 0;
constexpr uint32_t feature_sbpb = 1u << 27;

constexpr MsrRead value(uint64_t v) { return {MsrRead::Kind::value, v, 0}; }
constexpr MsrRead from_host(uint64_t mask) { return {MsrRead::Kind::host, 0, mask}; }
constexpr MsrRead kept_by_vcpu() { return {MsrRead::Kind::vcpu, 0, 0}; }
constexpr MsrRead no_read() { return {}; }
constexpr MsrWrite no_write() { return {}; }
constexpr MsrWrite accept_if(bool condition, MsrWrite::Kind kind) {
    return {condition ? kind : MsrWrite::Kind::fault};
}

constexpr bool is_canonical(uint64_t address) {
    return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

class PvMsrs {
    HostCpuid const& host_;
    PvPolicyInputs const& inputs_;

    bool has(FeatureWord word, uint32_t feature) const {
        return (pv_features(host_, inputs_.features, word) & feature) != 0;
    }
    bool is_amd() const { return vendor_of(host_) == CpuVendor::amd_like; }
    bool has_tsc_aux() const {
        return has(FeatureWord::extended_1_edx, feature_rdtscp) ||
               has(FeatureWord::leaf_7_ecx, feature_rdpid);
    }
    /// SCE, LME, LMA and NXE: what a 64-bit PV kernel runs with, whatever it would like.
    uint64_t efer() const {
        bool const nx = has(FeatureWord::extended_1_edx, feature_nx);
        return bit(0) | bit(8) | bit(10) | (nx ? bit(11) : 0);
    }
    uint64_t speculation_control_bits() const;
    uint64_t prediction_command_bits() const;
    MsrRead read_intel(uint32_t index) const;
    MsrRead read_amd(uint32_t index) const;
    MsrWrite write_amd(uint32_t index) const;

public:
    PvMsrs(HostCpuid const& host, PvPolicyInputs const& inputs) : host_{host}, inputs_{inputs} {}
    MsrRead read(uint32_t index) const;
    MsrWrite write(uint32_t index, uint64_t v) const;
};

uint64_t PvMsrs::speculation_control_bits() const {
    if (!has(FeatureWord::leaf_7_edx, feature_ibrsb))
        return 0;
    return bit(0) | (has(FeatureWord::leaf_7_edx, feature_stibp) ? bit(1) : 0) |
           (has(FeatureWord::leaf_7_edx, feature_ssbd) ? bit(2) : 0) |
           (has(FeatureWord::leaf_7_2_edx, feature_intel_psfd) ? bit(7) : 0);
}

uint64_t PvMsrs::prediction_command_bits() const {
    bool const ibpb = has(FeatureWord::leaf_7_edx, feature_ibrsb) ||
                      has(FeatureWord::extended_8_ebx, feature_amd_ibpb);
    return (ibpb ? bit(0) : 0) | (has(FeatureWord::extended_21_eax, feature_sbpb) ? bit(7) : 0);
}

MsrRead PvMsrs::read_intel(uint32_t index) const {
    switch (index) {
    case msr::platform_id:
        return from_host(~uint64_t{0});
    case msr::feature_control:
        return value(feature_control_locked);
    case msr::perf_status:
    case msr::therm_status:
        return inputs_.is_hardware_domain ? from_host(~uint64_t{0}) : no_read();
    case msr::perf_ctl:
        return inputs_.is_hardware_domain ? value(0) : no_read();
    default:
        return no_read();
    }
}

MsrRead PvMsrs::read_amd(uint32_t index) const {
    if (index >= msr::amd_iorr_base_0 && index <= msr::amd_top_mem)
        return value(0);
    if (index >= msr::amd_pstate_limit && index <= msr::amd_pstate_last)
        return value(0);
    switch (index) {
    case msr::amd_syscfg:
    case msr::amd_top_mem2:
    case msr::amd_smm_address:
    case msr::amd_smm_mask:
        return value(0);
    case msr::amd_hwcr:
        return from_host(hwcr_tsc_frequency_select);
    case msr::amd_de_cfg:
        return from_host(de_cfg_lfence_serializing);
    default:
        return no_read();
    }
}

MsrRead PvMsrs::read(uint32_t index) const {
    switch (index) {
    case msr::tsc:
        return {MsrRead::Kind::tsc, 0, 0};
    case msr::fs_base:
    case msr::gs_base:
    case msr::kernel_gs_base:
        return kept_by_vcpu();
    case msr::tsc_aux:
        return has_tsc_aux() ? kept_by_vcpu() : no_read();
    case msr::spec_ctrl:
        return speculation_control_bits() != 0 ? kept_by_vcpu() : no_read();
    case msr::efer:
        return value(efer());
    case msr::apic_base:
        return value(apic_base_enabled | (inputs_.vcpu_id == 0 ? apic_base_bootstrap : 0));
    case msr::microcode_revision:
        return from_host(~uint64_t{0});
    case msr::arch_capabilities:
        if (!has(FeatureWord::leaf_7_edx, feature_arch_capabilities))
            return no_read();
        return from_host(pv_arch_capabilities_mask());
    case msr::misc_enable:
        return value(misc_enable_value);
    case msr::pat:
        return value(pv_pat);
    case msr::p5_mc_addr:
    case msr::p5_mc_type:
    case msr::platform_info: // no CPUID faulting to switch on
    case msr::misc_features_enables:
    case msr::mcg_cap: // no banks: errors reach Domain 0 by VIRQ_MCA
    case msr::mcg_status:
    case msr::perf_capabilities:
    case msr::hypercall_page:
        return value(0);
    default:
        return is_amd() ? read_amd(index) : read_intel(index);
    }
}

MsrWrite PvMsrs::write_amd(uint32_t index) const {
    if (index >= msr::amd_pstate_limit && index <= msr::amd_pstate_last)
        return {MsrWrite::Kind::ignore};
    bool const ignored = index == msr::amd_hwcr || index == msr::amd_de_cfg;
    return accept_if(ignored, MsrWrite::Kind::ignore);
}

MsrWrite PvMsrs::write(uint32_t index, uint64_t v) const {
    switch (index) {
    case msr::fs_base:
    case msr::gs_base:
    case msr::kernel_gs_base:
        return accept_if(is_canonical(v), MsrWrite::Kind::vcpu);
    case msr::tsc_aux:
        return accept_if(has_tsc_aux() && v >> 32 == 0, MsrWrite::Kind::vcpu);
    case msr::spec_ctrl: {
        uint64_t const allowed = speculation_control_bits();
        return accept_if(allowed != 0 && (v & ~allowed) == 0, MsrWrite::Kind::vcpu);
    }
    case msr::pred_cmd: {
        uint64_t const allowed = prediction_command_bits();
        return accept_if(allowed != 0 && (v & ~allowed) == 0, MsrWrite::Kind::vcpu);
    }
    case msr::efer:
        return accept_if(v == efer(), MsrWrite::Kind::ignore);
    case msr::microcode_revision:
        // Intel's protocol to learn the revision starts with writing 0.
        return accept_if(!is_amd() && v == 0, MsrWrite::Kind::ignore);
    case msr::misc_features_enables:
        return accept_if(v == 0, MsrWrite::Kind::ignore);
    case msr::perf_ctl:
        return accept_if(!is_amd() && inputs_.is_hardware_domain, MsrWrite::Kind::ignore);
    case msr::misc_enable:
    case msr::mcg_cap:
    case msr::mcg_status:
        return {MsrWrite::Kind::ignore};
    default:
        return is_amd() ? write_amd(index) : no_write();
    }
}

} // namespace

MsrRead pv_read_msr(uint32_t index, HostCpuid const& host, PvPolicyInputs const& inputs) {
    return PvMsrs{host, inputs}.read(index);
}

MsrWrite pv_write_msr(uint32_t index, uint64_t value, HostCpuid const& host,
                      PvPolicyInputs const& inputs) {
    return PvMsrs{host, inputs}.write(index, value);
}

} // namespace hearth
