// One parser for each kind of table. `table` is all of it, header included, its checksum right.
#pragma once

#include "acpi/tables.h"

namespace hearth::acpi {

inline constexpr uint64_t header_size = 36;

void parse_madt(Bytes table, Tables& tables);
void parse_fadt(Bytes table, Tables& tables);
void parse_hpet(Bytes table, Tables& tables);
void parse_mcfg(Bytes table, Tables& tables);
void parse_srat(Bytes table, Tables& tables);

} // namespace hearth::acpi
