// Any bytes as an ELF file: all that an accepted one promises must hold.
#include "boot/elf.h"
#include "boot/kernel_image.h"
#include "fuzz_memory.h"

#include <vector>

using namespace hearth;

namespace {

void check(KernelImage const& kernel, Bytes file) {
    if (kernel.entry < kernel.start || kernel.entry >= kernel.end)
        __builtin_trap();
    for (auto const& segment : kernel.segments()) {
        if (segment.address < kernel.start || segment.address + segment.memory_size > kernel.end ||
            segment.file_size > segment.memory_size ||
            !slice(file, segment.file_offset, segment.file_size))
            __builtin_trap();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    // A copy of the exact size for the address sanitizer.
    auto input = fuzz_bytes(data, size);
    std::vector<std::byte> file{input.begin(), input.end()};
    unsigned sum = 0;
    if (auto elf = ElfFile::parse(file)) {
        for (auto const& segment : elf->segments())
            for (auto byte : elf->contents(segment))
                sum += static_cast<unsigned>(byte);
        elf->for_each_note([&](ElfNote const& note) {
            for (auto byte : note.description)
                sum += static_cast<unsigned>(byte);
            return true;
        });
    }
    if (auto kernel = parse_kernel(file))
        check(*kernel, file);
    asm volatile("" : : "r"(sum));
    return 0;
}
