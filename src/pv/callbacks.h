// The hypercalls by which a PV kernel tells where its handlers, stacks and segments are.
#pragma once

#include "domain/domain.h"

namespace hearth::pv {

Result<int64_t> do_set_trap_table(Context& context, uint64_t table);
Result<int64_t> do_stack_switch(Context& context, uint64_t ss, uint64_t sp);
Result<int64_t> do_set_callbacks(Context& context, uint64_t event, uint64_t failsafe,
                                 uint64_t syscall);
Result<int64_t> do_callback_op(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_nmi_op(Context& context, uint32_t command, uint64_t argument);
Result<int64_t> do_set_segment_base(Context& context, uint32_t which, uint64_t base);
Result<int64_t> do_vm_assist(Context& context, uint32_t command, uint32_t type);

} // namespace hearth::pv
