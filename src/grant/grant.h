// Grant tables: how a domain lets others at its memory. So far the tables themselves; mapping by
// others follows.
#pragma once

#include "domain/domain.h"

namespace hearth {

Result<> grants_create(Domain& domain, uint32_t max_frames);
/// Gives back all that the domain has mapped, and its tables. May reschedule.
void grants_release(Domain& domain);
void grants_destroy(Domain& domain);
Result<int64_t> do_grant_table_op(Context& context, uint32_t command, uint64_t argument,
                                  uint32_t count);

} // namespace hearth
