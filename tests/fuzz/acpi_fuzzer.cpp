// Any bytes as ACPI tables: the root pointer leads to a list of all tables in the input, which is
// then the memory. The checksums are made right, or nothing would get past them.
#include "acpi/tables.h"
#include "fuzz_memory.h"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

using namespace hearth;

namespace {

constexpr uint64_t base = 0xe0000, list_at = 64, tables_at = 1024;

template <class T>
void put(std::vector<std::byte>& to, uint64_t at, T value) {
    std::memcpy(to.data() + at, &value, sizeof value);
}

void fix_checksum(std::vector<std::byte>& bytes, uint64_t start, uint64_t size, uint64_t at) {
    bytes[at] = std::byte{0};
    unsigned sum = 0;
    for (uint64_t i = start; i < start + size; ++i)
        sum += static_cast<unsigned>(bytes[i]);
    bytes[at] = static_cast<std::byte>(-sum);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    std::vector<std::byte> memory(tables_at + size);
    std::memcpy(memory.data() + tables_at, data, size);
    std::memcpy(memory.data(), "RSD PTR ", 8);
    put<uint8_t>(memory, 15, 2);
    put<uint32_t>(memory, 20, 36);
    put<uint64_t>(memory, 24, base + list_at);
    fix_checksum(memory, 0, 20, 8);
    fix_checksum(memory, 0, 36, 32);
    // Tables follow each other by their own lengths.
    uint32_t count = 0;
    uint64_t at = tables_at;
    while (at + 36 <= memory.size() && count < 64) {
        uint32_t length;
        std::memcpy(&length, memory.data() + at + 4, sizeof length);
        length = std::clamp<uint32_t>(length, 36, static_cast<uint32_t>(memory.size() - at));
        put<uint32_t>(memory, at + 4, length);
        fix_checksum(memory, at, length, at + 9);
        put<uint64_t>(memory, list_at + 36 + count * 8, base + at);
        ++count;
        at += length;
    }
    std::memcpy(memory.data() + list_at, "XSDT", 4);
    put<uint32_t>(memory, list_at + 4, 36 + count * 8);
    fix_checksum(memory, list_at, 36 + count * 8, list_at + 9);

    FuzzMemory view{base, memory};
    auto tables = std::make_unique<acpi::Tables>();
    if (!acpi::read_tables(view, {}, *tables))
        __builtin_trap(); // root and list are sound
    for (auto const& segment : tables->pci_segments)
        if (segment.first_bus > segment.last_bus)
            __builtin_trap();
    // As it stands, without repaired checksums.
    FuzzMemory raw{base, fuzz_bytes(data, size)};
    auto others = std::make_unique<acpi::Tables>();
    [[maybe_unused]] auto result = acpi::read_tables(raw, {}, *others);
    return 0;
}
