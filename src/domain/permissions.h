// Which ports, frames of devices and physical interrupts a domain may use. Domain 0 may use all but
// Hearth's own, others what the toolstack allowed them.
#pragma once

#include "base/range_set.h"
#include "base/result.h"
#include "memory/page.h"

namespace hearth {

struct Domain;

struct Permissions {
    RangeSet ports, frames, pirqs;
};

/// At start-up: what stays Hearth's own, whoever asks.
void forbid_ports(uint16_t first, uint16_t last);

bool may_use_ports(Domain& domain, uint16_t first, uint16_t last);
/// A frame that is not RAM.
bool may_map_device(Domain& domain, Mfn mfn);
bool may_use_pirq(Domain& domain, uint32_t pirq);

/// Whether a domain may use what it is asked for from now on; what it has mapped or bound stays.
/// inval: no such range; perm: Hearth's own; opnotsupp: Domain 0's are not taken away; nomem: too
/// many ranges.
Result<> permit_ports(Domain& domain, uint32_t first, uint32_t count, bool allow);
Result<> permit_device_frames(Domain& domain, uint64_t first, uint64_t count, bool allow);
Result<> permit_pirq(Domain& domain, uint32_t pirq, bool allow);

} // namespace hearth
