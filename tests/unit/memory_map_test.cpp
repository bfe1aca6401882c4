#include "boot/memory_map.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace hearth {
namespace {

using enum MemoryType;

PhysicalAddress at(uint64_t a) { return PhysicalAddress{a}; }

std::vector<MemoryRegion> list(MemoryMap const& map) { return {map.begin(), map.end()}; }

TEST(MemoryMap, SortsAndMerges) {
    MemoryMap map;
    ASSERT_TRUE(map.add(at(0x3000), 0x1000, usable));
    ASSERT_TRUE(map.add(at(0x1000), 0x1000, usable));
    ASSERT_TRUE(map.add(at(0x8000), 0x1000, reserved));
    ASSERT_TRUE(map.add(at(0x2000), 0x1000, usable));
    ASSERT_TRUE(map.add(at(0x9000), 0, usable));
    EXPECT_EQ(list(map), (std::vector<MemoryRegion>{{at(0x1000), 0x3000, usable},
                                                    {at(0x8000), 0x1000, reserved}}));
    EXPECT_EQ(map.usable_bytes(), 0x3000u);
    EXPECT_EQ(map.usable_end(), 0x4000u);
}

TEST(MemoryMap, TheMoreRestrictiveTypeWinsInEitherOrder) {
    MemoryMap first, second;
    ASSERT_TRUE(first.add(at(0), 0x10000, usable));
    ASSERT_TRUE(first.add(at(0x4000), 0x2000, acpi_nvs));
    ASSERT_TRUE(second.add(at(0x4000), 0x2000, acpi_nvs));
    ASSERT_TRUE(second.add(at(0), 0x10000, usable));
    EXPECT_EQ(list(first), (std::vector<MemoryRegion>{{at(0), 0x4000, usable},
                                                      {at(0x4000), 0x2000, acpi_nvs},
                                                      {at(0x6000), 0xa000, usable}}));
    EXPECT_EQ(list(first), list(second));
}

TEST(MemoryMap, OverflowingRegionsAreRefused) {
    MemoryMap map;
    EXPECT_EQ(map.add(at(~uint64_t{0} - 10), 12, usable).error(), Errno::inval);
    EXPECT_EQ(map.reserve(at(~uint64_t{0}), 2).error(), Errno::inval);
    EXPECT_TRUE(map.add(at(~uint64_t{0} - 10), 10, usable));
    map.normalise();
    EXPECT_EQ(map.size(), 0u);
}

TEST(MemoryMap, UsableIsRoundedInward) {
    MemoryMap map;
    ASSERT_TRUE(map.add(at(0x1800), 0x1000, usable)); // no whole page
    ASSERT_TRUE(map.add(at(0x5001), 0x3000, usable));
    ASSERT_TRUE(map.add(at(0x8001), 0xfff, usable)); // joins the one before
    ASSERT_TRUE(map.add(at(0xa800), 0x10, reserved));
    map.normalise();
    EXPECT_EQ(list(map), (std::vector<MemoryRegion>{{at(0x6000), 0x3000, usable},
                                                    {at(0xa800), 0x10, reserved}}));
}

TEST(MemoryMap, LimitMakesHighMemoryUnusable) {
    MemoryMap map;
    ASSERT_TRUE(map.add(at(0), 0x10000, usable));
    ASSERT_TRUE(map.add(at(0x20000), 0x10000, reserved));
    ASSERT_TRUE(map.add(at(0x40000), 0x10000, usable));
    ASSERT_TRUE(map.limit_usable(0x8000));
    EXPECT_EQ(list(map), (std::vector<MemoryRegion>{{at(0), 0x8000, usable},
                                                    {at(0x8000), 0x8000, unusable},
                                                    {at(0x20000), 0x10000, reserved},
                                                    {at(0x40000), 0x10000, unusable}}));
}

TEST(MemoryMap, ReserveTakesFromUsableOnly) {
    MemoryMap map;
    ASSERT_TRUE(map.add(at(0), 0x4000, usable));
    ASSERT_TRUE(map.add(at(0x4000), 0x4000, acpi_reclaimable));
    ASSERT_TRUE(map.reserve(at(0x2000), 0x10000));
    EXPECT_EQ(list(map), (std::vector<MemoryRegion>{{at(0), 0x2000, usable},
                                                    {at(0x2000), 0x2000, reserved},
                                                    {at(0x4000), 0x4000, acpi_reclaimable}}));
    EXPECT_TRUE(map.covers(at(0x1000), 0x1000, usable));
    EXPECT_FALSE(map.covers(at(0x1000), 0x1001, usable));
    EXPECT_FALSE(map.covers(at(0x1000), ~uint64_t{0}, usable));
}

TEST(MemoryMap, AFullMapSaysSoAndStaysSound) {
    MemoryMap map;
    for (size_t i = 0; i < MemoryMap::capacity; ++i)
        ASSERT_TRUE(map.add(at(i * 0x2000), 0x1000, usable));
    EXPECT_EQ(map.add(at(0x10000000), 0x1000, usable).error(), Errno::nospc);
    EXPECT_EQ(map.add(at(0x100), 0x10, reserved).error(), Errno::nospc);
    EXPECT_TRUE(map.add(at(0x1000), 0x1000, usable)); // fills a gap: room for one more
    EXPECT_TRUE(map.add(at(0), 0x10, reserved));
    EXPECT_EQ(map.size(), MemoryMap::capacity);
}

/// Against a model with one entry for each byte of a small space.
TEST(MemoryMap, AgreesWithAByteModel) {
    constexpr unsigned space = 64;
    std::mt19937 random{1};
    auto rank = [](MemoryType t) {
        constexpr unsigned order[] = {0, 1, 4, 2, 3, 5}; // by number; 0 is "nothing"
        return order[static_cast<unsigned>(t)];
    };
    for (int round = 0; round < 2000; ++round) {
        MemoryMap map;
        MemoryType model[space] = {};
        for (int step = 0; step < 12; ++step) {
            unsigned start = random() % space, size = random() % (space - start + 1);
            unsigned operation = random() % 8;
            if (operation < 6) {
                auto type = static_cast<MemoryType>(1 + random() % 5);
                ASSERT_TRUE(map.add(at(start), size, type));
                for (unsigned i = start; i < start + size; ++i)
                    if (rank(type) > rank(model[i]))
                        model[i] = type;
            } else {
                bool reserve = operation == 6;
                ASSERT_TRUE(reserve ? map.reserve(at(start), size) : map.limit_usable(start));
                for (unsigned i = start; i < (reserve ? start + size : space); ++i)
                    if (model[i] == usable)
                        model[i] = reserve ? reserved : unusable;
            }
            MemoryType seen[space] = {};
            uint64_t previous_end = 0;
            MemoryType previous_type{};
            for (auto const& region : map) {
                ASSERT_GT(region.size, 0u);
                ASSERT_GE(region.start.raw(), previous_end);
                ASSERT_FALSE(region.start.raw() == previous_end && region.type == previous_type);
                previous_end = region.end();
                previous_type = region.type;
                for (uint64_t i = region.start.raw(); i < region.end(); ++i)
                    seen[i] = region.type;
            }
            ASSERT_TRUE(std::equal(std::begin(model), std::end(model), std::begin(seen)));
        }
    }
}

struct EfiDescriptor {
    uint32_t type, padding;
    uint64_t start, virtual_start, pages, attributes, unknown;
};

Bytes bytes(std::vector<EfiDescriptor> const& list) { return std::as_bytes(std::span{list}); }

TEST(MemoryMap, EfiTypes) {
    constexpr uint64_t wb = 8, runtime = uint64_t{1} << 63;
    std::vector<EfiDescriptor> descriptors{
        {7, 0, 0x0000, 0, 1, wb, 0},           {4, 0, 0x1000, 0, 1, wb, 0},
        {6, 0, 0x2000, 0, 1, wb | runtime, 0}, {9, 0, 0x3000, 0, 1, wb, 0},
        {10, 0, 0x4000, 0, 1, wb, 0},          {11, 0, 0x5000, 0, 1, 0, 0},
        {2, 0, 0x6000, 0, 1, wb, 0},           {7, 0, 0x7000, 0, 1, 1, 0},
        {8, 0, 0x8000, 0, 1, wb, 0},           {4, 0, 0x9000, 0, 1, wb | runtime, 0}};
    MemoryMap map;
    ASSERT_TRUE(add_efi_memory_map(map, bytes(descriptors), sizeof(EfiDescriptor)));
    EXPECT_EQ(list(map), (std::vector<MemoryRegion>{{at(0), 0x2000, usable},
                                                    {at(0x2000), 0x1000, reserved},
                                                    {at(0x3000), 0x1000, acpi_reclaimable},
                                                    {at(0x4000), 0x1000, acpi_nvs},
                                                    {at(0x5000), 0x1000, reserved},
                                                    {at(0x6000), 0x1000, usable},
                                                    {at(0x7000), 0x1000, reserved},
                                                    {at(0x8000), 0x1000, unusable},
                                                    {at(0x9000), 0x1000, reserved}}));
}

TEST(MemoryMap, HostileEfiMaps) {
    MemoryMap map;
    std::vector<EfiDescriptor> huge{{7, 0, 0, 0, uint64_t{1} << 60, 8, 0}};
    EXPECT_FALSE(add_efi_memory_map(map, bytes(huge), sizeof(EfiDescriptor)));
    EXPECT_FALSE(add_efi_memory_map(map, bytes(huge), 0));
    EXPECT_FALSE(add_efi_memory_map(map, bytes(huge), 39));
    EXPECT_FALSE(add_efi_memory_map(map, bytes(huge), ~uint64_t{0}));
    EXPECT_TRUE(add_efi_memory_map(map, bytes(huge).first(20), 48)); // cut short: none is whole
    EXPECT_EQ(map.size(), 0u);
}

TEST(MemoryMap, UnknownFirmwareTypesAreReserved) {
    EXPECT_EQ(memory_type_from_e820(1), usable);
    EXPECT_EQ(memory_type_from_e820(0), reserved);
    EXPECT_EQ(memory_type_from_e820(7), reserved);
}

} // namespace
} // namespace hearth
