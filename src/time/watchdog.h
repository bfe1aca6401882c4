// The watchdog: finds a CPU that has been in the hypervisor for seconds without a preemption point.
#pragma once

#include "base/result.h"

#include <cstdint>

namespace hearth {

/// From now on, with every CPU that is online: one that takes no interrupt for so long reports that
/// and ends the machine. nodev: no interval timer whose
/// interrupt arrives everywhere as an NMI.
Result<> watchdog_start(uint32_t timeout_seconds);

} // namespace hearth
