#include "memory/stacks.h"

#include "memory/address_slots.h"
#include "memory/allocator.h"
#include "memory/paging.h"
#include "memory/tlb.h"

namespace hearth {
namespace {
constexpr uint64_t stack_pages = 4;
constexpr uint64_t stride = 2 * stack_pages * page_size;
constinit AddressSlots slots{layout::stacks, stride};
} // namespace

Result<uint64_t> allocate_stack() {
    uint64_t const bottom = TRY(slots.take()) + stack_pages * page_size;
    for (uint64_t i = 0; i < stack_pages; ++i) {
        auto const frame = allocate_zeroed_frame();
        if (frame && map_hypervisor_page(bottom + i * page_size, *frame, mapping::data))
            continue;
        if (frame)
            free_frames(*frame, 0);
        free_stack(bottom);
        return Errno::nomem;
    }
    return bottom;
}

void free_stack(uint64_t bottom) {
    for (uint64_t i = 0; i < stack_pages; ++i) {
        uint64_t const address = bottom + i * page_size;
        Pte const entry = hypervisor_translation(address);
        if (!entry.present())
            break;
        unmap_hypervisor_page(address);
        flush_tlb_page(all_cpus(), address);
        free_frames(entry.mfn(), 0);
    }
    slots.give_back(bottom - stack_pages * page_size);
}

} // namespace hearth
