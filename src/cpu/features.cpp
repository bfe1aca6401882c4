#include "cpu/features.h"

#include "arch/intrinsics.h"
#include "base/format.h"
#include "memory/direct_map.h"
#include "memory/image.h"
#include "memory/tlb.h"

namespace hearth {
void enable_smap_sites(void (*patch)(uint64_t address, std::string_view code));

using namespace arch;

namespace {

constinit TextBuffer<128> names;

void patch_code(uint64_t address, std::string_view code) {
    // SAFETY: text is mapped read-only; the direct map's alias of the same bytes is not. No other
    // CPU runs yet, and none of the sites is being executed.
    memcpy(direct<char>(image_physical(address)), code.data(), code.size());
}

} // namespace

void enable_cpu_features(FeatureSwitches const& switches, bool first_cpu) {
    CpuidLeaf const leaf1 = cpuid(1);
    CpuidLeaf const leaf7 = cpuid(0).eax >= 7 ? cpuid(7) : CpuidLeaf{};
    uint64_t v = read_cr4() | cr4::de | cr4::mce;
    auto const enable = [&](bool present, uint64_t flag, std::string_view name) {
        if (!present)
            return;
        v |= flag;
        if (first_cpu)
            format(names, " {}", name);
    };
    enable(leaf7.ebx & bit(7) && switches.smep, cr4::smep, "SMEP");
    enable(leaf7.ecx & bit(2), cr4::umip, "UMIP");
    enable(leaf7.ebx & bit(0) && switches.fsgsbase, cr4::fsgsbase, "FSGSBASE");
    bool const smap = leaf7.ebx & bit(20) && switches.smap;
    if (smap && first_cpu)
        enable_smap_sites(patch_code);
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
}

std::string_view enabled_features() { return names.view(); }
bool has_tsc_deadline() { return cpuid(1).ecx & bit(24); }

} // namespace hearth
