// Memory that is kept free for domains that are being built. (public/memory.h, XENMEM_claim_pages)
#pragma once

#include "domain/domain.h"

namespace hearth {

/// Keeps as much free as the domain lacks to have `pages`; replaces its last claim. nomem: there is
/// not so much that nobody claims.
Result<> stake_claim(Domain& domain, uint64_t pages);
/// The domain got pages, or (all of it) goes: so much less is kept.
void use_claim(Domain& domain, uint64_t pages);
/// What is kept free for all domains together.
uint64_t claimed_pages();
/// Whether the domain may take so many pages and others' claims still hold.
bool leaves_room_for_claims(Domain& domain, uint64_t pages);

} // namespace hearth
