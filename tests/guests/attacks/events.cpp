// Event channels: ports that are none, that are closed, that are others'; FIFO words and control
// blocks that lie; everything at once.
#include "library/events.h"

#include "library/guest.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "events";
using namespace guest;
using namespace hearth::abi;

namespace {

uint32_t const no_ports[] = {0,      2000,       4095,       4096,       4097,      0x1ffff,
                             131072, 0x20000000, 0x7fffffff, 0x80000000, 0xffffffff};

uint32_t new_ipi() {
    int64_t const port = bind_ipi(0);
    EXPECT(port > 0);
    return static_cast<uint32_t>(port);
}

void ports_that_are_none() {
    for (uint32_t const port : no_ports) {
        EXPECT(close_port(port) < 0);
        EXPECT(send(port) < 0);
        EXPECT(unmask(port) < 0 || port < two_level_ports); // one that is free is no mistake
        EXPECT(state_of(port) <= 0);
        BindVcpu const move{port, 0};
        EXPECT(event_op(EventOperation::bind_vcpu, &move) < 0);
        SetPriority const priority{port, 3};
        EXPECT(event_op(EventOperation::set_priority, &priority) < 0);
        EXPECT(bind_interdomain(domain_0, port) < 0);
        EXPECT(bind_interdomain(77, port) < 0);
    }
}

void ports_after_they_are_closed() {
    uint32_t const port = new_ipi();
    EXPECT_EQUAL(send(port), 0);
    EXPECT(is_pending(port));
    EXPECT_EQUAL(close_port(port), 0);
    EXPECT(!is_pending(port));
    EXPECT(send(port) < 0);
    EXPECT(close_port(port) < 0);
    EXPECT(!is_pending(port));
    EXPECT_EQUAL(state_of(port), 0);
    // Its number again, as something else: nothing of what it was is left.
    int64_t const again = alloc_unbound(self, domain_0);
    EXPECT_EQUAL(again, port);
    EXPECT(!is_pending(port));
    EXPECT_EQUAL(state_of(port), static_cast<uint32_t>(EventState::unbound));
    EXPECT_EQUAL(close_port(port), 0);
}

void pairs_of_which_one_goes() {
    int64_t const mine = alloc_unbound(self, domain_0);
    EXPECT(mine > 0);
    int64_t const other = bind_interdomain(domain_0, static_cast<uint32_t>(mine));
    EXPECT(other > 0 && other != mine);
    EXPECT(bind_interdomain(domain_0, static_cast<uint32_t>(mine)) < 0); // taken
    EXPECT_EQUAL(send(static_cast<uint32_t>(mine)), 0);
    EXPECT(is_pending(static_cast<uint32_t>(other)));
    EXPECT_EQUAL(close_port(static_cast<uint32_t>(other)), 0);
    EXPECT_EQUAL(state_of(static_cast<uint32_t>(mine)), static_cast<uint32_t>(EventState::unbound));
    // To nobody now; and whoever comes to have the number hears nothing of it.
    uint32_t const stranger = new_ipi();
    EXPECT_EQUAL(stranger, other);
    send(static_cast<uint32_t>(mine));
    EXPECT(!is_pending(stranger));
    EXPECT_EQUAL(close_port(stranger), 0);
    EXPECT_EQUAL(close_port(static_cast<uint32_t>(mine)), 0);
    // A port that waits for another domain.
    int64_t const theirs = alloc_unbound(self, 77);
    EXPECT(theirs > 0);
    EXPECT(bind_interdomain(domain_0, static_cast<uint32_t>(theirs)) < 0);
    EXPECT_EQUAL(close_port(static_cast<uint32_t>(theirs)), 0);
}

void numbers_that_are_none() {
    for (uint32_t const virq : {24u, 25u, 32u, 1000u, 0x80000000u, ~0u}) {
        EXPECT(bind_virq(virq, 0) < 0);
        EXPECT(bind_virq(virq, ~0u) < 0);
    }
    void* const spare = page();
    for (uint32_t const vcpu : {4u, 64u, 128u, 129u, 8192u, 0x80000000u, ~0u}) {
        EXPECT(bind_virq(virq_timer, vcpu) < 0);
        EXPECT(bind_ipi(vcpu) < 0);
        EXPECT(init_control(mfn_of(spare), 0, vcpu) < 0);
        uint32_t const port = new_ipi();
        BindVcpu const move{port, vcpu};
        EXPECT(event_op(EventOperation::bind_vcpu, &move) < 0);
        EXPECT_EQUAL(close_port(port), 0);
    }
    EXPECT(bind_virq(virq_dom_exc, 1) < 0); // the domain's, not a vCPU's
    for (uint32_t const line : {5000u, 0x7fffffffu, 0x80000000u, ~0u}) {
        BindPirq const request{line, 0, 0};
        EXPECT(event_op(EventOperation::bind_pirq, &request) < 0);
    }
    for (uint16_t const domain : {77, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff})
        EXPECT(alloc_unbound(domain, domain_0) < 0);
    for (uint32_t const what : {15u, 16u, 0x80000000u, ~0u})
        EXPECT(event_op(static_cast<EventOperation>(what), no_ports) < 0);
}

void a_virtual_interrupt_twice() {
    int64_t const timer = bind_virq(virq_timer, 0);
    EXPECT(timer > 0);
    EXPECT(bind_virq(virq_timer, 0) < 0);
    EXPECT(send(static_cast<uint32_t>(timer)) < 0);
    BindVcpu const move{static_cast<uint32_t>(timer), 1};
    EXPECT(event_op(EventOperation::bind_vcpu, &move) < 0); // each vCPU has its own
    EXPECT_EQUAL(close_port(static_cast<uint32_t>(timer)), 0);
    int64_t const again = bind_virq(virq_timer, 0);
    EXPECT_EQUAL(again, timer);
    EXPECT_EQUAL(close_port(static_cast<uint32_t>(again)), 0);
}

/// All that a domain can have, and what happens to the next.
void ports_until_there_are_none() {
    static uint32_t ports[4096];
    unsigned count = 0;
    for (int64_t port; count < 4096 && (port = bind_ipi(0)) > 0;)
        ports[count++] = static_cast<uint32_t>(port);
    EXPECT(count > 500 && count < 4096);
    EXPECT(bind_ipi(0) < 0);
    EXPECT(alloc_unbound(self, domain_0) < 0);
    for (unsigned i = 0; i < count; ++i)
        EXPECT_EQUAL(close_port(ports[i]), 0);
    EXPECT_EQUAL(close_port(new_ipi()), 0);
}

/// Bits that the guest writes itself, all of them, and selectors that say nothing.
void bits_without_ports() {
    uint32_t const port = new_ipi();
    for (uint64_t volatile& word : shared->event_pending)
        word = ~uint64_t{0};
    shared->vcpu_info[0].pending_select = ~uint64_t{0};
    shared->vcpu_info[0].upcall_pending = 0xff;
    EXPECT_EQUAL(send(port), 0);
    EXPECT_EQUAL(unmask(port), 0);
    shared->event_mask[port / 64] = ~uint64_t{0};
    for (uint64_t volatile& word : shared->event_pending)
        word = 0;
    shared->vcpu_info[0].pending_select = 0;
    shared->vcpu_info[0].upcall_pending = 0;
    EXPECT_EQUAL(send(port), 0);
    EXPECT(is_pending(port));
    EXPECT_EQUAL(close_port(port), 0);
}

void polling_for_nothing() {
    uint32_t const port = new_ipi();
    uint64_t const begun = now();
    SchedPoll request{reinterpret_cast<uint64_t>(&port), 1, 0, begun + 3 * millisecond};
    EXPECT_EQUAL(operation(Hypercall::sched_op, SchedOperation::poll, &request), 0);
    EXPECT(now() >= begun + 3 * millisecond);
    static uint32_t many[200];
    for (uint32_t& one : many)
        one = ~0u;
    request = {reinterpret_cast<uint64_t>(many), 128, 0, 1};
    EXPECT(operation(Hypercall::sched_op, SchedOperation::poll, &request) <= 0);
    for (uint32_t const count : {129u, 0x10000u, 0x40000000u, ~0u}) {
        request = {reinterpret_cast<uint64_t>(many), count, 0, 1};
        EXPECT(operation(Hypercall::sched_op, SchedOperation::poll, &request) < 0);
    }
    for (uint64_t const list : {uint64_t{0xffff830000000000}, uint64_t{0x0000800000000000}}) {
        request = {list, 1, 0, 1};
        EXPECT(operation(Hypercall::sched_op, SchedOperation::poll, &request) < 0);
    }
    request = {0, 0, 0, 1};
    EXPECT_EQUAL(operation(Hypercall::sched_op, SchedOperation::poll, &request), 0);
    EXPECT_EQUAL(close_port(port), 0);
}

// --- FIFO. What follows ends all ports, and FIFO with them.

/// vCPU 0's control block and the words of the first 1024 ports.
Fifo begin_fifo() {
    static void* const control = page();
    static void* const words = page();
    memset(control, 0, page_size);
    memset(words, 0, page_size);
    EXPECT_EQUAL(init_control(mfn_of(control), 0, 0), 0);
    EXPECT_EQUAL(expand_array(mfn_of(words)), 0);
    return {static_cast<fifo::ControlBlock*>(control), static_cast<uint32_t*>(words)};
}

void fifo_pages_that_cannot_be() {
    auto* const table = static_cast<uint64_t*>(page());
    make_table(1, table);
    for (uint64_t const frame :
         {mfn_of(table), root_frame(), foreign_frame(0), ~uint64_t{0}, uint64_t{1} << 40}) {
        EXPECT(init_control(frame, 0, 0) < 0);
        EXPECT(expand_array(frame) < 0);
    }
    auto* const control = page();
    for (uint32_t const offset : {1u, 4u, 4u * 1024 - 64, 4096u, 0xfffffff8u, 0x7ffffff8u})
        EXPECT(init_control(mfn_of(control), offset, 0) < 0);
    EXPECT(expand_array(mfn_of(control)) < 0); // before there is a control block
    begin_fifo();
    EXPECT(init_control(mfn_of(control), 0, 0) < 0); // a second
    // Neither page becomes a table while events are written there.
    EXPECT_EQUAL(map_read_only(control), 0);
    EXPECT_EQUAL(map_writable(control), 0);
    end_table(table);
    EXPECT_EQUAL(reset_events(), 0);
}

void fifo_pages_stay_data() {
    auto* const control = static_cast<uint64_t*>(page());
    auto* const words = static_cast<uint64_t*>(page());
    EXPECT_EQUAL(init_control(mfn_of(control), 0, 0), 0);
    EXPECT_EQUAL(expand_array(mfn_of(words)), 0);
    for (uint64_t* const shared_page : {control, words}) {
        EXPECT_EQUAL(map_read_only(shared_page), 0);
        for (unsigned level = 1; level < 5; ++level)
            EXPECT(pin(level, shared_page) < 0);
        uint64_t const frame = mfn_of(shared_page);
        EXPECT(hypercall(Hypercall::set_gdt, &frame, 512) < 0);
    }
    // Given back while they are written to, and all of the guest's own mappings gone.
    uint64_t const frame = mfn_of(words);
    EXPECT_EQUAL(unmap(words), 0);
    MemoryReservation const give{reinterpret_cast<uint64_t>(&frame), 1, 0, 0, self, {}};
    operation(Hypercall::memory_op, MemoryOperation::decrease_reservation, &give);
    uint32_t const port = new_ipi();
    for (unsigned i = 0; i < 50; ++i)
        EXPECT_EQUAL(send(port), 0);
    for (unsigned i = 0; i < 50; ++i) {
        uint64_t fresh = 0;
        MemoryReservation const ask{reinterpret_cast<uint64_t>(&fresh), 1, 0, 0, self, {}};
        operation(Hypercall::memory_op, MemoryOperation::increase_reservation, &ask);
        EXPECT(fresh != frame || !on_hearth());
    }
    EXPECT_EQUAL(reset_events(), 0);
    EXPECT_EQUAL(map_writable(control), 0);
}

/// Every word says that it is linked to itself, to the next, or to what does not exist.
void words_that_lie() {
    Fifo const fifo = begin_fifo();
    uint32_t ports[16];
    for (uint32_t& port : ports)
        port = new_ipi();
    uint32_t const lies[] = {0,
                             ~0u,
                             fifo::linked,
                             fifo::linked | fifo::link_mask,
                             fifo::pending | fifo::linked | 5,
                             fifo::masked | fifo::linked | 0x1ffff,
                             0x1ffff,
                             1u << 28,
                             fifo::linked | 1u << 27};
    for (uint32_t const lie : lies)
        for (uint32_t const head : {0u, 1u, ports[3], 0x1ffffu, 0x20000u, ~0u}) {
            for (unsigned i = 0; i < 1024; ++i)
                fifo.words[i] = lie;
            for (unsigned p = 0; p < fifo::priorities; ++p)
                fifo.control->head[p] = head;
            fifo.control->ready = head;
            for (uint32_t const port : ports) {
                EXPECT_EQUAL(send(port), 0);
                EXPECT_EQUAL(unmask(port), 0);
            }
            SetPriority const priority{ports[head % 16], head % 16};
            EXPECT_EQUAL(event_op(EventOperation::set_priority, &priority), 0);
        }
    // It works again when they are right.
    for (unsigned i = 0; i < 1024; ++i)
        fifo.words[i] = 0;
    memset(const_cast<fifo::ControlBlock*>(fifo.control), 0, sizeof(fifo::ControlBlock));
    uint32_t const fresh = new_ipi();
    EXPECT_EQUAL(send(fresh), 0);
    EXPECT(fifo.words[fresh] & fifo::pending);
    EXPECT(fifo.control->ready != 0);
    EXPECT_EQUAL(reset_events(), 0);
}

void priorities_that_are_none() {
    uint32_t port = new_ipi();
    SetPriority priority{port, 3};
    EXPECT(event_op(EventOperation::set_priority, &priority) < 0 || !on_hearth());
    EXPECT_EQUAL(close_port(port), 0);
    begin_fifo();
    port = new_ipi();
    for (uint32_t const value : {16u, 17u, 255u, 0x80000000u, ~0u}) {
        priority = {port, value};
        EXPECT(event_op(EventOperation::set_priority, &priority) < 0);
    }
    EXPECT_EQUAL(reset_events(), 0);
}

/// As many pages of words as there can be, and more.
void arrays_without_end() {
    void* const words = page();
    EXPECT_EQUAL(init_control(mfn_of(page()), 0, 0), 0);
    unsigned count = 0;
    while (count < 200 && expand_array(mfn_of(words)) == 0) // one page for all
        ++count;
    EXPECT_EQUAL(count, 128);
    uint32_t const port = new_ipi();
    EXPECT_EQUAL(send(port), 0);
    EXPECT_EQUAL(reset_events(), 0);
    EXPECT_EQUAL(map_read_only(words), 0);
    EXPECT_EQUAL(pin(1, words) == 0, unpin(words) == 0);
    EXPECT_EQUAL(map_writable(words), 0);
}

/// Ports come, go, are sent to, moved and reset on all vCPUs at once.
void everything_at_once() {
    auto const all = [] {
        int64_t const port = bind_ipi(0);
        if (port > 0) {
            send(static_cast<uint32_t>(port));
            BindVcpu const move{static_cast<uint32_t>(port), 1};
            event_op(EventOperation::bind_vcpu, &move);
            send(static_cast<uint32_t>(port) + 1);
            close_port(static_cast<uint32_t>(port));
            close_port(static_cast<uint32_t>(port) + 1);
        }
        int64_t const mine = alloc_unbound(self, domain_0);
        if (mine > 0) {
            int64_t const other = bind_interdomain(domain_0, static_cast<uint32_t>(mine));
            send(static_cast<uint32_t>(mine));
            if (other > 0)
                close_port(static_cast<uint32_t>(other));
            close_port(static_cast<uint32_t>(mine));
        }
        int64_t const timer = bind_virq(virq_timer, static_cast<uint32_t>(this_vcpu().id));
        if (timer > 0)
            close_port(static_cast<uint32_t>(timer));
    };
    race(200, all, all);
    race(200, all, [] { reset_events(); });
    EXPECT_EQUAL(reset_events(), 0);
    // The same while FIFO begins and ends.
    static void* controls[] = {page(), page(), page(), page()};
    static void* words;
    words = page();
    race(200, all, [] {
        uint32_t const id = static_cast<uint32_t>(this_vcpu().id);
        init_control(mfn_of(controls[id]), 0, id);
        expand_array(mfn_of(words));
        reset_events();
    });
    EXPECT_EQUAL(reset_events(), 0);
    uint32_t const port = new_ipi();
    EXPECT_EQUAL(send(port), 0);
    EXPECT(is_pending(port));
    EXPECT_EQUAL(close_port(port), 0);
    for (void* const control : controls) {
        EXPECT_EQUAL(map_read_only(control), 0);
        EXPECT_EQUAL(map_writable(control), 0);
    }
}

constexpr Case cases[] = {
    {"ports_that_are_none", "XSA-317 XSA-342", ports_that_are_none},
    {"ports_after_they_are_closed", "XSA-47 XSA-338", ports_after_they_are_closed},
    {"pairs_of_which_one_goes", "XSA-338 XSA-343", pairs_of_which_one_goes},
    {"numbers_that_are_none", "XSA-13 XSA-21", numbers_that_are_none},
    {"a_virtual_interrupt_twice", "XSA-338", a_virtual_interrupt_twice},
    {"ports_until_there_are_none", "XSA-317 XSA-344", ports_until_there_are_none},
    {"bits_without_ports", "XSA-338", bits_without_ports},
    {"polling_for_nothing", "XSA-221", polling_for_nothing},
    {"fifo_pages_that_cannot_be", "XSA-107 XSA-358", fifo_pages_that_cannot_be},
    {"fifo_pages_stay_data", "XSA-188", fifo_pages_stay_data},
    {"words_that_lie", "XSA-107 XSA-359", words_that_lie},
    {"priorities_that_are_none", "XSA-107", priorities_that_are_none},
    {"arrays_without_end", "XSA-188 XSA-344", arrays_without_end},
    {"everything_at_once", "XSA-47 XSA-343 XSA-344", everything_at_once},
};

} // namespace

void guest_main() { run_cases(cases); }
