#include "arch/fpu.h"

#include "arch/x86/intrinsics.h"

#include <cstring>

namespace hearth::arch {
namespace {

constexpr uint64_t x87 = 1, sse = 2;
constexpr uint32_t mxcsr_default = 0x1f80;
constexpr uint16_t control_default = 0x37f;
constexpr size_t legacy_size = 512;

constinit bool have_xsave = false;
constinit bool have_xsaveopt = false;
constinit uint64_t features = x87 | sse;
constinit size_t area_size = legacy_size;

struct LegacyArea {
    uint16_t control;
    uint8_t unused[22];
    uint32_t mxcsr;
};

} // namespace

void fpu_initialise_cpu() {
    have_xsave = cpuid(1).ecx & bit(26);
    uint64_t v = read_cr4() | cr4::osfxsr | cr4::osxmmexcpt;
    if (have_xsave)
        v |= cr4::osxsave;
    write_cr4(v);
    write_cr0((read_cr0() & ~(bit(2) | cr0::ts)) | bit(1) | bit(5)); // not EM, not TS, MP, NE
    if (!have_xsave)
        return;
    CpuidLeaf const leaf = cpuid(0xd);
    // x87, SSE, AVX, AVX-512 (3), PKRU is left out: keys are not offered to PV guests.
    features = (uint64_t{leaf.edx} << 32 | leaf.eax) & 0xe7;
    write_xcr0(features);
    area_size = cpuid(0xd).ebx;
    have_xsaveopt = cpuid(0xd, 1).eax & 1;
}

size_t fpu_area_size() { return area_size; }
uint64_t fpu_features() { return features; }
bool fpu_has_xsave() { return have_xsave; }

void fpu_reset_area(void* area) {
    memset(area, 0, area_size);
    auto* const legacy = static_cast<LegacyArea*>(area);
    legacy->control = control_default;
    legacy->mxcsr = mxcsr_default;
}

void fpu_save(void* area, uint64_t xcr0) {
    if (have_xsave && xcr0 != features)
        write_xcr0(features);
    if (!have_xsave)
        asm volatile("fxsave64 (%0)" : : "r"(area) : "memory");
    else if (have_xsaveopt)
        asm volatile("xsaveopt64 (%0)" : : "r"(area), "a"(~0u), "d"(~0u) : "memory");
    else
        asm volatile("xsave64 (%0)" : : "r"(area), "a"(~0u), "d"(~0u) : "memory");
}

void fpu_restore(void* area, uint64_t xcr0) {
    clear_task_switched();
    if (!have_xsave) {
        asm volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
        return;
    }
    // Everything that exists is loaded, also what this guest has not enabled: nothing of another's
    // stays.
    write_xcr0(features);
    if (!try_xrstor(area, features)) {
        fpu_reset_area(area);
        (void)try_xrstor(area, features);
    }
    fpu_set_xcr0(xcr0);
}

void fpu_set_xcr0(uint64_t xcr0) {
    if (have_xsave && xcr0)
        write_xcr0(xcr0);
}

void set_task_switched(bool set) {
    if (set)
        write_cr0(read_cr0() | cr0::ts);
    else
        clear_task_switched();
}

} // namespace hearth::arch
