// Makes small ELF files and Xen notes for tests.
#pragma once

#include "acpi/physical_view.h"

#include <cstring>
#include <string_view>
#include <vector>

namespace hearth::test {

using ByteVector = std::vector<std::byte>;

inline Bytes bytes(ByteVector const& v) { return {v.data(), v.size()}; }

template <class T>
void put(ByteVector& to, size_t at, T value) {
    if (to.size() < at + sizeof value)
        to.resize(at + sizeof value);
    std::memcpy(to.data() + at, &value, sizeof value);
}

inline void put_text(ByteVector& to, size_t at, std::string_view text) {
    if (to.size() < at + text.size())
        to.resize(at + text.size());
    std::memcpy(to.data() + at, text.data(), text.size());
}

struct Note {
    uint32_t type;
    ByteVector description;
    std::string_view name = "Xen";
};

inline Note number_note(uint32_t type, uint64_t value) {
    ByteVector v;
    put(v, 0, value);
    return {type, v};
}
inline Note text_note(uint32_t type, std::string_view text) {
    ByteVector v;
    put_text(v, 0, text);
    v.push_back(std::byte{0});
    return {type, v};
}

inline ByteVector notes(std::vector<Note> const& list) {
    ByteVector v;
    for (auto const& note : list) {
        size_t at = v.size();
        put<uint32_t>(v, at, static_cast<uint32_t>(note.name.size() + 1));
        put<uint32_t>(v, at + 4, static_cast<uint32_t>(note.description.size()));
        put<uint32_t>(v, at + 8, note.type);
        put_text(v, at + 12, note.name);
        v.resize(align_up(v.size() + 1, 4));
        v.insert(v.end(), note.description.begin(), note.description.end());
        v.resize(align_up(v.size(), 4));
    }
    return v;
}

struct Segment {
    uint64_t virtual_address, physical_address, file_size, memory_size;
    uint64_t alignment = 4096;
    uint32_t type = 1;
    uint64_t offset = 0; // chosen when 0
};

constexpr size_t program_headers_at = 64;
constexpr size_t program_header_size = 56;

inline ByteVector elf_file(std::vector<Segment> const& segments, ByteVector const& note_bytes,
                           bool notes_in_section = false) {
    ByteVector v(program_headers_at);
    put_text(v, 0,
             std::string_view{"\x7f"
                              "ELF\x02\x01\x01",
                              7});
    put<uint16_t>(v, 16, 2);
    put<uint16_t>(v, 18, 62);
    put<uint32_t>(v, 20, 1);
    put<uint64_t>(v, 24, 0x1000000);
    put<uint64_t>(v, 32, program_headers_at);
    put<uint16_t>(v, 52, 64);
    put<uint16_t>(v, 54, program_header_size);
    put<uint16_t>(v, 56, static_cast<uint16_t>(segments.size() + !notes_in_section));
    put<uint16_t>(v, 58, 64);
    size_t at = program_headers_at;
    v.resize(at + (segments.size() + 1) * program_header_size);
    auto header = [&](uint32_t type, uint64_t offset, Segment const& s) {
        put<uint32_t>(v, at, type);
        put<uint32_t>(v, at + 4, 5);
        put<uint64_t>(v, at + 8, offset);
        put<uint64_t>(v, at + 16, s.virtual_address);
        put<uint64_t>(v, at + 24, s.physical_address);
        put<uint64_t>(v, at + 32, s.file_size);
        put<uint64_t>(v, at + 40, s.memory_size);
        put<uint64_t>(v, at + 48, s.alignment);
        at += program_header_size;
    };
    for (auto const& segment : segments) {
        uint64_t offset = segment.offset;
        if (offset == 0) {
            offset = v.size();
            v.resize(v.size() + segment.file_size, std::byte{0x90});
        }
        header(segment.type, offset, segment);
    }
    size_t notes_at = v.size();
    v.insert(v.end(), note_bytes.begin(), note_bytes.end());
    if (notes_in_section) {
        size_t section = v.size();
        put<uint64_t>(v, 40, section);
        put<uint16_t>(v, 60, 1);
        v.resize(section + 64);
        put<uint32_t>(v, section + 4, 7);
        put<uint64_t>(v, section + 24, notes_at);
        put<uint64_t>(v, section + 32, note_bytes.size());
    } else {
        header(4, notes_at, {0, 0, note_bytes.size(), note_bytes.size(), 4});
    }
    return v;
}

} // namespace hearth::test
