// The end of a domain.
#pragma once

#include "domain/domain.h"

namespace hearth {

/// Starts the thread that frees what domains leave behind. nomem.
Result<> start_reaper();

/// Ends a domain: its vCPUs stop for good, and all that it has goes, but for frames that others
/// still have mapped. Its `control` is held. May reschedule.
void destroy_domain(Domain& domain);

} // namespace hearth
