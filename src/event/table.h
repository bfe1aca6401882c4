// The ports of a domain and how a pending one shows in guest memory.
#pragma once

#include "abi/event_channel.h"
#include "base/bits.h"
#include "base/hint.h"
#include "domain/domain.h"
#include "event/growing_list.h"
#include "irq/irq.h"

namespace hearth {

inline constexpr unsigned words_per_page = page_size / sizeof(uint32_t);
inline constexpr unsigned max_word_pages = abi::fifo::ports / words_per_page;

/// The other end of a port: a domain, and once they are connected its port, which is never 0.
struct Remote {
    DomainId domain = domid_invalid;
    uint32_t port = 0;
    bool operator==(Remote const&) const = default;
};
/// Written under the lock of the table, and for both ends under both; read by senders without it.
class SharedRemote {
    std::atomic<uint64_t> packed_{pack({})};

    static constexpr uint64_t pack(Remote r) { return uint64_t{r.domain} << 32 | r.port; }

public:
    SharedRemote() = default;
    SharedRemote(SharedRemote const& other) : packed_{pack(other.get())} {}
    SharedRemote& operator=(SharedRemote const& other) { return *this = other.get(); }
    SharedRemote& operator=(Remote remote) {
        packed_.store(pack(remote), std::memory_order_relaxed);
        return *this;
    }
    [[nodiscard]] Remote get() const {
        uint64_t const packed = packed_.load(std::memory_order_relaxed);
        return {static_cast<DomainId>(packed >> 32), static_cast<uint32_t>(packed)};
    }
    [[nodiscard]] bool is(Remote remote) const {
        return packed_.load(std::memory_order_relaxed) == pack(remote);
    }
};

struct Port {
    enum class State : uint8_t { free, reserved, unbound, interdomain, pirq, virq, ipi };
    SharedRemote remote;
    uint16_t number = 0; // pirq or virq
    uint8_t vcpu = 0;
    uint8_t queued_vcpu = 0; // FIFO: the queue it was last linked to
    uint8_t queued_priority = 0;
    uint8_t priority = abi::fifo::default_priority;
    State state = State::free;
    bool early_pending : 1 = false;         // FIFO: raised before its word existed
    bool raised_while_reserved : 1 = false; // a physical interrupt, just being bound
};
static_assert(sizeof(Port) == 16 && max_domain_vcpus <= 256 && irq_limit <= 65536);

/// Neighbouring ports, by pieces that are there from when one of them is given out for the first
/// time.
struct PortGroup {
    static constexpr unsigned ports_per_piece = 64, pieces = 64, ports = ports_per_piece * pieces;
    Hint<Port*> piece[pieces]{};
    uint64_t full = 0; // a bit for each piece: none of its ports is free
};
inline constexpr unsigned port_group_count = abi::fifo::ports / PortGroup::ports;

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
    explicit EventTable(Domain& domain) : domain_{domain} {
        for (auto& group : groups_)
            group = &no_ports_;
    }
    SpinLock<Rank::event> lock;

    /// Null where there never was one of about that number. Port 0 is always free.
    [[nodiscard]] Port* find(uint32_t port) const {
        if (port >= abi::fifo::ports)
            return nullptr;
        PortGroup const* const group =
            groups_[mask_index<port_group_count>(port / PortGroup::ports)];
        Port* const piece = group->piece[port / PortGroup::ports_per_piece % PortGroup::pieces];
        return piece ? &piece[port % PortGroup::ports_per_piece] : nullptr;
    }
    /// The first one from there on that find() finds, within the limit; null: no more.
    Port* seek(uint32_t& port) const;
    /// What a port is connected to, without the lock: a guess until the other end agrees.
    [[nodiscard]] Remote remote_of(uint32_t port) const {
        Port const* const found = find(port);
        return found ? found->remote.get() : Remote{};
    }
    /// Whether a port's bit is set already, without the lock. The caller has made visible what the
    /// event is about: whoever takes the bit sees it.
    [[nodiscard]] bool bit_is_set(uint32_t port) const {
        return !fifo_ && port < abi::two_level_ports &&
               (__atomic_load_n(&domain_.shared_info->event_pending[port / 64], __ATOMIC_ACQUIRE) >>
                    (port % 64) &
                1);
    }
    /// A free port, marked reserved. nospc: no more than that; inval: there will be none; nomem.
    Result<uint32_t> allocate();
    void release(uint32_t port);
    /// Without the lock, a guess.
    [[nodiscard]] bool has_fifo() const { return fifo_; }
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
    /// Those frames are written to at any time.
    void note_pages() const;
    /// Back to bits in the shared info page, if no port is in use.
    void leave_fifo();
    void free_structures();
    /// nosys without a FIFO, whoever has the port; inval.
    Result<> set_priority(uint32_t port, uint32_t priority);

private:
    uint32_t* word_of(uint32_t number);
    void link(uint32_t number, Port& port, uint32_t& word);
    /// nomem.
    Result<> make_piece(uint32_t number);
    /// The first one from there on that may be free, if it is not beyond the limit: of those that
    /// are in use it looks at one piece's at most.
    [[nodiscard]] uint32_t skip_full_pieces(uint32_t number) const;
    [[nodiscard]] FifoVcpu* fifo_of(unsigned vcpu) const {
        return vcpu < fifo_vcpus_.size() ? fifo_vcpus_[vcpu] : nullptr;
    }

    /// What stands where no group is needed; never written to.
    static PortGroup no_ports_;

    Domain& domain_;
    Hint<PortGroup*> groups_[port_group_count]{};
    uint32_t first_free_ = 1; // no port below is free
    uint32_t in_use_ = 0;
    uint32_t highest_port_ = abi::fifo::ports - 1;
    bool closed_ = false;
    Hint<bool> fifo_{false};
    GrowingList<FifoVcpu*> fifo_vcpus_; // null: none yet
    GrowingList<uint32_t*> words_;
    unsigned word_pages_ = 0;
};
static_assert(sizeof(EventTable) <= 512);

} // namespace hearth
