#ifdef HEARTH_DECOMPRESSORS
#include "boot/decompress/decoders.h"

#define Z_SOLO
#include <zlib.h>

#include <limits>

namespace hearth::decoders {
namespace {

void* allocate(void* arena, unsigned count, unsigned size) {
    return static_cast<Arena*>(arena)->allocate(count, size);
}
void release(void* arena, void* piece) { static_cast<Arena*>(arena)->release(piece); }

} // namespace

uint64_t gzip_workspace_size() {
    // The state (7 KiB) and, should the stream need it, the window (32 KiB): zlib.h.
    return 64_KiB;
}

BootResult<uint64_t> gzip(Bytes packed, Buffer unpacked, Buffer workspace) {
    constexpr uint64_t limit = std::numeric_limits<uInt>::max();
    if (packed.size() > limit || unpacked.size() > limit)
        return BootError{"gzip: larger than 4 GiB"};
    Arena arena{workspace};
    z_stream stream{};
    stream.zalloc = allocate;
    stream.zfree = release;
    stream.opaque = &arena;
    // SAFETY: zlib does not write to its input; its interface lacks the const.
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(unpacked.data());
    stream.avail_out = static_cast<uInt>(unpacked.size());
    constexpr int gzip_with_any_window = 15 + 16;
    if (inflateInit2(&stream, gzip_with_any_window) != Z_OK)
        return BootError{"gzip: the workspace is too small"};
    switch (inflate(&stream, Z_FINISH)) {
    case Z_STREAM_END:
        return stream.total_out;
    case Z_BUF_ERROR:
        return stream.avail_out == 0 ? BootError{"gzip: the data exceeds its buffer"}
                                     : BootError{"gzip: the data is cut short"};
    case Z_MEM_ERROR:
        return BootError{"gzip: the workspace is too small"};
    default:
        return BootError{"gzip: the data is corrupt"};
    }
}

} // namespace hearth::decoders
#endif
