#include "boot/efi.h"
#include "test_memory.h"

#include <array>
#include <gtest/gtest.h>

namespace hearth {
namespace {

using Guid = std::array<uint8_t, 16>;
constexpr uint64_t table_at = 0x1000, entries_at = 0x2000;
constexpr Guid acpi_1 = {0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11,
                         0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d};
constexpr Guid acpi_2 = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                         0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};

class FakeEfi {
public:
    test::TestMemory memory{table_at, 0x3000};

    FakeEfi() { memory.put<uint64_t>(table_at, 0x5453595320494249); }
    void entries(uint64_t count, uint64_t where = entries_at) {
        memory.put<uint64_t>(table_at + 104, count);
        memory.put<uint64_t>(table_at + 112, where);
    }
    void entry(unsigned index, Guid const& guid, uint64_t pointer) {
        memory.put(entries_at + index * 24, guid);
        memory.put(entries_at + index * 24 + 16, pointer);
    }
    Result<PhysicalAddress> find(uint64_t table = table_at) {
        return find_efi_root_pointer(memory, PhysicalAddress{table});
    }
};

TEST(Efi, PrefersTheNewerRootPointer) {
    FakeEfi efi;
    efi.entries(2);
    efi.entry(0, acpi_1, 0xaaaa);
    efi.entry(1, acpi_2, 0xbbbb);
    EXPECT_EQ(efi.find()->raw(), 0xbbbbu);
    efi.entries(1);
    EXPECT_EQ(efi.find()->raw(), 0xaaaau);
}

TEST(Efi, SaysWhenThereIsNone) {
    FakeEfi efi;
    efi.entries(3);
    EXPECT_EQ(efi.find().error(), Errno::noent);
}

TEST(Efi, HostileTablesAreRefused) {
    FakeEfi efi;
    efi.entries(~uint64_t{0});
    EXPECT_EQ(efi.find().error(), Errno::inval);
    efi.entries(1000, 0x3ff0); // runs off the end of what can be seen
    EXPECT_EQ(efi.find().error(), Errno::noent);
    efi.memory.put<uint64_t>(table_at, 0);
    EXPECT_EQ(efi.find().error(), Errno::inval);
    EXPECT_EQ(efi.find(0x10000).error(), Errno::inval);
}

} // namespace
} // namespace hearth
