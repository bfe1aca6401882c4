// Sets of CPUs as bitmaps in the toolstack's memory, of whatever length it has room for.
#pragma once

#include "abi/domctl.h"
#include "base/result.h"
#include "cpu/mask.h"

namespace hearth {

/// Bits beyond the CPUs that there can be are not looked at. fault.
Result<CpuMask> read_cpus(abi::ControlBitmap const& bitmap);
/// As much as there is room for; the rest of the room is cleared. fault.
Result<> write_cpus(abi::ControlBitmap const& bitmap, CpuMask cpus);

} // namespace hearth
