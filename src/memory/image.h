// Where the hypervisor's own image lies.
#pragma once

#include "base/address.h"

#include <array>

namespace hearth {

struct ImageSection {
    uint64_t start, end; // linear, page aligned
    uint64_t flags;      // of its page-table entries: W^X
};
std::array<ImageSection, 3> image_sections();
PhysicalAddress image_physical(uint64_t linear);
/// First and last+1 physical byte, bss included.
PhysicalAddress image_start();
PhysicalAddress image_end();

} // namespace hearth
