// A frame of a guest's that the hypervisor writes to for as long as it likes: vCPU information,
// event words, grant tables.
#pragma once

#include "domain/domain.h"

namespace hearth {

/// Keeps the frame that the guest calls `frame` allocated and writable data, so that it cannot
/// become a page table. inval. Owned here, provided by the guest mode's folder.
Result<Mfn> hold_writable_page(Domain& domain, uint64_t frame);
void release_writable_page(Domain& domain, Mfn mfn);
/// The same for who holds a reference to the frame anyway.
Result<> hold_writable_use(Domain& domain, Mfn mfn);
void release_writable_use(Domain& domain, Mfn mfn);

} // namespace hearth
