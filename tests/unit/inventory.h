// What there is of everything that can leak.
#pragma once

#include "arch/host/machine.h"
#include "memory/allocator.h"
#include "memory/layout.h"
#include "pv/descriptor_tables.h"

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <set>

namespace hearth::test {

struct Inventory {
    uint64_t frames, objects, stacks, mappings;
    bool operator==(Inventory const&) const = default;

    static Inventory now() {
        // Each window of descriptors that was ever in use keeps the pages of its GDT that are no
        // guest's, and a note: for the next vCPU.
        uint64_t kept = 0;
        std::set<uint64_t> windows;
        auto const& all = host::hypervisor_mappings();
        for (auto const& [address, entry] : all) {
            uint64_t const offset = address - layout::descriptor_windows;
            if (offset < layout::slot_size && offset % pv::window_size < pv::ldt_offset &&
                !entry.writable()) {
                ++kept;
                windows.insert(offset / pv::window_size);
            }
        }
        constexpr uint64_t most_windows = 64; // more vCPUs than ever live at once
        uint64_t const notes = std::min<uint64_t>(most_windows, windows.size());
        return {free_frame_count() + object_frame_count(), object_count() - notes,
                host::stack_count(), all.size() - kept};
    }
};

inline std::ostream& operator<<(std::ostream& to, Inventory const& i) {
    return to << i.frames << " frames free or for objects; in use: " << i.objects << " objects, "
              << i.stacks << " stacks, " << i.mappings << " mappings";
}

} // namespace hearth::test
