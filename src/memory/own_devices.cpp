#include "memory/own_devices.h"

#include "base/range_set.h"
#include "console/log.h"

namespace hearth {
namespace {

constinit RangeSet own_frames;

} // namespace

void claim_device_frames(Mfn first, Mfn last) {
    if (!own_frames.add(first.raw(), last.raw()))
        panic("too many ranges of the hypervisor's own");
}

bool meets_own_device(Mfn first, Mfn last) { return own_frames.meets(first.raw(), last.raw()); }

} // namespace hearth
