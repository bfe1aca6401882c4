// What Hearth reads of EFI's own tables.
#pragma once

#include "acpi/physical_view.h"
#include "base/result.h"

namespace hearth {

/// Where the configuration table says that ACPI's root pointer is; version 2.0's before 1.0's.
/// (UEFI 2.10, 4.3 and 4.6) inval: no sound system table; noent: no ACPI.
Result<PhysicalAddress> find_efi_root_pointer(PhysicalView& memory, PhysicalAddress system_table);

} // namespace hearth
