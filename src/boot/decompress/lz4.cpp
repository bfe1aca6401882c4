// The legacy frame (lz4_Frame_format.md): a magic number, then blocks, each after its 32-bit size.
// A block unpacks to 8 MiB, the last one to less. There is neither an end mark nor a checksum.
#ifdef HEARTH_DECOMPRESSORS
#include "boot/decompress/decoders.h"

#include <lz4.h>

#include <algorithm>

namespace hearth::decoders {

BootResult<uint64_t> lz4(Bytes packed, Buffer unpacked) {
    constexpr uint32_t magic = 0x184c2102;
    constexpr uint64_t block_size = 8_MiB;
    if (load<uint32_t>(packed, 0) != magic)
        return BootError{"lz4: no legacy magic number"};
    uint64_t produced = 0;
    for (uint64_t at = 4; at != packed.size();) {
        auto size = load<uint32_t>(packed, at);
        at += 4;
        if (size == magic) // streams may be concatenated
            continue;
        if (!size || *size > LZ4_COMPRESSBOUND(block_size))
            return BootError{"lz4: the data is corrupt"};
        auto block = slice(packed, at, *size);
        if (!block)
            return BootError{"lz4: the data is cut short"};
        uint64_t room = std::min(unpacked.size() - produced, block_size);
        int result = LZ4_decompress_safe(reinterpret_cast<char const*>(block->data()),
                                         reinterpret_cast<char*>(unpacked.data() + produced),
                                         static_cast<int>(*size), static_cast<int>(room));
        if (result < 0)
            return BootError{"lz4: the data is corrupt, or exceeds its buffer"};
        produced += static_cast<uint64_t>(result);
        at += *size;
    }
    return produced;
}

} // namespace hearth::decoders
#endif
