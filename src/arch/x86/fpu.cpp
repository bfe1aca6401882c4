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
constinit bool keeps_error_pointers = false;
constinit uint64_t features = 0;
constinit size_t area_size = legacy_size;

struct LegacyArea {
    uint16_t control;
    uint8_t unused[22];
    uint32_t mxcsr;
};

/// Before RSTR_FP_ERR_PTRS AMD's restoring left alone where the last x87 instruction was and what
/// it read, unless an exception waits. (AMD APM vol. 3, CPUID 8000_0008 ebx bit 2)
bool restoring_keeps_error_pointers() {
    CpuidLeaf const vendor = cpuid(0);
    bool const amd = vendor.ebx == 0x68747541 || vendor.ebx == 0x6f677948; // "Auth", "Hygo"
    return amd && !(cpuid(0x80000000).eax >= 0x80000008 && (cpuid(0x80000008).ebx & bit(2)));
}
/// The next guest finds these instructions' own. What they change is restored next.
void forget_error_pointers() {
    static constexpr uint32_t nothing = 0;
    // SAFETY: ffree makes room, so that the load raises nothing; fnclex takes what waited.
    asm volatile("fnclex\n ffree %%st(7)\n fildl %0" : : "m"(nothing) : "memory");
}

} // namespace

void fpu_initialise_cpu(bool use_xsave) {
    keeps_error_pointers = restoring_keeps_error_pointers();
    have_xsave = use_xsave && (cpuid(1).ecx & bit(26));
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

void fpu_reset_area(void* area) {
    memset(area, 0, area_size);
    auto* const legacy = static_cast<LegacyArea*>(area);
    legacy->control = control_default;
    legacy->mxcsr = mxcsr_default;
}

namespace {

/// Behind the legacy part. (Intel SDM vol. 1, 13.4.2)
struct XsaveHeader {
    uint64_t present, compact, reserved[6];
};
constexpr size_t header_end = legacy_size + sizeof(XsaveHeader);

} // namespace

void fpu_set_legacy(void* area, uint8_t const (&image)[512]) {
    fpu_reset_area(area);
    memcpy(area, image, sizeof image);
    if (have_xsave)
        reinterpret_cast<XsaveHeader*>(static_cast<std::byte*>(area) + legacy_size)->present =
            x87 | sse;
}

void fpu_get_legacy(void const* area, uint8_t (&image)[512]) {
    memcpy(image, area, sizeof image);
    if (!have_xsave)
        return;
    uint64_t const present =
        reinterpret_cast<XsaveHeader const*>(static_cast<std::byte const*>(area) + legacy_size)
            ->present;
    // What is in its initial state need not have been written.
    constexpr size_t mxcsr_at = 24, registers_at = 32, xmm_at = 160, xmm_end = 416;
    if (!(present & x87)) {
        memset(image, 0, mxcsr_at);
        memset(image + registers_at, 0, xmm_at - registers_at);
        memcpy(image, &control_default, sizeof control_default);
    }
    if (!(present & sse))
        memset(image + xmm_at, 0, xmm_end - xmm_at);
}

bool fpu_set_area(void* area, std::span<std::byte const> image) {
    XsaveHeader header;
    if (image.size() < header_end || image.size() > area_size)
        return false;
    memcpy(&header, image.data() + legacy_size, sizeof header);
    uint64_t any = header.compact;
    for (uint64_t const word : header.reserved)
        any |= word;
    if (any != 0 || (header.present & ~features) != 0)
        return false;
    memset(area, 0, area_size);
    memcpy(area, image.data(), image.size());
    return true;
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

namespace {
bool try_restore(void* area) { return have_xsave ? try_xrstor(area, features) : try_fxrstor(area); }
} // namespace

void fpu_restore(void* area, uint64_t xcr0) {
    clear_task_switched();
    // Everything that exists is loaded, also what this guest has not enabled: nothing of another's
    // stays.
    if (have_xsave)
        write_xcr0(features);
    if (keeps_error_pointers)
        forget_error_pointers();
    if (!try_restore(area)) {
        fpu_reset_area(area);
        (void)try_restore(area);
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
