// What there is of everything that can leak.
#pragma once

#include "arch/host/machine.h"
#include "memory/allocator.h"
#include "memory/layout.h"
#include "pv/descriptor_tables.h"

#include <algorithm>
#include <cstdint>
#include <ostream>

namespace hearth::test {

struct Inventory {
    uint64_t frames, objects, stacks, mappings;
    bool operator==(Inventory const&) const = default;

    static Inventory now() {
        // Each window of descriptors that was ever in use keeps the page that is the same for all,
        // and a note: for the next vCPU.
        auto const is_kept = [](auto const& mapping) {
            uint64_t const offset = mapping.first - layout::descriptor_windows;
            return offset < layout::slot_size &&
                   offset % pv::window_size == pv::gdt_guest_frames * page_size;
        };
        constexpr uint64_t most_kept = 64; // more vCPUs than ever live at once
        auto const& all = host::hypervisor_mappings();
        auto const kept = std::min<uint64_t>(most_kept, std::ranges::count_if(all, is_kept));
        return {free_frame_count() + object_frame_count(), object_count() - kept,
                host::stack_count(), all.size() - kept};
    }
};

inline std::ostream& operator<<(std::ostream& to, Inventory const& i) {
    return to << i.frames << " frames free or for objects; in use: " << i.objects << " objects, "
              << i.stacks << " stacks, " << i.mappings << " mappings";
}

} // namespace hearth::test
