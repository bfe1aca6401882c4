// Multiboot 2: how GRUB starts us, on BIOS and EFI. Multiboot2 specification 2.0, section 3.6.
#pragma once

#include "boot/boot_info.h"
#include "boot/boot_result.h"

namespace hearth {

/// In EAX at entry; EBX has the address of the information.
inline constexpr uint32_t multiboot2_magic = 0x36d76289;

/// Fills `info`, which must be fresh. With EFI boot services still active the memory map may be
/// empty: it is theirs to give. On an error it holds what was read before that.
BootResult<> read_multiboot2(PhysicalView& memory, PhysicalAddress information, BootInfo& info);

} // namespace hearth
