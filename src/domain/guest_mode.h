// What the folder of each guest mode provides for the layers above it.
#pragma once

#include "domain/domain.h"

namespace hearth {

/// Brings a vCPU up from a context that its guest gave. exist: it has one; inval, fault, nomem.
Result<> initialise_vcpu(Vcpu& vcpu, uint64_t guest_context);
/// Takes from a domain's vCPUs, which have parked for good, all that they hold of its memory. May
/// reschedule.
void release_guest_state(Domain& domain);
/// Frees the structures of a domain and its vCPUs, which nobody can reach any more.
void free_domain(Domain& domain);
/// Port access of the guest's kernel and user mode.
void set_io_privilege(Vcpu& vcpu, uint8_t iopl);
void set_io_bitmap(Vcpu& vcpu, uint64_t bitmap, uint32_t ports);

} // namespace hearth
