// The root pointer of ACPI (RSDP): where the other tables are.
#pragma once

#include "acpi/physical_view.h"
#include "base/result.h"

#include <array>
#include <optional>

namespace hearth {

/// An address, or the structure itself where the loader passes a copy; neither when it has to be
/// searched for.
struct RootPointer {
    static constexpr size_t maximum_size = 36;

    std::optional<PhysicalAddress> address;
    std::array<std::byte, maximum_size> copy{};
    size_t copy_size = 0; // 20 (ACPI 1.0) or 36; 0 without a copy

    [[nodiscard]] Bytes copied() const { return Bytes{copy}.first(copy_size); }
};

/// Searches where a BIOS puts it: the first KiB of the extended BIOS data area, then 0xe0000 to
/// 0xfffff (ACPI 6.4 section 5.2.5.1). noent when it is not there.
Result<PhysicalAddress> find_root_pointer(PhysicalView& memory);

} // namespace hearth
