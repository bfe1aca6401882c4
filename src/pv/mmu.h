// The hypercalls by which a PV guest changes its address spaces.
#pragma once

#include "abi/xen.h"
#include "domain/domain.h"

namespace hearth::pv {

Result<int64_t> do_mmu_update(Context& context, uint64_t requests, uint32_t count, uint64_t done,
                              uint32_t foreign);
Result<int64_t> do_mmuext_op(Context& context, uint64_t operations, uint32_t count, uint64_t done,
                             uint32_t foreign);
Result<int64_t> do_update_va_mapping(Context& context, uint64_t address, uint64_t value,
                                     uint64_t flags);
Result<int64_t> do_update_va_mapping_otherdomain(Context& context, uint64_t address, uint64_t value,
                                                 uint64_t flags, uint32_t foreign);

} // namespace hearth::pv
