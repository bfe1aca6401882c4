// The frame allocator: buddies in two zones, since some devices and tables need memory below 4 GiB.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <new>
#include <utility>

namespace hearth {

inline constexpr unsigned max_order = 18; // 1 GiB
inline constexpr Mfn any_frame{~uint64_t{0} >> page_shift};

/// 2^order contiguous, naturally aligned frames, with undefined contents; state is
/// PageState::hypervisor, all below `end`. nomem when there are none, or not among the first of
/// each size. Prefers those above 4 GiB.
Result<Mfn> allocate_frames(unsigned order, Mfn end = any_frame);
/// One zeroed frame for the hypervisor's own use.
Result<Mfn> allocate_zeroed_frame();
void free_frames(Mfn mfn, unsigned order);
/// Hands boot memory to the allocator: [start, end), all RAM, unused.
void donate_frames(Mfn start, Mfn end);
uint64_t free_frame_count();
uint64_t total_frame_count();

/// Small objects of the hypervisor, zeroed. Sizes above 2 KiB take whole frames.
Result<void*> allocate_bytes(size_t size);
void free_bytes(void* pointer);
/// Objects of less than whole frames that are in use, and the frames that there are for them: at
/// most one of each size has none in use.
uint64_t object_count();
uint64_t object_frame_count();

template <class T, class... A>
Result<T*> make(A&&... arguments) {
    void* place = TRY(allocate_bytes(sizeof(T)));
    return new (place) T(std::forward<A>(arguments)...);
}
template <class T>
void destroy(T* object) {
    if (!object)
        return;
    object->~T();
    free_bytes(object);
}

} // namespace hearth
