// Memory that is kept free for domains that are being built. (public/memory.h, XENMEM_claim_pages)
#pragma once

#include "domain/domain.h"
#include "memory/allocator.h"

namespace hearth {

/// Keeps as much free as the domain lacks to have `pages`; replaces its last claim. nomem: there is
/// not so much that nobody claims.
Result<> stake_claim(Domain& domain, uint64_t pages);
/// Nothing is kept for it any more.
void forget_claim(Domain& domain);
/// What is kept free for all domains together.
uint64_t claimed_pages();
/// As allocate_frames(); what is kept for others stays, what is kept for the domain is used first.
Result<Mfn> allocate_beside_claims(Domain& domain, unsigned order, Mfn end = any_frame);

} // namespace hearth
