// The ports of a domain and how a pending one shows in guest memory.
#pragma once

#include "abi/event_channel.h"
#include "domain/domain.h"

namespace hearth {

inline constexpr unsigned ports_per_bucket = 128;
inline constexpr unsigned bucket_count = abi::fifo::ports / ports_per_bucket;
inline constexpr unsigned words_per_page = page_size / sizeof(uint32_t);
inline constexpr unsigned max_word_pages = abi::fifo::ports / words_per_page;

struct Port {
    enum class State : uint8_t { free, reserved, unbound, interdomain, pirq, virq, ipi };
    State state = State::free;
    uint8_t priority = abi::fifo::default_priority;
    uint8_t queued_priority = 0;        // FIFO: the queue it was last linked to
    bool early_pending = false;         // FIFO: raised before its word existed
    bool raised_while_reserved = false; // a physical interrupt, just being bound
    uint16_t vcpu = 0;
    uint16_t queued_vcpu = 0;
    DomainId remote_domain = domid_invalid;
    uint32_t remote_port = 0;
    uint32_t number = 0; // pirq or virq
};

struct FifoQueue {
    uint32_t tail = 0; // 0: empty as far as Hearth knows
};
struct FifoVcpu {
    abi::fifo::ControlBlock* control = nullptr;
    Mfn page = invalid_mfn;
    FifoQueue queues[abi::fifo::priorities];
};

class EventTable {
public:
    explicit EventTable(Domain& domain) : domain_{domain} {}
    SpinLock lock{Rank::event};

    Port* find(uint32_t port);
    /// A free port, marked reserved. nospc: no more than that; inval: there will be none; nomem.
    Result<uint32_t> allocate();
    void release(uint32_t port);
    [[nodiscard]] uint32_t limit() const { return fifo_ ? abi::fifo::ports : abi::two_level_ports; }

    void set_pending(uint32_t number, Port& port);
    void wake_pollers();
    void clear_pending(uint32_t number, Port& port);
    void unmask(uint32_t number, Port& port);
    bool is_pending(uint32_t number, Port const& port);

    /// `page` is held for the table from now on, unless this fails.
    Result<> init_control(Vcpu& vcpu, Mfn page, uint32_t offset);
    Result<> expand(Mfn page);
    void limit_ports(uint32_t highest) { highest_port_ = highest; }
    /// No port is given out from now on.
    void close() { closed_ = true; }
    /// With all ports closed for good: the guest's frames, which are no longer written to.
    void give_back_pages();
    /// Back to bits in the shared info page, if no port is in use.
    void leave_fifo();
    void free_structures();
    Result<> set_priority(Port& port, uint32_t priority);

private:
    uint32_t* word_of(uint32_t number);
    void link(uint32_t number, Port& port, uint32_t& word);
    Port* grow(uint32_t number);

    Domain& domain_;
    Port* buckets_[bucket_count]{};
    uint32_t first_free_ = 1; // no port below is free
    uint32_t highest_port_ = abi::fifo::ports - 1;
    bool closed_ = false;
    bool fifo_ = false;
    FifoVcpu* fifo_vcpus_[max_domain_vcpus]{};
    uint32_t* words_[max_word_pages]{};
    unsigned word_pages_ = 0;
};

} // namespace hearth
