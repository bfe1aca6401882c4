#include "domain/guest_memory.h"

#include "arch/intrinsics.h"
#include "memory/layout.h"

namespace hearth {

Result<> copy_from_guest(void* to, GuestAddress from, size_t size) {
    if (!layout::guest_range_ok(from.raw(), size))
        return Errno::fault;
    // SAFETY: the range lies outside the hypervisor; copy_guest survives faults.
    if (arch::copy_guest(to, reinterpret_cast<void const*>(from.raw()), size) != 0)
        return Errno::fault;
    return {};
}

Result<> copy_to_guest(GuestAddress to, void const* from, size_t size) {
    if (!layout::guest_range_ok(to.raw(), size))
        return Errno::fault;
    // SAFETY: as above.
    if (arch::copy_guest(reinterpret_cast<void*>(to.raw()), from, size) != 0)
        return Errno::fault;
    return {};
}

} // namespace hearth
