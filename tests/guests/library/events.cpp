#include "library/events.h"

#include "library/guest.h"

namespace guest {

using namespace hearth::abi;

int64_t alloc_unbound(uint16_t domain, uint16_t remote) {
    AllocUnbound request{domain, remote, 0};
    int64_t const error = event_op(EventOperation::alloc_unbound, &request);
    return error ? error : request.port;
}
int64_t bind_interdomain(uint16_t remote, uint32_t remote_port) {
    BindInterdomain request{remote, 0, remote_port, 0};
    int64_t const error = event_op(EventOperation::bind_interdomain, &request);
    return error ? error : request.local_port;
}
int64_t bind_virq(uint32_t virq, uint32_t vcpu) {
    BindVirq request{virq, vcpu, 0};
    int64_t const error = event_op(EventOperation::bind_virq, &request);
    return error ? error : request.port;
}
int64_t bind_ipi(uint32_t vcpu) {
    BindIpi request{vcpu, 0};
    int64_t const error = event_op(EventOperation::bind_ipi, &request);
    return error ? error : request.port;
}

int64_t close_port(uint32_t port) { return event_op(EventOperation::close, &port); }
int64_t send(uint32_t port) { return event_op(EventOperation::send, &port); }
int64_t unmask(uint32_t port) { return event_op(EventOperation::unmask, &port); }
int64_t state_of(uint32_t port) {
    EventStatus status{self, 0, port, 0, 0, {}};
    int64_t const error = event_op(EventOperation::status, &status);
    return error ? error : status.status;
}

bool take_event(uint32_t port) {
    uint64_t const mask = uint64_t{1} << port % 64;
    return (__atomic_fetch_and(&shared->event_pending[port / 64], ~mask, __ATOMIC_SEQ_CST) &
            mask) != 0;
}
bool is_pending(uint32_t port) { return shared->event_pending[port / 64] >> port % 64 & 1; }
bool comes(uint32_t port, uint64_t nanoseconds) {
    for (uint64_t const end = now() + nanoseconds; now() < end;)
        if (take_event(port))
            return true;
    return take_event(port);
}

void wait_for(uint32_t port) {
    SchedPoll const poll{reinterpret_cast<uint64_t>(&port), 1, 0, 0};
    do
        operation(Hypercall::sched_op, SchedOperation::poll, &poll);
    while (!take_event(port));
}

int64_t init_control(uint64_t mfn, uint32_t offset, uint32_t vcpu) {
    InitControl request{mfn, offset, vcpu, 0, {}};
    return event_op(EventOperation::init_control, &request);
}
int64_t expand_array(uint64_t mfn) {
    ExpandArray const request{mfn};
    return event_op(EventOperation::expand_array, &request);
}
int64_t reset_events() {
    EventReset const request{self};
    return event_op(EventOperation::reset, &request);
}

} // namespace guest
