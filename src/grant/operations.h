// The operations of grant_table_op, apart from those on the table itself.
#pragma once

#include "grant/use.h"

namespace hearth {

/// Lists of arguments in guest memory. Each argument has its own status; fault: the list itself is
/// not there.
Result<int64_t> map_grants(Context& context, uint64_t list, uint32_t count);
Result<int64_t> unmap_grants(Context& context, uint64_t list, uint32_t count);
Result<int64_t> unmap_and_replace_grants(Context& context, uint64_t list, uint32_t count);
Result<int64_t> copy_grants(Context& context, uint64_t list, uint32_t count);

/// All that a domain has mapped, whose vCPUs have left the hypervisor for good. May reschedule.
void release_mappings(Domain& domain);

} // namespace hearth
