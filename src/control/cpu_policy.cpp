#include "control/cpu_policy.h"

#include "control/domctl.h"
#include "control/operation_body.h"
#include "domain/guest_memory.h"
#include "pv/cpuid_view.h"

namespace hearth {
namespace {

constexpr uint32_t most_leaves = 256, most_msrs = 16; // that a caller needs room for

/// Where each word of features stands. (public/arch-x86/cpufeatureset.h)
struct WordPlace {
    FeatureWord word;
    uint32_t leaf, subleaf;
    uint32_t abi::CpuidLeaf::* reg;
};
constexpr uint32_t any = abi::cpuid_no_subleaf;
constexpr WordPlace places[] = {
    {FeatureWord::leaf_1_edx, 1, any, &abi::CpuidLeaf::d},
    {FeatureWord::leaf_1_ecx, 1, any, &abi::CpuidLeaf::c},
    {FeatureWord::extended_1_edx, 0x80000001, any, &abi::CpuidLeaf::d},
    {FeatureWord::extended_1_ecx, 0x80000001, any, &abi::CpuidLeaf::c},
    {FeatureWord::leaf_d_1_eax, 0xd, 1, &abi::CpuidLeaf::a},
    {FeatureWord::leaf_7_ebx, 7, 0, &abi::CpuidLeaf::b},
    {FeatureWord::leaf_7_ecx, 7, 0, &abi::CpuidLeaf::c},
    {FeatureWord::extended_7_edx, 0x80000007, any, &abi::CpuidLeaf::d},
    {FeatureWord::extended_8_ebx, 0x80000008, any, &abi::CpuidLeaf::b},
    {FeatureWord::leaf_7_edx, 7, 0, &abi::CpuidLeaf::d},
    {FeatureWord::leaf_7_1_eax, 7, 1, &abi::CpuidLeaf::a},
    {FeatureWord::extended_21_eax, 0x80000021, any, &abi::CpuidLeaf::a},
    {FeatureWord::leaf_7_1_ebx, 7, 1, &abi::CpuidLeaf::b},
    {FeatureWord::leaf_7_2_edx, 7, 2, &abi::CpuidLeaf::d},
    {FeatureWord::leaf_7_1_ecx, 7, 1, &abi::CpuidLeaf::c},
    {FeatureWord::leaf_7_1_edx, 7, 1, &abi::CpuidLeaf::d},
};
static_assert(std::size(places) == feature_words);

/// Somebody's CPUID: the machine's, or a guest's.
class View {
    PvPolicyInputs inputs_;
    bool machine_;

public:
    View(PvPolicyInputs const& inputs, bool machine) : inputs_{inputs}, machine_{machine} {}
    [[nodiscard]] CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const {
        return machine_ ? pv::machine_cpuid().leaf(leaf, subleaf)
                        : pv_cpuid(leaf, subleaf, pv::machine_cpuid(), inputs_);
    }
};

/// Writes leaves to the caller as far as it has room.
class LeafWriter {
    GuestPointer<abi::CpuidLeaf> out_;
    uint32_t room_;
    View const& view_;

public:
    uint32_t count = 0;

    LeafWriter(uint64_t out, uint32_t room, View const& view)
        : out_{out}, room_{room}, view_{view} {}
    Result<> put(uint32_t leaf, uint32_t subleaf, CpuidResult const& r) {
        if (count == room_)
            return Errno::nobufs;
        preempt_point(); // a leaf is some hundred instructions
        return out_.write({leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx}, count++);
    }
    Result<> one(uint32_t leaf) { return put(leaf, any, view_.leaf(leaf, 0)); }
    /// Subleaves [0, count).
    Result<> several(uint32_t leaf, uint32_t subleaves) {
        for (uint32_t i = 0; i < subleaves; ++i)
            TRY(put(leaf, i, view_.leaf(leaf, i)));
        return {};
    }
};

Result<> write_leaves(LeafWriter& writer, View const& view) {
    constexpr uint32_t last_known_basic = 0xd, first_extended = 0x80000000,
                       last_known_extended = 0x80000021, hypervisor = xen_cpuid_base;
    uint32_t const last = std::min(view.leaf(0, 0).eax, last_known_basic);
    for (uint32_t leaf = 0; leaf <= last; ++leaf) {
        switch (leaf) {
        case 4: {
            uint32_t caches = 0;
            while (caches < 5 && (view.leaf(4, caches).eax & 0x1f) != 0)
                ++caches;
            TRY(writer.several(leaf, caches));
            break;
        }
        case 7:
            TRY(writer.several(leaf, std::min(view.leaf(7, 0).eax, 2u) + 1));
            break;
        case 0xb:
            TRY(writer.several(leaf, 2));
            break;
        case 0xd:
            TRY(writer.several(leaf, 63));
            break;
        default:
            TRY(writer.one(leaf));
        }
    }
    CpuidResult const xen_leaves{hypervisor + 5, 0, 0, 0};
    TRY(writer.put(hypervisor, any, xen_leaves));
    uint32_t const last_extended = std::min(view.leaf(first_extended, 0).eax, last_known_extended);
    for (uint32_t leaf = first_extended; leaf <= last_extended; ++leaf)
        TRY(writer.one(leaf));
    return {};
}

PvPolicyInputs new_guest() { return pv::policy_of(nullptr); }

} // namespace

Result<Answer> get_cpu_policy(Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlCpuPolicy>(op);
    View const view{pv::policy_of(&d), false};
    LeafWriter writer{request.leaves, request.leaf_count, view};
    TRY(write_leaves(writer, view));
    request.leaf_count = writer.count;
    request.msr_count = 0;
    set_body(op, request);
    return Answer::argument;
}

/// Features can be taken away. What else the leaves and registers say is the machine's to say.
Result<Answer> set_cpu_policy(Domain& d, abi::Domctl& op) {
    auto const request = body_of<abi::DomctlCpuPolicy>(op);
    if (d.hardware || request.leaf_count > most_leaves || request.msr_count > most_msrs)
        return Errno::inval;
    constexpr uint32_t platform_information = 0xce, arch_capabilities = 0x10a;
    for (uint32_t i = 0; i < request.msr_count; ++i) {
        auto const msr = TRY(GuestPointer<abi::MsrEntry>{request.msrs}.read(i));
        if ((msr.index != platform_information && msr.index != arch_capabilities) || msr.flags != 0)
            return Errno::inval;
    }
    uint32_t allowed[feature_words];
    std::copy_n(d.settings.allowed_features, feature_words, allowed);
    GuestPointer<abi::CpuidLeaf> const leaves{request.leaves};
    for (uint32_t i = 0; i < request.leaf_count; ++i) {
        abi::CpuidLeaf const leaf = TRY(leaves.read(i));
        for (WordPlace const& place : places)
            if (leaf.leaf == place.leaf && leaf.subleaf == place.subleaf)
                allowed[static_cast<unsigned>(place.word)] = leaf.*place.reg;
    }
    constexpr uint32_t invariant_tsc = 1u << 8;
    d.settings.invariant_tsc =
        allowed[static_cast<unsigned>(FeatureWord::extended_7_edx)] & invariant_tsc;
    std::copy_n(allowed, feature_words, d.settings.allowed_features);
    return Answer::none;
}

Result<> describe_cpu_policy(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlCpuPolicy>(op);
    if (request.reserved != 0)
        return Errno::inval;
    bool const machine =
        request.index == abi::cpu_policy_raw || request.index == abi::cpu_policy_host;
    if (!machine && request.index != abi::cpu_policy_pv_max &&
        request.index != abi::cpu_policy_pv_default)
        return request.index <= abi::cpu_policy_last ? Errno::opnotsupp : Errno::inval;
    View const view{new_guest(), machine};
    if (request.leaves == 0) {
        request.leaf_count = most_leaves;
    } else {
        LeafWriter writer{request.leaves, request.leaf_count, view};
        TRY(write_leaves(writer, view));
        request.leaf_count = writer.count;
    }
    request.msr_count = request.msrs == 0 ? most_msrs : 0;
    set_body(op, request);
    return {};
}

Result<> describe_cpu_features(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlCpuFeatures>(op);
    if (request.index > abi::cpu_policy_last)
        return Errno::inval;
    // Their numbers are their own here: 2 and 4 are PV guests'.
    bool const machine = request.index <= 1, pv = request.index == 2 || request.index == 4;
    if (!machine && !pv)
        return Errno::opnotsupp;
    if (request.features != 0) {
        uint32_t const room = request.word_count;
        for (uint32_t i = 0; i < std::min(room, feature_words); ++i) {
            auto const word = static_cast<FeatureWord>(i);
            uint32_t const value =
                machine ? host_features(pv::machine_cpuid(), word)
                        : pv_features(pv::machine_cpuid(), new_guest().features, word);
            TRY(GuestPointer<uint32_t>{request.features}.write(value, i));
        }
        request.word_count = feature_words;
        set_body(op, request);
        return room < feature_words ? Result<>{Errno::nobufs} : Result<>{};
    }
    request.word_count = feature_words;
    set_body(op, request);
    return {};
}

} // namespace hearth
