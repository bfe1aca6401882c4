// All RAM is mapped at one place; these are the only ways from a frame to a pointer and back.
#pragma once

#include "base/address.h"
#include "base/result.h"
#include "memory/layout.h"

#include <cstring>

namespace hearth {

#ifdef HEARTH_HOSTED
extern uintptr_t direct_map_base; // the fake machine's memory
#else
inline constexpr uintptr_t direct_map_base = layout::direct_map;
#endif

template <class T>
T* direct(PhysicalAddress address) {
    // SAFETY: every frame in the frame table is mapped here, writable, for as long as Hearth runs.
    return reinterpret_cast<T*>(direct_map_base + address.raw());
}
template <class T>
T* direct(Mfn mfn) {
    return direct<T>(address_of(mfn));
}
inline PhysicalAddress physical_of(void const* pointer) {
    return PhysicalAddress{reinterpret_cast<uintptr_t>(pointer) - direct_map_base};
}
inline Mfn mfn_of(void const* pointer) { return frame_of(physical_of(pointer)); }

void zero_page(Mfn mfn);

/// The machine-to-physical table: what a PV guest reads to turn a machine frame into its own frame
/// number.
void set_m2p(Mfn mfn, uint64_t gfn);
uint64_t get_m2p(Mfn mfn);
/// Where the frames of the table itself lie: the first of the 2 MiB that covers `mfn`; nodata in a
/// hole.
Result<Mfn> m2p_frame(Mfn mfn);
inline constexpr uint64_t invalid_m2p_entry = ~uint64_t{0};

} // namespace hearth
