// The PVH entry: how QEMU's -kernel and hypervisors start us (public/arch-x86/hvm/start_info.h).
#pragma once

#include "boot/boot_info.h"
#include "boot/boot_result.h"

namespace hearth {

/// Whether EBX at entry points to an hvm_start_info.
bool is_pvh_start_info(PhysicalView& memory, PhysicalAddress start_info);

/// Fills `info`, which must be fresh. On an error it holds what was read before that.
BootResult<> read_pvh(PhysicalView& memory, PhysicalAddress start_info, BootInfo& info);

} // namespace hearth
