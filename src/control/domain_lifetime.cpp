// The end of a domain.
#include "console/log.h"
#include "domain/domain.h"

namespace hearth {

void domain_unreferenced(Domain& domain) { log_debug("domain {} is gone", domain.id); }

} // namespace hearth
