// The glue to each library; decompress.h is the interface.
#pragma once

#include "boot/decompress/decompress.h"

namespace hearth::decoders {

using Buffer = std::span<std::byte>;

/// Hands out pieces of a workspace. Only the latest piece can be given back.
class Arena {
    Buffer free_;
    std::byte* latest_ = nullptr;

public:
    explicit Arena(Buffer workspace) : free_{workspace} {}

    void* allocate(size_t count, size_t size) {
        size_t bytes;
        if (__builtin_mul_overflow(count, size, &bytes) || bytes > free_.size())
            return nullptr;
        size_t misaligned = reinterpret_cast<uintptr_t>(free_.data()) % alignment;
        size_t padding = misaligned == 0 ? 0 : alignment - misaligned;
        if (padding > free_.size() - bytes)
            return nullptr;
        latest_ = free_.data() + padding;
        free_ = free_.subspan(padding + bytes);
        return latest_;
    }
    void release(void* piece) {
        if (piece == nullptr || piece != latest_)
            return;
        free_ = Buffer{latest_, free_.data() + free_.size()};
        latest_ = nullptr;
    }

    static constexpr size_t alignment = 16;
};

uint64_t gzip_workspace_size();
BootResult<uint64_t> gzip(Bytes packed, Buffer unpacked, Buffer workspace);
BootResult<uint64_t> xz_workspace_size(Bytes packed);
BootResult<uint64_t> xz(Bytes packed, Buffer unpacked, Buffer workspace);
BootResult<uint64_t> lz4(Bytes packed, Buffer unpacked);
uint64_t zstd_workspace_size();
BootResult<uint64_t> zstd(Bytes packed, Buffer unpacked, Buffer workspace);

} // namespace hearth::decoders
