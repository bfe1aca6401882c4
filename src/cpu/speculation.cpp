#include "cpu/speculation.h"

#include "base/bits.h"

#include <algorithm>
#include <iterator>

namespace hearth {
namespace {

// CPUID 7 subleaf 0 edx, subleaf 2 edx. (Intel SDM vol. 2A)
constexpr uint64_t clears_by_verw = bit(10), has_ibrs_and_ibpb = bit(26);
constexpr uint64_t has_history_control = bit(4);
constexpr uint64_t has_smep = bit(7), has_rtm = bit(11); // subleaf 0 ebx

/// IA32_ARCH_CAPABILITIES.
namespace capability {
constexpr uint64_t no_meltdown = bit(0), enhanced_ibrs = bit(1), no_mds = bit(5), no_taa = bit(8),
                   no_stale_data_1 = bit(13), no_stale_data_2 = bit(14), no_stale_data_3 = bit(15),
                   falls_back_to_branches = bit(2), clears_fill_buffers = bit(17),
                   no_history_injection = bit(20), gather_control = bit(25), no_gather = bit(26),
                   no_register_file_sampling = bit(27), clears_register_file = bit(28);
constexpr uint64_t no_stale_data = no_stale_data_1 | no_stale_data_2 | no_stale_data_3;
} // namespace capability

/// CPUID 0x80000008 ebx and 0x80000021 of AMD.
namespace amd {
constexpr uint64_t ibpb = bit(12), no_branch_type_confusion = bit(29);
constexpr uint64_t automatic_ibrs = bit(8), clears_by_verw = bit(5), no_srso = bit(29); // eax
constexpr uint64_t no_store_queue_attack = bit(1), no_l1_attack = bit(2);               // ecx
} // namespace amd

bool is_amd(ProcessorFacts const& f) {
    return f.vendor == Vendor::amd || f.vendor == Vendor::hygon;
}
/// Before these nothing speculates far enough.
bool speculates(ProcessorFacts const& f) {
    return is_amd(f) ? f.family() >= 0x0f : f.family() >= 6;
}
/// Bonnell and Saltwell: in-order Atoms. (Intel's list of affected processors)
bool is_in_order(ProcessorFacts const& f) {
    if (f.vendor != Vendor::intel || f.family() != 6)
        return false;
    switch (f.model()) {
    case 0x1c:
    case 0x26:
    case 0x27:
    case 0x35:
    case 0x36:
        return true;
    default:
        return false;
    }
}
/// Silvermont to Goldmont Plus, which forward nothing from the buffers of MDS.
bool is_atom_without_mds(ProcessorFacts const& f) {
    switch (f.model()) {
    case 0x5c: // Goldmont
    case 0x5f:
    case 0x7a: // Goldmont Plus
        return true;
    default:
        return false;
    }
}

/// Skylake to Rocket Lake. (Intel's list of affected processors)
bool is_skylake_or_its_kin(ProcessorFacts const& f) {
    if (f.vendor != Vendor::intel || f.family() != 6)
        return false;
    constexpr uint8_t models[] = {0x4e, 0x5e, 0x55, 0x66, 0x8e, 0x9e, 0xa5, 0xa6, // 14 nm
                                  0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d, 0xa7}; // and those after it
    return std::ranges::find(models, f.model()) != std::end(models);
}
/// By their family, models 0x30 to 0x4f, 0x60 to 0x7f, 0x90 and 0xa0 on; the others are Zen 1.
bool is_zen_2(ProcessorFacts const& f) {
    unsigned const part = f.model() >> 4;
    return f.vendor == Vendor::amd && f.family() == 0x17 &&
           (part == 3 || part == 4 || part == 6 || part == 7 || part == 9 || part == 0xa);
}
bool is_zen_1(ProcessorFacts const& f) {
    return is_amd(f) && (f.family() == 0x17 || f.family() == 0x18) && !is_zen_2(f);
}

bool has_enhanced_ibrs(ProcessorFacts const& f) {
    return is_amd(f) ? (f.extended_21_eax & amd::automatic_ibrs) != 0
                     : (f.arch_capabilities & capability::enhanced_ibrs) != 0;
}
bool has_barrier(ProcessorFacts const& f) {
    return is_amd(f) ? (f.extended_8_ebx & amd::ibpb) != 0
                     : (f.leaf_7_edx & has_ibrs_and_ibpb) != 0;
}

/// Whether a return that finds the return stack empty is predicted as another branch. (Intel,
/// "Retpoline: A Branch Target Injection Mitigation", on Skylake; CVE-2022-29901)
bool returns_fall_back(ProcessorFacts const& f) {
    return f.vendor == Vendor::intel && !has_enhanced_ibrs(f) &&
           (is_skylake_or_its_kin(f) || (f.arch_capabilities & capability::falls_back_to_branches));
}
/// Whether a gather gives what other vector registers had. (INTEL-SA-00828)
bool leaks_by_gather(ProcessorFacts const& f) {
    return is_skylake_or_its_kin(f) &&
           !(f.arch_capabilities & (capability::gather_control | capability::no_gather));
}

/// Whether something of another's may be sampled from the processor's buffers.
bool leaks_buffers(ProcessorFacts const& f) {
    if (is_amd(f)) // TSA: Zen 3 and 4 (AMD-SB-7029)
        return f.family() == 0x19 &&
               (f.extended_21_ecx & (amd::no_store_queue_attack | amd::no_l1_attack)) !=
                   (amd::no_store_queue_attack | amd::no_l1_attack);
    if (f.vendor != Vendor::intel || f.family() != 6 || is_in_order(f))
        return false;
    uint64_t const c = f.arch_capabilities;
    bool const mds = !(c & capability::no_mds) && !is_atom_without_mds(f);
    bool const taa = (f.leaf_7_ebx & has_rtm) && !(c & capability::no_taa);
    bool const stale_data = (c & capability::clears_fill_buffers) &&
                            (c & capability::no_stale_data) != capability::no_stale_data;
    bool const register_file =
        (c & capability::clears_register_file) && !(c & capability::no_register_file_sampling);
    return mds || taa || stale_data || register_file;
}
/// Whether a load that is not allowed gives data for a moment.
bool has_meltdown(ProcessorFacts const& f) {
    return f.vendor == Vendor::intel && !(f.arch_capabilities & capability::no_meltdown);
}
/// Whether a load through an absent entry gives what the first-level cache has at its address.
bool has_l1_terminal_fault(ProcessorFacts const& f) {
    return has_meltdown(f) && !is_atom_without_mds(f);
}
bool can_clear_buffers(ProcessorFacts const& f) {
    return is_amd(f) ? (f.extended_21_eax & amd::clears_by_verw) != 0
                     : (f.leaf_7_edx & clears_by_verw) != 0;
}

} // namespace

unsigned ProcessorFacts::family() const {
    unsigned const base = signature >> 8 & 0xf;
    return base == 0xf ? base + (signature >> 20 & 0xff) : base;
}
unsigned ProcessorFacts::model() const {
    unsigned const base = signature >> 8 & 0xf, low = signature >> 4 & 0xf;
    return base == 6 || base == 0xf ? low | (signature >> 12 & 0xf0) : low;
}

Defences defences_of(ProcessorFacts const& f) {
    Defences d;
    if (!speculates(f) || is_in_order(f))
        return d;
    d.restricted_branches = has_enhanced_ibrs(f);
    // Enhanced IBRS keeps guests from training a branch's target, not from choosing which of
    // Hearth's own targets is predicted, by the history of branches.
    bool const history = f.vendor == Vendor::intel && d.restricted_branches &&
                         !(f.arch_capabilities & capability::no_history_injection);
    d.restricted_history = history && (f.leaf_7_2_edx & has_history_control);
    d.retpolines = !d.restricted_branches || (history && !d.restricted_history);
    // With SMEP, what a guest left there leads nowhere: its own code is user memory. But it must
    // not be empty where that makes returns into branches that a guest can train.
    d.fill_return_stack = !(f.leaf_7_ebx & has_smep) || returns_fall_back(f);
    d.whole_vector_registers = is_zen_2(f);
    d.barrier_on_switch = has_barrier(f);
    d.clear_buffers = leaks_buffers(f) && can_clear_buffers(f);
    d.isolation = has_meltdown(f);
    d.absent_entries = has_l1_terminal_fault(f);
    return d;
}

Exposure exposure_of(ProcessorFacts const& f, Defences const& d) {
    Exposure e;
    if (!speculates(f) || is_in_order(f))
        return e;
    e.meltdown = has_meltdown(f) && !d.isolation;
    e.l1_terminal_fault = has_l1_terminal_fault(f) && !d.absent_entries;
    e.buffers = leaks_buffers(f) && !d.clear_buffers;
    // Zen 1 and 2 (AMD-SB-1037); Skylake, for what returns more often than was called since the
    // guest was left.
    e.branch_types = returns_fall_back(f) || ((is_zen_1(f) || is_zen_2(f)) &&
                                              !(f.extended_8_ebx & amd::no_branch_type_confusion));
    // Zen 3 and 4 (AMD-SB-7005).
    e.trained_returns = is_amd(f) && f.family() == 0x19 && !(f.extended_21_eax & amd::no_srso);
    e.vector_registers = is_zen_2(f) && !d.whole_vector_registers; // AMD-SB-7008
    e.gathers = leaks_by_gather(f);
    e.quotients = is_zen_1(f); // AMD-SB-7007
    e.no_barrier = !has_barrier(f);
    return e;
}

Defences chosen_defences(ProcessorFacts const& facts, DefenceChoice const& choice) {
    Defences d = choice.all.value_or(true) ? defences_of(facts) : Defences{};
    d.retpolines = choice.retpolines.value_or(d.retpolines);
    d.fill_return_stack = choice.fill_return_stack.value_or(d.fill_return_stack);
    d.clear_buffers = choice.clear_buffers.value_or(d.clear_buffers);
    d.isolation = choice.isolation.value_or(d.isolation);
    d.absent_entries = choice.absent_entries.value_or(d.absent_entries);
    d.absent_entries_of_domain0 = choice.absent_entries_of_domain0.value_or(false);
    d.barrier_on_switch =
        choice.barrier_on_switch.value_or(d.barrier_on_switch) && has_barrier(facts);
    return d;
}

namespace {
struct Name {
    bool on;
    std::string_view name;
};
void put_names(TextSink& sink, std::span<Name const> names) {
    bool none = true;
    for (Name const& n : names)
        if (n.on) {
            sink.put(n.name);
            none = false;
        }
    if (none)
        sink.put(" none");
}
} // namespace

void describe(TextSink& sink, Defences const& d) {
    Name const names[] = {{d.restricted_branches, " IBRS"},
                          {d.restricted_history, " BHI_DIS_S"},
                          {d.retpolines, " retpolines"},
                          {d.fill_return_stack, " return-stack"},
                          {d.barrier_on_switch, " IBPB"},
                          {d.clear_buffers, " VERW"},
                          {d.isolation, " XPTI"},
                          {d.absent_entries, " absent-entries"},
                          {d.absent_entries_of_domain0, " absent-entries-of-domain-0"},
                          {d.whole_vector_registers, " whole-vector-registers"}};
    put_names(sink, names);
}

void describe(TextSink& sink, Exposure const& e) {
    Name const names[] = {{e.meltdown, " Meltdown"},
                          {e.l1_terminal_fault, " L1TF"},
                          {e.buffers, " MDS"},
                          {e.branch_types, " Retbleed"},
                          {e.trained_returns, " Inception"},
                          {e.vector_registers, " Zenbleed"},
                          {e.gathers, " Downfall"},
                          {e.quotients, " quotients"},
                          {e.no_barrier, " Spectre-2 between guests (no IBPB)"}};
    put_names(sink, names);
}

} // namespace hearth
