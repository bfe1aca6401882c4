// Unpacking what kernels come packed in. Every byte of the input may be hostile.
#pragma once

#include "acpi/physical_view.h"
#include "boot/boot_result.h"

#include <cstdint>
#include <optional>
#include <span>

namespace hearth {

enum class Compression : uint8_t {
    none,
    gzip,
    xz,
    lz4, ///< the legacy frame of `lz4 -l`, which Linux uses
    zstd,
};

/// By the magic number at the start; nothing when it is none of these.
std::optional<Compression> detect_compression(Bytes packed);
std::string_view name_of(Compression compression);

/// Bytes of workspace that decompress() needs for this input. Its header can ask for up to 4 GiB
/// (xz); the caller decides what is too much. A Debian kernel needs 32 MiB and some.
BootResult<uint64_t> decompress_workspace_size(Compression compression, Bytes packed);

/// Unpacks the first stream in `packed` and ignores what follows it; for lz4, which has no end
/// mark, `packed` must hold nothing else. Checksums are verified where the format has them. Returns
/// the number of bytes written. On an error the contents of `unpacked` are undefined.
BootResult<uint64_t> decompress(Compression compression, Bytes packed,
                                std::span<std::byte> unpacked, std::span<std::byte> workspace);

} // namespace hearth
