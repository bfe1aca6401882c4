#include "event/table.h"

#include "base/bits.h"
#include "domain/dirty_log.h"
#include "domain/guest_page.h"
#include "event/event.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"

#include <algorithm>
#include <bit>
#include <span>

namespace hearth {
namespace {

constexpr unsigned bits_per_word = 64;

bool test_and_set(uint64_t& word, unsigned n) {
    return __atomic_fetch_or(&word, bit(n), __ATOMIC_ACQ_REL) & bit(n);
}

} // namespace

constinit PortGroup EventTable::no_ports_{};

Port* EventTable::seek(uint32_t& number) const {
    for (; number < limit(); ++number) {
        if (Port* const port = find(number))
            return port;
        bool const none = groups_[number / PortGroup::ports] == &no_ports_;
        number |= (none ? PortGroup::ports : PortGroup::ports_per_piece) - 1;
    }
    return nullptr;
}

[[gnu::noinline]] Result<> EventTable::make_piece(uint32_t number) {
    Hint<PortGroup*>& group = groups_[number / PortGroup::ports];
    if (group == &no_ports_)
        group = TRY(make<PortGroup>());
    auto* const made =
        static_cast<Port*>(TRY(allocate_bytes(sizeof(Port) * PortGroup::ports_per_piece)));
    for (unsigned i = 0; i < PortGroup::ports_per_piece; ++i)
        new (&made[i]) Port{};
    group->piece[number / PortGroup::ports_per_piece % PortGroup::pieces] = made;
    return {};
}

namespace {
uint64_t piece_bit(uint32_t number) {
    return uint64_t{1} << (number / PortGroup::ports_per_piece % PortGroup::pieces);
}
} // namespace

uint32_t EventTable::skip_full_pieces(uint32_t number) const {
    while (number < limit()) {
        unsigned const piece = number / PortGroup::ports_per_piece % PortGroup::pieces;
        uint64_t const full = groups_[number / PortGroup::ports]->full >> piece;
        if (!(full & 1))
            break;
        // Ones from there to the group's end are followed by zeros.
        auto const pieces = static_cast<unsigned>(std::countr_one(full));
        number = (number / PortGroup::ports_per_piece + pieces) * PortGroup::ports_per_piece;
    }
    return number;
}

Result<uint32_t> EventTable::allocate() {
    if (closed_)
        return Errno::inval;
    for (uint32_t number = skip_full_pieces(first_free_);
         number < limit() && number <= highest_port_; number = skip_full_pieces(number)) {
        Port* port = find(number);
        if (!port) [[unlikely]] {
            TRY(make_piece(number));
            port = find(number);
        }
        if (port->state == Port::State::free) {
            // Not the place in a queue that its number had last: see release().
            port->state = Port::State::reserved;
            first_free_ = number + 1;
            ++in_use_;
            return number;
        }
        if (++number % PortGroup::ports_per_piece == 0)
            groups_[(number - 1) / PortGroup::ports]->full |= piece_bit(number - 1);
    }
    return Errno::nospc;
}

void EventTable::release(uint32_t number) {
    Port& port = *find(number);
    clear_pending(number, port);
    // Its last place in a queue is remembered: the guest may not have consumed it yet.
    Port const old = port;
    port = {};
    port.queued_vcpu = old.queued_vcpu;
    port.queued_priority = old.queued_priority;
    first_free_ = std::min(first_free_, number);
    --in_use_;
    groups_[number / PortGroup::ports]->full &= ~piece_bit(number);
}

uint32_t* EventTable::word_of(uint32_t number) {
    unsigned const page = number / words_per_page;
    return page < word_pages_ ? &words_[page][number % words_per_page] : nullptr;
}

void EventTable::set_pending(uint32_t number, Port& port) {
    Vcpu* const vcpu = domain_.vcpu(port.vcpu);
    if (!vcpu)
        return;
    if (!fifo_) {
        abi::SharedInfo& shared = *domain_.shared_info;
        unsigned const index = number / bits_per_word, n = number % bits_per_word;
        if (test_and_set(shared.event_pending[index], n))
            return;
        if (!(__atomic_load_n(&shared.event_mask[index], __ATOMIC_ACQUIRE) & bit(n)) &&
            !test_and_set(vcpu->info->pending_select, index))
            notify_vcpu(*vcpu);
    } else if (uint32_t* const word = word_of(number)) {
        __atomic_fetch_or(word, abi::fifo::pending, __ATOMIC_ACQ_REL);
        link(number, port, *word);
    } else {
        port.early_pending = true;
    }
    if (domain_.pollers.load(std::memory_order_acquire)) [[unlikely]]
        wake_pollers();
}

/// Whoever polls may do so for a port of any vCPU's, and looks for itself. Once: who has not looked
/// since needs no second call.
void EventTable::wake_pollers() {
    for (Vcpu* const vcpu : std::span{domain_.vcpus, domain_.vcpu_count})
        if (vcpu->polling.load(std::memory_order_relaxed) && vcpu->polling.exchange(false))
            wake(*vcpu);
}

void EventTable::link(uint32_t number, Port& port, uint32_t& word) {
    using namespace abi;
    uint32_t const now = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
    if (now & (fifo::masked | fifo::linked))
        return;
    Vcpu* const vcpu = domain_.vcpu(port.vcpu);
    FifoVcpu* const target = fifo_of(vcpu->id);
    if (!target || !target->control)
        return;
    // It may be the tail of a queue that it used to belong to; that queue must not link on from it
    // any more.
    if (FifoVcpu* const old = fifo_of(port.queued_vcpu))
        if (FifoQueue& queue = old->queues[port.queued_priority]; queue.tail == number)
            queue.tail = 0;
    // The guest may take it off at any moment, and write what it likes: nothing here loops on what
    // it does.
    if (__atomic_fetch_or(&word, fifo::linked, __ATOMIC_ACQ_REL) & fifo::linked)
        return;
    FifoQueue& queue = target->queues[port.priority];
    port.queued_vcpu = static_cast<uint8_t>(vcpu->id);
    port.queued_priority = port.priority;
    bool appended = false;
    if (queue.tail != 0) {
        if (uint32_t* const tail = word_of(queue.tail)) {
            uint32_t seen = __atomic_load_n(tail, __ATOMIC_ACQUIRE);
            for (unsigned tries = 0; tries < 8 && (seen & fifo::linked) && !appended; ++tries)
                appended =
                    __atomic_compare_exchange_n(tail, &seen, (seen & ~fifo::link_mask) | number,
                                                false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
        }
    }
    if (!appended)
        __atomic_store_n(&target->control->head[port.priority], number, __ATOMIC_RELEASE);
    queue.tail = number;
    uint32_t const ready = 1u << port.priority;
    if (!appended && !(__atomic_fetch_or(&target->control->ready, ready, __ATOMIC_ACQ_REL) & ready))
        notify_vcpu(*vcpu);
}

void EventTable::clear_pending(uint32_t number, Port& port) {
    port.early_pending = false;
    if (!fifo_)
        __atomic_fetch_and(&domain_.shared_info->event_pending[number / bits_per_word],
                           ~bit(number % bits_per_word), __ATOMIC_ACQ_REL);
    else if (uint32_t* const word = word_of(number))
        __atomic_fetch_and(word, ~abi::fifo::pending, __ATOMIC_ACQ_REL);
}

void EventTable::unmask(uint32_t number, Port& port) {
    Vcpu* const vcpu = domain_.vcpu(port.vcpu);
    if (!vcpu)
        return;
    if (fifo_) {
        uint32_t* const word = word_of(number);
        if (word &&
            (__atomic_fetch_and(word, ~abi::fifo::masked, __ATOMIC_ACQ_REL) & abi::fifo::pending))
            link(number, port, *word);
        return;
    }
    abi::SharedInfo& shared = *domain_.shared_info;
    unsigned const index = number / bits_per_word, n = number % bits_per_word;
    bool const was_masked =
        __atomic_fetch_and(&shared.event_mask[index], ~bit(n), __ATOMIC_ACQ_REL) & bit(n);
    if (was_masked && (__atomic_load_n(&shared.event_pending[index], __ATOMIC_ACQUIRE) & bit(n)) &&
        !test_and_set(vcpu->info->pending_select, index))
        notify_vcpu(*vcpu);
}

bool EventTable::is_pending(uint32_t number, Port const& port) {
    if (!fifo_)
        return __atomic_load_n(&domain_.shared_info->event_pending[number / bits_per_word],
                               __ATOMIC_ACQUIRE) &
               bit(number % bits_per_word);
    uint32_t* const word = word_of(number);
    return word ? __atomic_load_n(word, __ATOMIC_ACQUIRE) & abi::fifo::pending : port.early_pending;
}

Result<> EventTable::init_control(Vcpu& vcpu, Mfn page, uint32_t offset) {
    if (offset & 7 || offset > page_size - sizeof(abi::fifo::ControlBlock))
        return Errno::inval;
    TRY(fifo_vcpus_.grow(vcpu.id + 1));
    FifoVcpu*& place = fifo_vcpus_[vcpu.id];
    if (place && place->control)
        return Errno::inval;
    if (!place)
        place = TRY(make<FifoVcpu>());
    FifoVcpu& target = *place;
    target.page = page;
    target.control =
        direct<abi::fifo::ControlBlock>(PhysicalAddress{address_of(page).raw() + offset});
    if (!fifo_) {
        // What is pending already shows once its word exists.
        uint32_t number = 1;
        while (Port* const port = seek(number)) {
            port->early_pending = port->state > Port::State::reserved && is_pending(number, *port);
            ++number;
        }
        fifo_ = true;
    }
    note_written(domain_, page);
    return {};
}

Result<> EventTable::expand(Mfn page) {
    if (!fifo_)
        return Errno::opnotsupp;
    if (word_pages_ == max_word_pages)
        return Errno::nospc;
    TRY(words_.grow(word_pages_ + 1));
    words_[word_pages_] = direct<uint32_t>(page);
    uint32_t const first = word_pages_++ * words_per_page;
    for (uint32_t number = first; number < first + words_per_page; ++number)
        if (Port* const port = find(number); port && port->early_pending) {
            port->early_pending = false;
            set_pending(number, *port);
        }
    note_written(domain_, page);
    return {};
}

void EventTable::give_back_pages() {
    for (FifoVcpu* const vcpu : fifo_vcpus_)
        if (vcpu && std::exchange(vcpu->control, nullptr))
            release_writable_page(domain_, vcpu->page);
    for (unsigned page = 0; page < word_pages_; ++page)
        release_writable_page(domain_, mfn_of(words_[page]));
    word_pages_ = 0;
}

void EventTable::note_pages() const {
    for (FifoVcpu const* const vcpu : fifo_vcpus_)
        if (vcpu && vcpu->control)
            note_written(domain_, vcpu->page);
    for (unsigned page = 0; page < word_pages_; ++page)
        note_written(domain_, mfn_of(words_[page]));
}

void EventTable::leave_fifo() {
    // Another vCPU may have been quick, or the domain have ended: then its pages are gone.
    if (!fifo_ || closed_ || in_use_ != 0)
        return;
    give_back_pages();
    for (FifoVcpu* const vcpu : fifo_vcpus_)
        if (vcpu)
            *vcpu = {};
    fifo_ = false;
    // What was pending before the FIFO has been heard there.
    for (uint64_t& word : domain_.shared_info->event_pending)
        __atomic_store_n(&word, 0, __ATOMIC_RELEASE);
}

void EventTable::free_structures() {
    for (PortGroup* const group : groups_) {
        if (group == &no_ports_)
            continue;
        for (Port* const piece : group->piece)
            free_bytes(piece);
        destroy(group);
        preempt_point();
    }
    for (FifoVcpu* const vcpu : fifo_vcpus_)
        destroy(vcpu);
}

Result<> EventTable::set_priority(uint32_t number, uint32_t priority) {
    Port* const port = find(number);
    if (port && !fifo_)
        return Errno::nosys;
    if (!port || port->state <= Port::State::reserved || priority >= abi::fifo::priorities)
        return Errno::inval;
    port->priority = static_cast<uint8_t>(priority);
    return {};
}

} // namespace hearth
