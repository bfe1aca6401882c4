#include "boot/elf.h"

#include "elf_builder.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth {
namespace {

using namespace test;

std::string_view reason(ByteVector const& file) {
    auto elf = ElfFile::parse(bytes(file));
    return elf ? "accepted" : elf.error().reason;
}

TEST(Elf, ReadsSegments) {
    auto file = elf_file({{0xffffffff81000000, 0x1000000, 100, 200}, {0, 0x3000000, 0, 4096}}, {});
    auto elf = ElfFile::parse(bytes(file));
    ASSERT_TRUE(elf) << elf.error().reason;
    EXPECT_EQ(elf->entry(), 0x1000000u);
    ASSERT_EQ(elf->segments().size(), 2u);
    auto const& first = elf->segments()[0];
    EXPECT_EQ(first.virtual_address, 0xffffffff81000000u);
    EXPECT_EQ(first.physical_address, 0x1000000u);
    EXPECT_EQ(first.memory_size, 200u);
    ASSERT_EQ(elf->contents(first).size(), 100u);
    EXPECT_EQ(elf->contents(first)[99], std::byte{0x90});
    EXPECT_EQ(elf->segments()[1].physical_address, 0x3000000u);
}

TEST(Elf, EveryTruncationIsRefused) {
    auto file = elf_file({{0, 0x1000000, 100, 200}}, {});
    for (size_t size = 0; size < file.size(); ++size) {
        ByteVector cut(file.begin(), file.begin() + static_cast<ptrdiff_t>(size));
        EXPECT_NE(reason(cut), "accepted") << size;
    }
    EXPECT_EQ(reason(file), "accepted");
}

TEST(Elf, HeadersThatLie) {
    auto const good = elf_file({{0, 0x1000000, 100, 200}}, {});
    auto with = [&](size_t at, auto value) {
        auto file = good;
        put(file, at, value);
        return reason(file);
    };
    EXPECT_EQ(with(4, uint8_t{1}), "not a 64-bit little-endian ELF file");
    EXPECT_EQ(with(5, uint8_t{2}), "not a 64-bit little-endian ELF file");
    EXPECT_EQ(with(16, uint16_t{1}), "ELF: not an executable");
    EXPECT_EQ(with(18, uint16_t{3}), "ELF: not for x86-64");
    EXPECT_EQ(with(32, ~uint64_t{0}), "ELF: program headers lie outside of the file");
    EXPECT_EQ(with(54, uint16_t{8}), "ELF: program headers are too short");
    EXPECT_EQ(with(56, uint16_t{0xffff}), "ELF: program headers lie outside of the file");
    EXPECT_EQ(with(56, uint16_t{0}), "ELF: nothing to load");
    EXPECT_EQ(with(40, ~uint64_t{0}), "accepted"); // sections are optional
}

TEST(Elf, SegmentsThatLie) {
    auto one = [](Segment s) { return reason(elf_file({s}, {})); };
    EXPECT_EQ(one({0, 0, 100, 200, 4096, 1, ~uint64_t{0} - 50}),
              "ELF: a segment lies outside of the file");
    EXPECT_EQ(one({0, 0, 1 << 30, 1 << 30, 4096, 1, 64}),
              "ELF: a segment lies outside of the file");
    EXPECT_EQ(one({0, 0, 200, 100}), "ELF: a segment is larger in the file than in memory");
    EXPECT_EQ(one({0, ~uint64_t{0} - 100, 10, 200}),
              "ELF: a segment wraps around the end of the address space");
    EXPECT_EQ(one({~uint64_t{0} - 100, 0, 10, 200}),
              "ELF: a segment wraps around the end of the address space");
    EXPECT_EQ(one({0, 0, 10, 200, 3}), "ELF: a segment's alignment is not a power of two");
    EXPECT_EQ(reason(elf_file({{0, 0x1000, 10, 0x1000}, {0x8000, 0x1fff, 10, 10}}, {})),
              "ELF: segments overlap");
    EXPECT_EQ(reason(elf_file({{0, 0x1000, 10, 0x1000}, {0x8000, 0x2000, 10, 10}}, {})),
              "accepted");
    std::vector<Segment> many;
    for (uint64_t i = 0; i <= ElfFile::maximum_segments; ++i)
        many.push_back({i << 12, i << 12, 1, 1});
    EXPECT_EQ(reason(elf_file(many, {})), "ELF: too many segments");
}

std::string note_list(ByteVector const& file) {
    auto elf = ElfFile::parse(bytes(file));
    std::string text;
    elf->for_each_note([&](ElfNote const& note) {
        text += std::string{note.name} + std::to_string(note.type) + ":" +
                std::to_string(note.description.size()) + " ";
        return true;
    });
    return text;
}

TEST(Elf, NotesFromSegmentsAndElseFromSections) {
    auto list = notes({number_note(1, 2), text_note(6, "linux"), {7, {}, "GNU"}});
    EXPECT_EQ(note_list(elf_file({{0, 0, 1, 1}}, list)), "Xen1:8 Xen6:6 GNU7:0 ");
    EXPECT_EQ(note_list(elf_file({{0, 0, 1, 1}}, list, true)), "Xen1:8 Xen6:6 GNU7:0 ");
}

TEST(Elf, NotesThatLie) {
    auto list = notes({number_note(1, 2), number_note(3, 4)});
    size_t second = list.size() / 2;
    for (uint32_t size : {0x1000u, 0x7fffffffu, 0xfffffffcu, 0xfffffffdu, 0xffffffffu}) {
        auto name = list, description = list;
        put(name, second, size);
        put(description, second + 4, size);
        EXPECT_EQ(note_list(elf_file({{0, 0, 1, 1}}, name)), "Xen1:8 ");
        EXPECT_EQ(note_list(elf_file({{0, 0, 1, 1}}, description)), "Xen1:8 ");
    }
    auto outside = elf_file({{0, 0, 1, 1}}, list);
    put(outside, program_headers_at + program_header_size + 8, ~uint64_t{0} - 3);
    EXPECT_EQ(note_list(outside), "");
}

} // namespace
} // namespace hearth
