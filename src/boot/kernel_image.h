// A PV kernel: how it is packed, and what its Xen ELF notes (public/elfnote.h) ask for.
#pragma once

#include "boot/decompress/decompress.h"
#include "boot/elf.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace hearth {

/// A kernel file as a boot loader hands it over.
struct PackedKernel {
    Compression compression = Compression::none;
    /// What to unpack: a part of the file.
    Bytes payload;
    uint64_t unpacked_size = 0;
};

/// Recognises a plain ELF file, and a bzImage (Linux's Documentation/x86/boot.rst, protocol 2.08 or
/// later).
BootResult<PackedKernel> detect_kernel(Bytes file);

/// Unpacks into `unpacked`, of at least `unpacked_size` bytes, and returns the ELF file within. The
/// size of `workspace` is what decompress_workspace_size(kernel.compression, kernel.payload) asks
/// for. A plain ELF file is returned where it is; it needs neither.
BootResult<Bytes> unpack_kernel(PackedKernel const& kernel, std::span<std::byte> unpacked,
                                std::span<std::byte> workspace);

/// Bits of XENFEAT_* (public/features.h).
namespace feature {
inline constexpr uint64_t writable_page_tables = 1u << 0;
inline constexpr uint64_t auto_translated_physmap = 1u << 2;
inline constexpr uint64_t supervisor_mode_kernel = 1u << 3;
inline constexpr uint64_t dom0 = 1u << 11;
} // namespace feature

struct KernelSegment {
    uint64_t file_offset = 0;
    uint64_t file_size = 0;
    uint64_t memory_size = 0;
    /// Where it goes: p_paddr - paddr_offset + virt_base. Not p_vaddr, which is 0 for Linux's
    /// per-CPU data.
    uint64_t address = 0;
    uint64_t physical_address = 0; // p_paddr as it is
    uint32_t flags = 0;            // ElfSegment::Flags
};

struct KernelImage {
    /// A non-present L1 entry with (entry & mask) == value carries a frame number.
    struct L1MfnValid {
        uint64_t mask = 0;
        uint64_t value = 0;
    };

    std::array<KernelSegment, ElfFile::maximum_segments> segment_storage{};
    size_t segment_count = 0;
    /// All segments lie in [start, end); entry and hypercall page too.
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t entry = 0;
    uint64_t virt_base = 0;
    uint64_t paddr_offset = 0;
    std::optional<uint64_t> hypercall_page;
    std::optional<uint64_t> init_p2m;
    std::optional<uint64_t> hv_start_low;
    std::optional<uint64_t> phys32_entry;
    uint64_t supported_features = 0; // by name or number, required ones included
    uint64_t required_features = 0;  // those marked with '!'
    bool suspend_cancel = false;
    /// Takes an initial ramdisk that its first page tables do not map.
    bool mod_start_pfn = false;
    bool wants_symbol_table = false; // BSD_SYMTAB
    std::array<L1MfnValid, 4> l1_mfn_valid{};
    size_t l1_mfn_valid_count = 0;
    // Text lies in the ELF file.
    std::string_view guest_os, guest_version, xen_version, loader, pae_mode, features;

    [[nodiscard]] std::span<KernelSegment const> segments() const {
        return {segment_storage.data(), segment_count};
    }
};

/// Checks an ELF file and reads its notes.
BootResult<KernelImage> parse_kernel(Bytes elf);

} // namespace hearth
