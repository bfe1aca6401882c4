// Multiboot 1: how QEMU's -kernel and many network boot loaders start us. Multiboot specification
// 0.6.96, section 3.3.
#pragma once

#include "boot/boot_info.h"
#include "boot/boot_result.h"

namespace hearth {

/// In EAX at entry; EBX has the address of the information.
inline constexpr uint32_t multiboot_magic = 0x2badb002;

/// Fills `info`, which must be fresh. On an error it holds what was read before that.
BootResult<> read_multiboot(PhysicalView& memory, PhysicalAddress information, BootInfo& info);

/// Memory below and above 1 MiB, in KiB, where a loader gives no map. Errors: add()'s.
Result<> add_basic_memory(MemoryMap& map, uint32_t lower_kib, uint32_t upper_kib);

} // namespace hearth
