#include "memory/stacks.h"

#include "memory/allocator.h"
#include "memory/paging.h"

#include <atomic>

namespace hearth {
namespace {
constexpr uint64_t stack_pages = 4;
constexpr uint64_t stride = 2 * stack_pages * page_size;
constinit std::atomic<uint64_t> next_stack{layout::stacks};
} // namespace

Result<uint64_t> allocate_stack() {
    uint64_t const bottom = next_stack.fetch_add(stride) + stack_pages * page_size;
    for (uint64_t i = 0; i < stack_pages; ++i)
        TRY(map_hypervisor_page(bottom + i * page_size, TRY(allocate_zeroed_frame()),
                                mapping::data));
    return bottom;
}

} // namespace hearth
