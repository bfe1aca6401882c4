// Event channels: how domains, devices and Hearth itself get a vCPU's attention.
// (public/event_channel.h)
#pragma once

#include "domain/domain.h"

namespace hearth {

/// Gives a new domain its table. nomem.
Result<> events_create(Domain& domain);
/// The highest port that it may have from now on; without this, as many as its kind of table takes.
void events_limit_ports(Domain& domain, uint32_t highest);
/// Of a domain whose vCPUs have left the hypervisor for good, but are still there: closes all ports
/// and gives the guest's frames back. There will be no new ports. May reschedule.
void events_release(Domain& domain);
/// When nothing refers to the domain any more.
void events_destroy(Domain& domain);

Result<int64_t> do_event_channel_op(Context& context, uint32_t command, uint64_t argument);

/// Marks a port of the domain's as pending and tells its vCPU.
void send_event(Domain& domain, uint32_t port);
/// Whether a port is pending, for poll. False for a port that is free. inval: none of that number
/// has ever been there.
Result<bool> event_is_pending(Domain& domain, uint32_t port);
/// Has a vCPU look at its events: marks its upcall pending and wakes it.
void notify_vcpu(Vcpu& vcpu);

/// The guest's frames that events are written to, in its dirty log.
void note_event_pages(Domain& domain);

/// For the debug keys: pending ports and such.
/// A line for each port; `between` may let others run.
void print_events(Domain& domain, void (*between)());

/// A guest binds or unbinds a physical interrupt; owned by control/. Errors go to the guest.
Result<> pirq_bound(Domain& domain, uint32_t pirq, uint32_t port, bool will_share);
void pirq_unbound(Domain& domain, uint32_t pirq);

} // namespace hearth
