#include "event/event.h"

#include "console/log.h"
#include "domain/guest_memory.h"
#include "domain/guest_page.h"
#include "event/table.h"
#include "memory/allocator.h"

namespace hearth {
namespace {

using State = Port::State;

/// Virtual interrupts that each vCPU has for itself; the others are the domain's, on vCPU 0.
constexpr bool is_per_vcpu(uint32_t virq) {
    return virq == abi::virq_timer || virq == abi::virq_debug || virq == abi::virq_xenoprof ||
           virq == abi::virq_xenpmu;
}

Result<Port*> used(EventTable& table, uint32_t number) {
    Port* const port = table.find(number);
    if (!port || port->state == State::free || port->state == State::reserved)
        return Errno::inval;
    return port;
}

Result<uint32_t> bind_virq(Domain& d, uint32_t virq, uint32_t vcpu_id) {
    if (virq >= abi::virq_count)
        return Errno::inval;
    if (!is_per_vcpu(virq) && vcpu_id != 0)
        return Errno::inval;
    Vcpu* const vcpu = d.vcpu(vcpu_id);
    if (!vcpu)
        return Errno::noent;
    EventTable& table = *d.events;
    LockGuard guard{table.lock};
    if (vcpu->virq_ports[virq])
        return Errno::exist;
    uint32_t const number = TRY(table.allocate());
    Port& port = *table.find(number);
    port.state = State::virq;
    port.vcpu = static_cast<uint8_t>(vcpu_id);
    port.number = static_cast<uint16_t>(virq);
    vcpu->virq_ports[virq] = number;
    return number;
}

Result<uint32_t> bind_ipi(Domain& d, uint32_t vcpu_id) {
    if (!d.vcpu(vcpu_id))
        return Errno::noent;
    EventTable& table = *d.events;
    LockGuard guard{table.lock};
    uint32_t const number = TRY(table.allocate());
    Port& port = *table.find(number);
    port.state = State::ipi;
    port.vcpu = static_cast<uint8_t>(vcpu_id);
    return number;
}

Result<uint32_t> bind_pirq(Domain& d, abi::BindPirq const& request) {
    uint32_t number;
    {
        LockGuard guard{d.events->lock};
        number = TRY(d.events->allocate());
    }
    // Until it is bound nobody else can close the port; an interrupt that comes meanwhile is kept.
    auto const bound =
        pirq_bound(d, request.pirq, number, request.flags & abi::bind_pirq_will_share);
    LockGuard guard{d.events->lock};
    Port& port = *d.events->find(number);
    if (!bound) {
        d.events->release(number);
        return bound.error();
    }
    port.state = State::pirq;
    port.number = static_cast<uint16_t>(request.pirq);
    if (port.raised_while_reserved) {
        port.raised_while_reserved = false;
        d.events->set_pending(number, port);
    }
    return number;
}

Result<uint32_t> allocate_for(Domain& d, DomainId remote) {
    LockGuard guard{d.events->lock};
    uint32_t const number = TRY(d.events->allocate());
    Port& port = *d.events->find(number);
    port.state = State::unbound;
    port.remote = Remote{remote, 0};
    return number;
}
Result<uint32_t> alloc_unbound(Context& c, abi::AllocUnbound const& request) {
    DomainId const remote = request.remote_dom == domid_self ? c.domain.id : request.remote_dom;
    if (request.dom == domid_self) // oneself needs no reference
        return allocate_for(c.domain, remote);
    DomainRef const target = TRY(target_domain(c, request.dom));
    return allocate_for(*target, remote);
}

/// Both ends' locks, lower domain first; one if they are the same.
class TwoLocks {
    EventTable* first_;
    EventTable* second_;

public:
    TwoLocks(Domain& a, Domain& b) __attribute__((no_thread_safety_analysis))
        : first_{a.id <= b.id ? a.events : b.events}, second_{a.id == b.id  ? nullptr
                                                              : a.id < b.id ? b.events
                                                                            : a.events} {
        first_->lock.lock();
        if (second_)
            second_->lock.lock_second();
    }
    ~TwoLocks() __attribute__((no_thread_safety_analysis)) {
        if (second_)
            second_->lock.unlock();
        first_->lock.unlock();
    }
    TwoLocks(TwoLocks const&) = delete;
    TwoLocks& operator=(TwoLocks const&) = delete;
};

Result<uint32_t> bind_interdomain(Context& c, abi::BindInterdomain const& request) {
    DomainId const remote_id = request.remote_dom == domid_self ? c.domain.id : request.remote_dom;
    Domain* const remote = find_domain(remote_id);
    if (!remote || !remote->events)
        return Errno::srch;
    TwoLocks locks{c.domain, *remote};
    uint32_t const number = TRY(c.domain.events->allocate());
    Port* const other = remote->events->find(request.remote_port);
    if (!other || other->state != State::unbound || !other->remote.is({c.domain.id, 0})) {
        c.domain.events->release(number);
        return Errno::inval;
    }
    Port& mine = *c.domain.events->find(number);
    mine.state = State::interdomain;
    mine.remote = Remote{remote_id, request.remote_port};
    other->state = State::interdomain;
    other->remote = Remote{c.domain.id, number};
    // Signals may have been lost while nobody listened.
    c.domain.events->set_pending(number, mine);
    return number;
}

Result<> close_interdomain(Domain& d, uint32_t number, DomainId remote_id) {
    Domain* const remote = find_domain(remote_id);
    if (!remote)
        return Errno::inval;
    TwoLocks locks{d, *remote};
    Port* const port = d.events->find(number);
    if (!port || port->state != State::interdomain)
        return Errno::again;
    Remote const end = port->remote.get();
    if (end.domain != remote_id)
        return Errno::again;
    Port& other = *remote->events->find(end.port);
    other.state = State::unbound;
    other.remote = Remote{d.id, 0};
    d.events->release(number);
    return {};
}

/// One try at closing a port. again: it became something else meanwhile.
Result<> try_close(Domain& d, uint32_t number) {
    Port closed;
    {
        LockGuard guard{d.events->lock};
        closed = *TRY(used(*d.events, number));
        if (closed.state == State::virq)
            d.vcpus[is_per_vcpu(closed.number) ? closed.vcpu : 0]->virq_ports[closed.number] = 0;
        // The other end of a pair belongs to it; that takes both locks.
        if (closed.state != State::interdomain)
            d.events->release(number);
    }
    if (closed.state == State::pirq)
        pirq_unbound(d, closed.number);
    if (closed.state == State::interdomain)
        return close_interdomain(d, number, closed.remote.get().domain);
    return {};
}

Result<> close(Domain& d, uint32_t number) {
    for (;;) {
        auto const done = try_close(d, number);
        if (done || done.error() != Errno::again)
            return done;
    }
}

[[gnu::noinline]] Result<int64_t> send_unconnected(Domain& d, uint32_t number) {
    LockGuard guard{d.events->lock};
    Port& port = *TRY(used(*d.events, number));
    if (port.state == State::ipi) {
        d.events->set_pending(number, port);
        return 0;
    }
    // Nobody listens yet, or only since we looked.
    if (port.state == State::unbound || port.state == State::interdomain)
        return 0;
    return Errno::inval;
}

[[gnu::noinline]] void raise_from(EventTable& theirs, uint32_t number, Remote sender) {
    LockGuard guard{theirs.lock};
    Port* const port = theirs.find(number);
    // They may have been parted by now.
    if (port && port->state == State::interdomain && port->remote.is(sender))
        theirs.set_pending(number, *port);
}

/// One lock is enough, the receiver's: ports are connected and parted under those of both ends.
Result<int64_t> send(Domain& d, uint32_t number) {
    Remote const end = d.events->remote_of(number);
    if (end.port == 0)
        return send_unconnected(d, number);
    Domain* const remote = find_domain(end.domain);
    if (!remote)
        return 0;
    EventTable& theirs = *remote->events;
    // What the sender wrote before comes before the look at the bit.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (theirs.bit_is_set(end.port))
        return 0;
    raise_from(theirs, end.port, {d.id, number});
    return 0;
}

Result<abi::EventStatus> status(Context& c, abi::EventStatus request) {
    DomainRef const target = TRY(target_domain(c, request.dom));
    Domain& d = *target;
    LockGuard guard{d.events->lock};
    Port const* const port = d.events->find(request.port);
    if (request.port >= d.events->limit())
        return Errno::inval;
    request.detail[0] = request.detail[1] = 0;
    request.vcpu = port ? port->vcpu : 0;
    abi::EventState state = abi::EventState::closed;
    switch (port ? port->state : State::free) {
    case State::free:
    case State::reserved:
        break;
    case State::unbound:
        state = abi::EventState::unbound;
        request.detail[0] = port->remote.get().domain;
        break;
    case State::interdomain:
        state = abi::EventState::interdomain;
        request.detail[0] = port->remote.get().domain;
        request.detail[1] = port->remote.get().port;
        break;
    case State::pirq:
        state = abi::EventState::pirq;
        request.detail[0] = port->number;
        break;
    case State::virq:
        state = abi::EventState::virq;
        request.detail[0] = port->number;
        break;
    case State::ipi:
        state = abi::EventState::ipi;
        break;
    }
    request.status = static_cast<uint32_t>(state);
    return request;
}

Result<> bind_vcpu(Domain& d, abi::BindVcpu const& request) {
    if (!d.vcpu(request.vcpu))
        return Errno::noent;
    LockGuard guard{d.events->lock};
    Port& port = *TRY(used(*d.events, request.port));
    bool const movable = port.state == State::unbound || port.state == State::interdomain ||
                         port.state == State::pirq ||
                         (port.state == State::virq && !is_per_vcpu(port.number));
    if (!movable)
        return Errno::inval;
    port.vcpu = static_cast<uint8_t>(request.vcpu);
    return {};
}

void close_all(Domain& d) {
    for (uint32_t number = 1;; ++number) {
        bool open;
        {
            LockGuard guard{d.events->lock};
            Port const* const port = d.events->seek(number);
            if (!port)
                return;
            open = port->state > State::reserved;
        }
        if (open)
            (void)close(d, number);
        preempt_point();
    }
}

/// Holds a guest's frame, which may take waiting, before the lock is taken; gives it back if
/// `function` fails.
template <class Function>
Result<> with_held_page(Domain& d, uint64_t frame, Function&& function) {
    Mfn const page = TRY(hold_writable_page(d, frame));
    Result<> const result = [&]() -> Result<> {
        LockGuard guard{d.events->lock};
        return function(page);
    }();
    if (!result)
        release_writable_page(d, page);
    return result;
}

/// Reads an argument, runs `function` on it, and writes its result to the argument's last field.
template <class T, class Function>
Result<int64_t> binding(uint64_t argument, uint32_t T::* out, Function&& function) {
    GuestPointer<T> const pointer{argument};
    T request = TRY(pointer.read());
    request.*out = TRY(function(request));
    TRY(pointer.write(request));
    return 0;
}
template <class T, class Function>
Result<int64_t> acting(uint64_t argument, Function&& function) {
    T const request = TRY(GuestPointer<T>{argument}.read());
    TRY(function(request));
    return 0;
}

} // namespace

Result<> events_create(Domain& domain) {
    domain.events = TRY(make<EventTable>(domain));
    return {};
}

void events_limit_ports(Domain& domain, uint32_t highest) {
    LockGuard guard{domain.events->lock};
    domain.events->limit_ports(highest);
}

void events_release(Domain& domain) {
    if (!domain.events)
        return;
    {
        LockGuard guard{domain.events->lock};
        domain.events->close();
    }
    close_all(domain);
    LockGuard guard{domain.events->lock};
    domain.events->give_back_pages();
}

void events_destroy(Domain& domain) {
    if (EventTable* const table = std::exchange(domain.events, nullptr)) {
        table->free_structures();
        destroy(table);
    }
}

namespace {
/// All but the most frequent one.
[[gnu::noinline]] Result<int64_t> other_operation(Context& c, uint32_t command, uint64_t argument) {
    using abi::EventOperation;
    Domain& d = c.domain;
    switch (static_cast<EventOperation>(command)) {
    case EventOperation::bind_interdomain:
        return binding(argument, &abi::BindInterdomain::local_port,
                       [&](abi::BindInterdomain const& r) { return bind_interdomain(c, r); });
    case EventOperation::bind_virq:
        return binding(argument, &abi::BindVirq::port,
                       [&](abi::BindVirq const& r) { return bind_virq(d, r.virq, r.vcpu); });
    case EventOperation::bind_pirq:
        return binding(argument, &abi::BindPirq::port,
                       [&](abi::BindPirq const& r) { return bind_pirq(d, r); });
    case EventOperation::close:
        return acting<abi::EventPort>(argument, [&](auto const& r) { return close(d, r.port); });
    case EventOperation::status: {
        GuestPointer<abi::EventStatus> const pointer{argument};
        TRY(pointer.write(TRY(status(c, TRY(pointer.read())))));
        return 0;
    }
    case EventOperation::alloc_unbound:
        return binding(argument, &abi::AllocUnbound::port,
                       [&](abi::AllocUnbound const& r) { return alloc_unbound(c, r); });
    case EventOperation::bind_ipi:
        return binding(argument, &abi::BindIpi::port,
                       [&](abi::BindIpi const& r) { return bind_ipi(d, r.vcpu); });
    case EventOperation::bind_vcpu:
        return acting<abi::BindVcpu>(argument, [&](auto const& r) { return bind_vcpu(d, r); });
    case EventOperation::unmask:
        return acting<abi::EventPort>(argument, [&](auto const& r) -> Result<> {
            LockGuard guard{d.events->lock};
            Port* const port = d.events->find(r.port);
            if (!port || r.port >= d.events->limit())
                return Errno::inval;
            if (port->state > State::reserved) // it may just be closed, which is no mistake
                d.events->unmask(r.port, *port);
            return {};
        });
    case EventOperation::reset:
        return acting<abi::EventReset>(argument, [&](auto const& r) -> Result<> {
            DomainRef const target = TRY(target_domain(c, r.dom));
            close_all(*target);
            LockGuard guard{target->events->lock};
            target->events->leave_fifo();
            return {};
        });
    case EventOperation::init_control: {
        GuestPointer<abi::InitControl> const pointer{argument};
        abi::InitControl request = TRY(pointer.read());
        Vcpu* const vcpu = d.vcpu(request.vcpu);
        if (!vcpu)
            return Errno::noent;
        request.link_bits = abi::fifo::link_bits;
        TRY(with_held_page(d, request.control_gfn, [&](Mfn page) {
            return d.events->init_control(*vcpu, page, request.offset);
        }));
        TRY(pointer.write(request));
        return 0;
    }
    case EventOperation::expand_array:
        return acting<abi::ExpandArray>(argument, [&](auto const& r) -> Result<> {
            if (!d.events->has_fifo()) // before the page is looked at
                return Errno::opnotsupp;
            return with_held_page(d, r.array_gfn, [&](Mfn page) { return d.events->expand(page); });
        });
    case EventOperation::set_priority:
        return acting<abi::SetPriority>(argument, [&](auto const& r) -> Result<> {
            LockGuard guard{d.events->lock};
            return d.events->set_priority(r.port, r.priority);
        });
    case EventOperation::send:
        break;
    }
    return Errno::nosys;
}
} // namespace

Result<int64_t> do_event_channel_op(Context& c, uint32_t command, uint64_t argument) {
    if (command != static_cast<uint32_t>(abi::EventOperation::send))
        return other_operation(c, command, argument);
    abi::EventPort port;
    if (!GuestPointer<abi::EventPort>{argument}.read_to(port)) [[unlikely]]
        return Errno::fault;
    return send(c.domain, port.port);
}

void send_event(Domain& domain, uint32_t number) {
    LockGuard guard{domain.events->lock};
    Port* const port = domain.events->find(number);
    if (port && port->state > State::reserved)
        domain.events->set_pending(number, *port);
    else if (port && port->state == State::reserved)
        port->raised_while_reserved = true;
}

Result<bool> event_is_pending(Domain& domain, uint32_t number) {
    LockGuard guard{domain.events->lock};
    Port* const port = domain.events->find(number);
    if (!port)
        return Errno::inval;
    return port->state > State::reserved && domain.events->is_pending(number, *port);
}

void notify_vcpu(Vcpu& vcpu) {
    if (__atomic_exchange_n(&vcpu.info->upcall_pending, uint8_t{1}, __ATOMIC_ACQ_REL))
        return;
    if (&vcpu == &current_thread())
        return; // it looks before it sleeps, and before it goes back to its guest
    wake(vcpu);
    kick(vcpu);
}

void send_virq(Vcpu& vcpu, uint32_t virq) {
    if (uint32_t const port = vcpu.virq_ports[virq])
        send_event(vcpu.domain, port);
}
void send_domain_virq(Domain& domain, uint32_t virq) {
    if (domain.vcpu_count)
        send_virq(*domain.vcpus[0], virq);
}

void send_from(Domain& domain, uint32_t port) { (void)send(domain, port); }

namespace {
constinit std::atomic<DomainId> global_virq_handlers[abi::virq_count]{};
}

void forget_virq_handler(DomainId gone) {
    for (std::atomic<DomainId>& handler : global_virq_handlers) {
        DomainId expected = gone;
        (void)handler.compare_exchange_strong(expected, DomainId{0});
    }
}

void send_global_virq(uint32_t virq) {
    if (Domain* const d = find_domain(global_virq_handlers[virq].load()))
        send_domain_virq(*d, virq);
}

Result<> handle_global_virq(Domain& domain, uint32_t virq) {
    if (virq >= abi::virq_count || is_per_vcpu(virq))
        return Errno::inval;
    global_virq_handlers[virq].store(domain.id);
    return {};
}

void note_event_pages(Domain& domain) {
    LockGuard guard{domain.events->lock};
    domain.events->note_pages();
}

void print_events(Domain& domain, void (*between)()) {
    EventTable& table = *domain.events;
    for (uint32_t number = 1;; ++number) {
        between();
        LockGuard guard{table.lock};
        Port const* const port = table.seek(number);
        if (!port)
            return;
        if (port->state > State::reserved)
            log_info("  port {}: state {} vcpu {} number {} remote d{}:{}{}", number, port->state,
                     port->vcpu, port->number, port->remote.get().domain, port->remote.get().port,
                     table.is_pending(number, *port) ? " pending" : "");
    }
}

} // namespace hearth
