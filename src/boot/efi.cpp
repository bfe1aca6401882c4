#include "boot/efi.h"

#include <array>
#include <cstring>

namespace hearth {
namespace {

constexpr uint64_t system_table_signature = 0x5453595320494249; // "IBI SYST"
constexpr uint64_t system_table_size = 120;
constexpr uint64_t entry_count_at = 104, entries_at = 112;
constexpr uint64_t entry_size = 24, pointer_in_entry = 16;
constexpr uint64_t most_entries = 1024;

using Guid = std::array<uint8_t, 16>;
constexpr Guid acpi_2{0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                      0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
constexpr Guid acpi_1{0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11,
                      0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d};

} // namespace

Result<PhysicalAddress> find_efi_root_pointer(PhysicalView& memory, PhysicalAddress system_table) {
    Bytes const table = memory.view(system_table, system_table_size);
    if (load_or_zero<uint64_t>(table, 0) != system_table_signature)
        return Errno::inval;
    uint64_t const count = load_or_zero<uint64_t>(table, entry_count_at);
    PhysicalAddress const first{load_or_zero<uint64_t>(table, entries_at)};
    if (count > most_entries)
        return Errno::inval;
    Bytes const entries = memory.view(first, count * entry_size);
    for (Guid const& wanted : {acpi_2, acpi_1})
        for (uint64_t i = 0; i < count; ++i)
            if (auto const guid = load<Guid>(entries, i * entry_size); guid && *guid == wanted)
                return PhysicalAddress{
                    load_or_zero<uint64_t>(entries, i * entry_size + pointer_in_entry)};
    return Errno::noent;
}

} // namespace hearth
