// Any bytes as a packed kernel; by the first byte as a bzImage or as one stream of a given
// compression.
#include "boot/kernel_image.h"
#include "fuzz_memory.h"

#include <vector>

using namespace hearth;

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    if (size == 0)
        return 0;
    auto input = fuzz_bytes(data + 1, size - 1);
    std::vector<std::byte> file{input.begin(), input.end()};
    PackedKernel kernel{static_cast<Compression>(1 + data[0] % 5), file, 64_KiB};
    if (data[0] % 5 == 4) {
        auto detected = detect_kernel(file);
        if (!detected)
            return 0;
        kernel = *detected;
    }
    auto needed = decompress_workspace_size(kernel.compression, kernel.payload);
    constexpr uint64_t limit = 1_MiB;
    if (!needed || *needed > limit || kernel.unpacked_size > limit)
        return 0;
    std::vector<std::byte> unpacked(kernel.unpacked_size), workspace(*needed);
    auto elf = unpack_kernel(kernel, unpacked, workspace);
    if (!elf) {
        if (elf.error().reason.empty())
            __builtin_trap();
        return 0;
    }
    if (elf->size() != kernel.unpacked_size)
        __builtin_trap();
    if (auto image = parse_kernel(*elf); !image && image.error().reason.empty())
        __builtin_trap();
    return 0;
}
