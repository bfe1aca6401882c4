// Any bytes as the memory that a boot loader left: by the first byte as multiboot 1, multiboot 2 or
// PVH.
#include "boot/multiboot.h"
#include "boot/multiboot2.h"
#include "boot/pvh.h"
#include "fuzz_memory.h"

#include <memory>

using namespace hearth;

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    if (size == 0)
        return 0;
    constexpr uint64_t base = 0x1000;
    FuzzMemory memory{base, fuzz_bytes(data + 1, size - 1)};
    auto info = std::make_unique<BootInfo>();
    BootResult<> (*const readers[])(PhysicalView&, PhysicalAddress,
                                    BootInfo&) = {read_multiboot, read_multiboot2, read_pvh};
    auto result = readers[data[0] % 3](memory, PhysicalAddress{base}, *info);
    if (!result && result.error().reason.empty())
        __builtin_trap();
    info->memory_map.normalise();
    uint64_t previous = 0;
    for (auto const& region : info->memory_map) {
        if (region.start.raw() < previous || region.size == 0 || region.end() < region.start.raw())
            __builtin_trap();
        previous = region.end();
    }
    return 0;
}
