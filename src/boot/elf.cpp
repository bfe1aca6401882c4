#include "boot/elf.h"

#include <bit>

namespace hearth {
namespace {

/// Whether [start, start + size) wraps around.
bool wraps(uint64_t start, uint64_t size) {
    uint64_t end;
    return __builtin_add_overflow(start, size, &end);
}

} // namespace

std::optional<ElfNote> ElfNotes::next() {
    constexpr uint64_t header_size = 12;
    auto name_size = load<uint32_t>(rest_, 0);
    auto description_size = load<uint32_t>(rest_, 4);
    auto type = load<uint32_t>(rest_, 8);
    if (!name_size || !description_size || !type)
        return std::nullopt;
    auto name = slice(rest_, header_size, *name_size);
    uint64_t description_at = header_size + align_up(*name_size, 4);
    auto description = slice(rest_, description_at, *description_size);
    if (!name || !description)
        return std::nullopt;
    // The padding after the last note may be missing.
    uint64_t end = description_at + align_up(*description_size, 4);
    rest_ = end < rest_.size() ? rest_.subspan(end) : Bytes{};
    std::string_view text{reinterpret_cast<char const*>(name->data()), name->size()};
    return ElfNote{text.substr(0, text.find('\0')), *type, *description};
}

BootResult<> ElfFile::read_header() {
    using namespace std::string_view_literals;
    constexpr uint64_t header_size = 64;
    // Magic number, 64 bits, little-endian, version 1.
    constexpr auto identification = "\x7f"
                                    "ELF\x02\x01\x01"sv;
    constexpr uint16_t executable = 2, shared_object = 3, x86_64 = 62;
    constexpr uint16_t program_header_size = 56, section_header_size = 64;

    if (file_.size() < header_size ||
        std::memcmp(file_.data(), identification.data(), identification.size()) != 0)
        return BootError{"not a 64-bit little-endian ELF file"};
    auto type = load_or_zero<uint16_t>(file_, 16);
    if (type != executable && type != shared_object)
        return BootError{"ELF: not an executable"};
    if (load_or_zero<uint16_t>(file_, 18) != x86_64)
        return BootError{"ELF: not for x86-64"};
    entry_ = load_or_zero<uint64_t>(file_, 24);

    program_headers_.offset = load_or_zero<uint64_t>(file_, 32);
    program_headers_.entry_size = load_or_zero<uint16_t>(file_, 54);
    program_headers_.count = load_or_zero<uint16_t>(file_, 56);
    if (program_headers_.entry_size < program_header_size)
        return BootError{"ELF: program headers are too short"};
    if (!slice(file_, program_headers_.offset,
               uint64_t{program_headers_.count} * program_headers_.entry_size))
        return BootError{"ELF: program headers lie outside of the file"};

    // Sections are only a second place to look for notes: a file may be stripped of them.
    section_headers_.offset = load_or_zero<uint64_t>(file_, 40);
    section_headers_.entry_size = load_or_zero<uint16_t>(file_, 58);
    section_headers_.count = load_or_zero<uint16_t>(file_, 60);
    if (section_headers_.entry_size < section_header_size ||
        !slice(file_, section_headers_.offset,
               uint64_t{section_headers_.count} * section_headers_.entry_size))
        section_headers_.count = 0;
    return {};
}

BootResult<> ElfFile::add_segment(ElfSegment const& segment) {
    if (segment.file_size > segment.memory_size)
        return BootError{"ELF: a segment is larger in the file than in memory"};
    if (!slice(file_, segment.offset, segment.file_size))
        return BootError{"ELF: a segment lies outside of the file"};
    if (wraps(segment.virtual_address, segment.memory_size) ||
        wraps(segment.physical_address, segment.memory_size))
        return BootError{"ELF: a segment wraps around the end of the address space"};
    // That offset and address agree modulo the alignment matters to those who map files only.
    if (segment.alignment > 1 && !std::has_single_bit(segment.alignment))
        return BootError{"ELF: a segment's alignment is not a power of two"};
    for (auto const& other : segments())
        if (segment.physical_address < other.physical_address + other.memory_size &&
            other.physical_address < segment.physical_address + segment.memory_size)
            return BootError{"ELF: segments overlap"};
    if (count_ == maximum_segments)
        return BootError{"ELF: too many segments"};
    segments_[count_++] = segment;
    return {};
}

BootResult<> ElfFile::read_segments() {
    for (uint16_t i = 0; i < program_headers_.count; ++i) {
        uint64_t at = program_headers_.offset + uint64_t{i} * program_headers_.entry_size;
        auto field = [&](uint64_t offset) { return load_or_zero<uint64_t>(file_, at + offset); };
        if (load_or_zero<uint32_t>(file_, at) != program_header_type_load || field(40) == 0)
            continue;
        TRY(add_segment({.flags = load_or_zero<uint32_t>(file_, at + 4),
                         .offset = field(8),
                         .virtual_address = field(16),
                         .physical_address = field(24),
                         .file_size = field(32),
                         .memory_size = field(40),
                         .alignment = field(48)}));
    }
    if (count_ == 0)
        return BootError{"ELF: nothing to load"};
    return {};
}

BootResult<ElfFile> ElfFile::parse(Bytes file) {
    ElfFile elf;
    elf.file_ = file;
    TRY(elf.read_header());
    TRY(elf.read_segments());
    return elf;
}

} // namespace hearth
