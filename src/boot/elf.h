// ELF64 for x86-64, read from a buffer that anybody may have written. Layouts: System V gABI,
// chapters 4 and 5.
#pragma once

#include "acpi/physical_view.h"
#include "boot/boot_result.h"

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace hearth {

struct ElfSegment {
    enum Flags : uint32_t { execute = 1, write = 2, read = 4 };

    uint32_t flags = 0;
    uint64_t offset = 0; // in the file
    uint64_t virtual_address = 0;
    uint64_t physical_address = 0;
    uint64_t file_size = 0;
    uint64_t memory_size = 0;
    uint64_t alignment = 0;
};

struct ElfNote {
    std::string_view name; // without its terminating zero
    uint32_t type = 0;
    Bytes description;
};

/// Splits the contents of a note segment. Stops quietly at the first note that does not fit.
class ElfNotes {
    Bytes rest_;

public:
    explicit ElfNotes(Bytes notes) : rest_{notes} {}
    std::optional<ElfNote> next();
};

/// A checked executable: every loadable segment lies within the file, its addresses do not wrap
/// around, and no two of them overlap in physical addresses.
class ElfFile {
public:
    static constexpr size_t maximum_segments = 32;

    static BootResult<ElfFile> parse(Bytes file);

    [[nodiscard]] uint64_t entry() const { return entry_; }
    /// Loadable segments that occupy memory, in the file's order.
    [[nodiscard]] std::span<ElfSegment const> segments() const {
        return {segments_.data(), count_};
    }
    [[nodiscard]] Bytes contents(ElfSegment const& segment) const {
        return file_.subspan(segment.offset, segment.file_size);
    }

    /// Calls visit(ElfNote) for the notes of all note segments, or of all note sections when no
    /// segment holds any, until it returns false.
    template <class Visit>
    void for_each_note(Visit&& visit) const {
        if (!visit_notes(program_headers_, program_header_type_note, visit))
            visit_notes(section_headers_, section_type_note, visit);
    }

private:
    /// A table of program or section headers, inside the file.
    struct Table {
        uint64_t offset = 0;
        uint16_t count = 0;
        uint16_t entry_size = 0;
        // Where an entry keeps what we need.
        uint16_t type_at, offset_at, size_at;
    };
    static constexpr uint32_t program_header_type_load = 1;
    static constexpr uint32_t program_header_type_note = 4;
    static constexpr uint32_t section_type_note = 7;

    template <class Visit>
    bool visit_notes(Table const& table, uint32_t type, Visit& visit) const {
        bool any = false;
        for (uint16_t i = 0; i < table.count; ++i) {
            uint64_t at = table.offset + uint64_t{i} * table.entry_size;
            if (load_or_zero<uint32_t>(file_, at + table.type_at) != type)
                continue;
            auto contents = slice(file_, load_or_zero<uint64_t>(file_, at + table.offset_at),
                                  load_or_zero<uint64_t>(file_, at + table.size_at));
            ElfNotes notes{contents.value_or(Bytes{})};
            while (auto note = notes.next()) {
                any = true;
                if (!visit(*note))
                    return true;
            }
        }
        return any;
    }
    BootResult<> read_header();
    BootResult<> read_segments();
    BootResult<> add_segment(ElfSegment const& segment);

    Bytes file_;
    uint64_t entry_ = 0;
    std::array<ElfSegment, maximum_segments> segments_{};
    size_t count_ = 0;
    Table program_headers_{.type_at = 0, .offset_at = 8, .size_at = 32};
    Table section_headers_{.type_at = 4, .offset_at = 24, .size_at = 32};
};

} // namespace hearth
