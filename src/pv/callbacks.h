// The hypercalls by which a PV kernel tells where its handlers, stacks and segments are.
#pragma once

#include "abi/xen.h"
#include "base/bits.h"
#include "domain/domain.h"

namespace hearth::pv {

/// Bits of vm_assist that do something here, or may be asked for without harm.
inline constexpr uint64_t known_vm_assists =
    bit(static_cast<unsigned>(abi::VmAssist::four_gb_segments)) |
    bit(static_cast<unsigned>(abi::VmAssist::four_gb_segments_notify)) |
    bit(static_cast<unsigned>(abi::VmAssist::writable_pagetables)) |
    bit(static_cast<unsigned>(abi::VmAssist::pae_extended_cr3)) |
    bit(static_cast<unsigned>(abi::VmAssist::architectural_iopl)) |
    bit(static_cast<unsigned>(abi::VmAssist::runstate_update_flag)) |
    bit(static_cast<unsigned>(abi::VmAssist::m2p_strict));

Result<int64_t> do_set_trap_table(Context& context, uint64_t table);
Result<int64_t> do_stack_switch(Context& context, uint64_t ss, uint64_t sp);
Result<int64_t> do_set_callbacks(Context& context, uint64_t event, uint64_t failsafe,
                                 uint64_t syscall);
Result<int64_t> do_callback_op(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_nmi_op(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_set_segment_base(Context& context, uint32_t which, uint64_t base);
Result<int64_t> do_vm_assist(Context& context, uint32_t command, uint32_t type);

} // namespace hearth::pv
