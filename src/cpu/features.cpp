#include "cpu/features.h"

#include "arch/intrinsics.h"
#include "arch/x86/asm.h"
#include "base/format.h"
#include "cpu/cpu.h"
#include "memory/direct_map.h"
#include "memory/image.h"
#include "memory/tlb.h"

#include <cstring>

extern "C" {
/// A place of the code, and SITE_*.
struct CodeSite {
    uint64_t address, kind;
};
extern CodeSite const code_sites_start[], code_sites_end[];
extern char const __x86_indirect_thunk_r11[], retpoline[], retpoline_end[], verw_operand[];
void fill_return_stack();
extern char const return_by_sysret[], return_by_iret[], airlock_return[], airlock_return_loaded[];
}

namespace hearth {

using namespace arch;

namespace {

constinit TextBuffer<128> names;
constinit bool barrier_on_switch = false;
constinit bool check_absent_entries = false, check_absent_entries_of_domain0 = false;
/// SPEC_CTRL: Hearth's own bits, and what each CPU holds of its guest's.
constinit uint64_t own_speculation_control = 0;
constinit uint64_t guests_speculation_control[max_cpus]{};
constinit uint64_t left_to_guests = cr4::tsd;

void patch_code(uint64_t address, std::string_view code) {
    // SAFETY: text is mapped read-only; the direct map's alias of the same bytes is not. No other
    // CPU runs yet, and none of the sites is being executed.
    memcpy(direct<char>(image_physical(address)), code.data(), code.size());
}

/// Code that ends in the distance to what it refers to.
void patch_code(uint64_t address, std::string_view opcode, void const* target) {
    uint64_t const end = address + opcode.size() + sizeof(int32_t);
    auto const distance = static_cast<int32_t>(reinterpret_cast<uint64_t>(target) - end);
    char code[8];
    memcpy(code, opcode.data(), opcode.size());
    memcpy(code + opcode.size(), &distance, sizeof distance);
    patch_code(address, {code, opcode.size() + sizeof distance});
}

template <class... Code>
void patch_sites(unsigned kind, Code... code) {
    for (auto const* site = code_sites_start; site < code_sites_end; ++site)
        if (site->kind == kind)
            patch_code(site->address, code...);
}

void patch_jump(char const* from, char const* to) {
    patch_code(reinterpret_cast<uint64_t>(from), "\xe9", to);
}

Vendor vendor() {
    switch (cpuid(0).ebx) { // the first four letters
    case 0x756e6547:
        return Vendor::intel; // GenuineIntel
    case 0x68747541:
        return Vendor::amd; // AuthenticAMD
    case 0x6f677948:
        return Vendor::hygon; // HygonGenuine
    default:
        return Vendor::other;
    }
}

} // namespace

void enable_cpu_features(FeatureSwitches const& switches, bool first_cpu) {
    CpuidLeaf const leaf1 = cpuid(1);
    CpuidLeaf const leaf7 = cpuid(0).eax >= 7 ? cpuid(7) : CpuidLeaf{};
    uint64_t v = read_cr4() | cr4::de | cr4::mce | cr4::pge;
    auto const enable = [&](bool present, uint64_t flag, std::string_view name) {
        if (!present)
            return;
        v |= flag;
        if (first_cpu)
            format(names, " {}", name);
    };
    enable(leaf7.ebx & bit(7) && switches.smep, cr4::smep, "SMEP");
    // A kernel that does not know of it must not have its user processes change bases.
    bool const fsgsbase = leaf7.ebx & bit(0) && switches.fsgsbase;
    enable(fsgsbase, 0, "FSGSBASE");
    if (first_cpu)
        left_to_guests = cr4::tsd | (fsgsbase ? cr4::fsgsbase : 0);
    bool const smap = leaf7.ebx & bit(20) && switches.smap;
    if (smap && first_cpu) {
        patch_sites(SITE_STAC, std::string_view{"\x0f\x01\xcb", 3});
        patch_sites(SITE_CLAC, std::string_view{"\x0f\x01\xca", 3});
    }
    enable(smap, cr4::smap, "SMAP");
    enable(leaf1.ecx & bit(26) && switches.xsave, 0, "XSAVE");
    enable(leaf1.ecx & bit(24), 0, "TSC-deadline");
    enable(cpuid(0x80000001).edx & bit(26), 0, "1G-pages");
    // CR3 has no tag yet, as it must be. (Intel SDM vol. 3A, 4.10.1)
    bool const pcid = leaf1.ecx & bit(17) && switches.pcid;
    enable(pcid, cr4::pcide, "PCID");
    write_cr4(v);
    if (pcid && first_cpu)
        use_space_tags(leaf7.ebx & bit(10));
    write_msr(msr::pat, switches.pat);
    write_dr6(dr6::none);
}

ProcessorFacts processor_facts() {
    auto const leaf = [](uint32_t number, uint32_t subleaf = 0) {
        uint32_t const last = cpuid(number & 0x80000000).eax;
        return last >= number ? cpuid(number, subleaf) : CpuidLeaf{};
    };
    CpuidLeaf const leaf7 = leaf(7);
    CpuidLeaf const extended_21 = leaf(0x80000021);
    ProcessorFacts facts{.vendor = vendor(),
                         .signature = cpuid(1).eax,
                         .leaf_7_ebx = leaf7.ebx,
                         .leaf_7_edx = leaf7.edx,
                         .leaf_7_2_edx = leaf7.eax >= 2 ? leaf(7, 2).edx : 0,
                         .extended_8_ebx = leaf(0x80000008).ebx,
                         .extended_21_eax = extended_21.eax,
                         .extended_21_ecx = extended_21.ecx};
    constexpr uint32_t has_arch_capabilities = 1u << 29;
    if (leaf7.edx & has_arch_capabilities)
        facts.arch_capabilities = read_msr(msr::arch_capabilities);
    return facts;
}

void apply_defences(Defences const& d, bool first_cpu) {
    constexpr uint64_t ibrs = bit(0), history_disable = bit(10), automatic_ibrs = bit(21);
    bool const amds = vendor() == Vendor::amd || vendor() == Vendor::hygon;
    bool const by_register = d.restricted_branches && !amds;
    own_speculation_control = by_register ? ibrs | (d.restricted_history ? history_disable : 0) : 0;
    if (d.restricted_branches && !by_register)
        write_msr(msr::efer, read_msr(msr::efer) | automatic_ibrs);
    // Also where nothing is Hearth's: the firmware may have left something.
    constexpr uint32_t has_speculation_control = 1u << 26;
    if (by_register || (cpuid(0).eax >= 7 && cpuid(7).edx & has_speculation_control))
        write_msr(msr::spec_ctrl, own_speculation_control);
    if (uint64_t value; d.whole_vector_registers && try_read_msr(msr::amd_de_cfg, &value))
        (void)try_write_msr(msr::amd_de_cfg, value | bit(9)); // not every hypervisor lets us
    // What is global stays in the TLB when a guest's space is loaded.
    if (d.isolation)
        write_cr4(read_cr4() & ~cr4::pge);
    if (!first_cpu)
        return;
    barrier_on_switch = d.barrier_on_switch;
    check_absent_entries = d.absent_entries;
    check_absent_entries_of_domain0 = d.absent_entries_of_domain0;
    if (d.retpolines)
        patch_code(reinterpret_cast<uint64_t>(__x86_indirect_thunk_r11),
                   {retpoline, static_cast<size_t>(retpoline_end - retpoline)});
    if (d.fill_return_stack)
        patch_sites(SITE_FILL_RETURN_STACK, "\xe8", // call
                    reinterpret_cast<void const*>(fill_return_stack));
    if (d.clear_buffers)
        patch_sites(SITE_CLEAR_BUFFERS, std::string_view{"\x0f\x00\x2d", 3}, verw_operand);
    if (d.isolation) { // also over a VERW, which the airlock has as well
        patch_jump(return_by_sysret, airlock_return);
        patch_jump(return_by_iret, airlock_return_loaded);
    }
}

bool absent_entries_matter(bool domain0) {
    return domain0 ? check_absent_entries_of_domain0 : check_absent_entries;
}

void set_speculation_control(uint64_t of_guest) {
    uint64_t& held = guests_speculation_control[this_cpu_id()];
    if (held == of_guest) [[likely]]
        return;
    held = of_guest;
    write_msr(msr::spec_ctrl, own_speculation_control | of_guest);
}

uint64_t control_left_to_guests() { return left_to_guests; }

void set_guest_control(uint64_t of_guest) {
    // Writing waits for all that was begun, reading does not. Neither bit drops translations.
    // (Intel SDM vol. 3A, 4.10.4.1)
    uint64_t const before = read_cr4();
    uint64_t const after = (before & ~left_to_guests) | (of_guest & left_to_guests);
    if (before != after)
        write_cr4(after);
}

void forget_predictions() {
    if (!barrier_on_switch)
        return;
    write_msr(msr::pred_cmd, 1); // IBPB
    fill_return_stack();
}

std::string_view enabled_features() { return names.view(); }
bool has_tsc_deadline() { return cpuid(1).ecx & bit(24); }

} // namespace hearth
