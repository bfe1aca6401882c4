#include "boot/decompress/decompress.h"

#include "boot/decompress/decoders.h"

#include <algorithm>

namespace hearth {
namespace {

struct Magic {
    Compression compression;
    std::string_view bytes;
};
using namespace std::string_view_literals;
constexpr Magic magics[] = {
    {Compression::gzip, "\x1f\x8b\x08"sv},
    {Compression::xz, "\xfd"
                      "7zXZ\0"sv},
    {Compression::lz4, "\x02\x21\x4c\x18"sv},
    {Compression::zstd, "\x28\xb5\x2f\xfd"sv},
    {Compression::none, "\x7f"
                        "ELF"sv},
};

} // namespace

std::optional<Compression> detect_compression(Bytes packed) {
    for (auto const& magic : magics)
        if (packed.size() >= magic.bytes.size() &&
            std::memcmp(packed.data(), magic.bytes.data(), magic.bytes.size()) == 0)
            return magic.compression;
    return std::nullopt;
}

std::string_view name_of(Compression compression) {
    switch (compression) {
    case Compression::none:
        return "none";
    case Compression::gzip:
        return "gzip";
    case Compression::xz:
        return "xz";
    case Compression::lz4:
        return "lz4";
    case Compression::zstd:
        return "zstd";
    }
    return "unknown";
}

#ifdef HEARTH_DECOMPRESSORS

BootResult<uint64_t> decompress_workspace_size(Compression compression, Bytes packed) {
    switch (compression) {
    case Compression::none:
    case Compression::lz4:
        return 0;
    case Compression::gzip:
        return decoders::gzip_workspace_size();
    case Compression::xz:
        return decoders::xz_workspace_size(packed);
    case Compression::zstd:
        return decoders::zstd_workspace_size();
    }
    return BootError{"unknown compression"};
}

BootResult<uint64_t> decompress(Compression compression, Bytes packed,
                                std::span<std::byte> unpacked, std::span<std::byte> workspace) {
    switch (compression) {
    case Compression::none:
        if (packed.size() > unpacked.size())
            return BootError{"the image exceeds its buffer"};
        std::copy(packed.begin(), packed.end(), unpacked.begin());
        return packed.size();
    case Compression::gzip:
        return decoders::gzip(packed, unpacked, workspace);
    case Compression::xz:
        return decoders::xz(packed, unpacked, workspace);
    case Compression::lz4:
        return decoders::lz4(packed, unpacked);
    case Compression::zstd:
        return decoders::zstd(packed, unpacked, workspace);
    }
    return BootError{"unknown compression"};
}

#else

BootResult<uint64_t> decompress_workspace_size(Compression, Bytes) {
    return BootError{"built without decompressors"};
}

BootResult<uint64_t> decompress(Compression, Bytes, std::span<std::byte>, std::span<std::byte>) {
    return BootError{"built without decompressors"};
}

#endif

} // namespace hearth
