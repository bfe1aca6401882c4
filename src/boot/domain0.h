// Building Domain 0: kernel, ramdisk and first address space, as public/xen.h ("64-bit PV guests
// start") has them.
#pragma once

#include "boot/boot_result.h"
#include "boot/kernel_image.h"
#include "domain/domain.h"

namespace hearth {

struct Domain0Request {
    Bytes kernel_file;
    Bytes ramdisk; // may be empty
    std::string_view command_line;
    uint64_t pages = 0;     // initial memory
    uint64_t max_pages = 0; // to which it may balloon
    unsigned vcpus = 1;
    bool vga_text = true;
};

/// The kernel, unpacked if need be; the memory that it was unpacked to stays taken until release().
class UnpackedKernel {
    Mfn first_ = invalid_mfn;
    unsigned order_ = 0;

public:
    Bytes elf;
    KernelImage image;

    BootResult<> unpack(Bytes file);
    void release();
};

/// Everything up to the first vCPU's first instruction. `gone` is called when kernel file and
/// ramdisk are no longer needed.
BootResult<Domain*> build_domain0(Domain0Request const& request, void (*gone)());

} // namespace hearth
