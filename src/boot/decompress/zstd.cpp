#ifdef HEARTH_DECOMPRESSORS
#include "boot/decompress/decoders.h"

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

namespace hearth::decoders {

uint64_t zstd_workspace_size() { return ZSTD_estimateDCtxSize() + Arena::alignment; }

BootResult<uint64_t> zstd(Bytes packed, Buffer unpacked, Buffer workspace) {
    Arena arena{workspace};
    size_t const size = ZSTD_estimateDCtxSize();
    auto* memory = arena.allocate(1, size);
    auto* context = memory != nullptr ? ZSTD_initStaticDCtx(memory, size) : nullptr;
    if (context == nullptr)
        return BootError{"zstd: the workspace is too small"};
    size_t const frame = ZSTD_findFrameCompressedSize(packed.data(), packed.size());
    if (ZSTD_isError(frame) != 0)
        return BootError{"zstd: the data is corrupt or cut short"};
    // Into one buffer that holds all of the output: no window to allocate, however large the
    // frame's.
    size_t const produced =
        ZSTD_decompressDCtx(context, unpacked.data(), unpacked.size(), packed.data(), frame);
    if (ZSTD_isError(produced) == 0)
        return produced;
    if (ZSTD_getErrorCode(produced) == ZSTD_error_dstSize_tooSmall)
        return BootError{"zstd: the data exceeds its buffer"};
    return BootError{"zstd: the data is corrupt"};
}

} // namespace hearth::decoders
#endif
