#ifdef HEARTH_DECOMPRESSORS
#include "boot/decompress/decoders.h"

#define LZMA_MANUAL_HEADERS
#include <lzma.h>

#include <array>

namespace hearth::decoders {
namespace {

void* allocate(void* arena, size_t count, size_t size) {
    return static_cast<Arena*>(arena)->allocate(count, size);
}
void release(void* arena, void* piece) { static_cast<Arena*>(arena)->release(piece); }

lzma_allocator allocator_from(Arena& arena) {
    lzma_allocator allocator{};
    allocator.alloc = allocate;
    allocator.free = release;
    allocator.opaque = &arena;
    return allocator;
}

uint8_t const* octets(Bytes bytes) { return reinterpret_cast<uint8_t const*>(bytes.data()); }

} // namespace

BootResult<uint64_t> xz_workspace_size(Bytes packed) {
    lzma_stream_flags flags{};
    if (packed.size() <= LZMA_STREAM_HEADER_SIZE ||
        lzma_stream_header_decode(&flags, octets(packed)) != LZMA_OK)
        return BootError{"xz: the stream header is corrupt"};
    auto header = packed.subspan(LZMA_STREAM_HEADER_SIZE);
    auto filters = std::array<lzma_filter, LZMA_FILTERS_MAX + 1>{};
    lzma_block block{};
    block.check = flags.check;
    block.filters = filters.data();
    block.header_size = lzma_block_header_size_decode(octets(header)[0]);
    std::array<std::byte, 1024> scratch;
    Arena arena{scratch};
    auto allocator = allocator_from(arena);
    if (octets(header)[0] == 0 || block.header_size > header.size() ||
        lzma_block_header_decode(&block, &allocator, octets(header)) != LZMA_OK)
        return BootError{"xz: the block header is corrupt, or asks for an unknown filter"};
    uint64_t usage = lzma_raw_decoder_memusage(filters.data());
    if (usage == UINT64_MAX)
        return BootError{"xz: unknown filters"};
    // liblzma counts its own state into that; alignment and the stream decoder are ours to add.
    return usage + 64_KiB;
}

BootResult<uint64_t> xz(Bytes packed, Buffer unpacked, Buffer workspace) {
    Arena arena{workspace};
    auto allocator = allocator_from(arena);
    uint64_t memory_limit = UINT64_MAX; // the arena is the limit
    size_t consumed = 0, produced = 0;
    auto result = lzma_stream_buffer_decode(
        &memory_limit, LZMA_TELL_UNSUPPORTED_CHECK, &allocator, octets(packed), &consumed,
        packed.size(), reinterpret_cast<uint8_t*>(unpacked.data()), &produced, unpacked.size());
    switch (result) {
    case LZMA_OK:
        return produced;
    case LZMA_MEM_ERROR:
        return BootError{"xz: the workspace is too small"};
    case LZMA_BUF_ERROR:
        return BootError{"xz: the data exceeds its buffer"};
    case LZMA_UNSUPPORTED_CHECK:
        return BootError{"xz: the check is not CRC32"};
    case LZMA_OPTIONS_ERROR:
        return BootError{"xz: filters other than x86 and LZMA2"};
    default:
        return BootError{"xz: the data is corrupt"};
    }
}

} // namespace hearth::decoders
#endif
