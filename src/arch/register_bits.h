// Numbers of model-specific registers and bits of control registers. (Intel SDM vol. 4; vol.
// 3A, 2.5)
#pragma once

#include "base/bits.h"

#include <cstdint>

namespace hearth::arch {

namespace msr {
inline constexpr uint32_t apic_base = 0x1b;
inline constexpr uint32_t spec_ctrl = 0x48;
inline constexpr uint32_t pred_cmd = 0x49;
inline constexpr uint32_t amd_de_cfg = 0xc0011029;
inline constexpr uint32_t arch_capabilities = 0x10a;
inline constexpr uint32_t tsc_deadline = 0x6e0;
inline constexpr uint32_t pat = 0x277;
inline constexpr uint32_t sysenter_cs = 0x174;
inline constexpr uint32_t sysenter_esp = 0x175;
inline constexpr uint32_t sysenter_eip = 0x176;
inline constexpr uint32_t debug_control = 0x1d9;
inline constexpr uint32_t efer = 0xc0000080;
inline constexpr uint32_t star = 0xc0000081;
inline constexpr uint32_t lstar = 0xc0000082;
inline constexpr uint32_t cstar = 0xc0000083;
inline constexpr uint32_t syscall_mask = 0xc0000084;
inline constexpr uint32_t fs_base = 0xc0000100;
inline constexpr uint32_t gs_base = 0xc0000101;
inline constexpr uint32_t kernel_gs_base = 0xc0000102;
inline constexpr uint32_t tsc_aux = 0xc0000103;
} // namespace msr

namespace cr0 {
inline constexpr uint64_t ts = bit(3);
inline constexpr uint64_t wp = bit(16);
} // namespace cr0

namespace dr6 {
inline constexpr uint64_t none = 0xffff0ff0;
/// Breakpoints 0 to 3, BD, BS, BT: the processor sets them, and never clears them. (Intel SDM vol.
/// 3B, 17.2.3)
inline constexpr uint64_t conditions = 0xe00f;
inline constexpr uint64_t single_step = bit(14);
} // namespace dr6

namespace cr3 {
/// Keeps the translations of the tag that is loaded. (Intel SDM vol. 3A, 4.10.4.1)
inline constexpr uint64_t no_flush = bit(63);
} // namespace cr3

namespace cr4 {
inline constexpr uint64_t tsd = bit(2);
inline constexpr uint64_t de = bit(3);
inline constexpr uint64_t pae = bit(5);
inline constexpr uint64_t mce = bit(6);
inline constexpr uint64_t pge = bit(7);
inline constexpr uint64_t osfxsr = bit(9);
inline constexpr uint64_t osxmmexcpt = bit(10);
inline constexpr uint64_t fsgsbase = bit(16);
inline constexpr uint64_t pcide = bit(17);
inline constexpr uint64_t osxsave = bit(18);
inline constexpr uint64_t smep = bit(20);
inline constexpr uint64_t smap = bit(21);
} // namespace cr4

} // namespace hearth::arch
