// Event channels, of both kinds, for test guests.
#pragma once

#include "abi/event_channel.h"
#include "library/hypercall.h"

namespace guest {

using hearth::abi::EventOperation;

inline int64_t event_op(EventOperation what, void const* argument) {
    return operation(Hypercall::event_channel_op, what, argument);
}

/// These make a port, or give an error.
int64_t alloc_unbound(uint16_t domain, uint16_t remote);
int64_t bind_interdomain(uint16_t remote, uint32_t remote_port);
int64_t bind_virq(uint32_t virq, uint32_t vcpu);
int64_t bind_ipi(uint32_t vcpu);

int64_t close_port(uint32_t port);
int64_t send(uint32_t port);
int64_t unmask(uint32_t port);
/// What the port is, or an error.
int64_t state_of(uint32_t port);

/// 2-level: takes the pending bit away; whether it was there.
bool take_event(uint32_t port);
bool is_pending(uint32_t port);
/// Whether the event comes within the time.
bool comes(uint32_t port, uint64_t nanoseconds);

/// Sleeps until it comes, by the poll hypercall, which needs no upcall; takes it.
void wait_for(uint32_t port);

/// The pages of FIFO events: a control block for vCPU 0 and the words of the first 1024 ports.
struct Fifo {
    hearth::abi::fifo::ControlBlock volatile* control;
    uint32_t volatile* words;
};
int64_t init_control(uint64_t mfn, uint32_t offset, uint32_t vcpu);
int64_t expand_array(uint64_t mfn);
/// Ends it and all ports.
int64_t reset_events();

} // namespace guest
