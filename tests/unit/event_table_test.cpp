// Event channels as guests use them: through the hypercall, with the shared memory read the way
// that kernels do.
#include "fake_machine.h"

#include "abi/event_channel.h"
#include "abi/operations.h"
#include "event/event.h"
#include "event/table.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace hearth::test {
namespace {

using abi::EventOperation;

class EventGuest : public Guest {
public:
    explicit EventGuest(unsigned vcpus = 1) : Guest{vcpus} {
        for (unsigned i = 1; i < vcpus; ++i)
            bring_up(i);
    }
    template <class T>
    int64_t operation(EventOperation command, T& argument_value, unsigned n = 0) {
        argument<T>() = argument_value;
        auto const result =
            hypercall(abi::Hypercall::event_channel_op, static_cast<uint64_t>(command),
                      argument_address, 0, 0, 0, 0, n);
        argument_value = argument<T>();
        return result.value_or(-1000);
    }
    int64_t simple(EventOperation command, uint32_t port) {
        abi::EventPort p{port};
        return operation(command, p);
    }
    uint32_t bind_ipi(unsigned n = 0) {
        abi::BindIpi request{n, 0};
        EXPECT_EQ(operation(EventOperation::bind_ipi, request), 0);
        return request.port;
    }
    abi::EventStatus status(uint32_t port) {
        abi::EventStatus request{domid_self, 0, port, 99, 99, {99, 99}};
        EXPECT_EQ(operation(EventOperation::status, request), 0);
        return request;
    }
    [[nodiscard]] abi::SharedInfo& shared() const { return *domain.shared_info; }
    [[nodiscard]] bool pending(uint32_t port) const {
        return shared().event_pending[port / 64] >> (port % 64) & 1;
    }
    /// The upcall, if there was one since the last look.
    bool take_upcall(unsigned n = 0) {
        return std::exchange(vcpu(n).info->upcall_pending, uint8_t{0});
    }
};

constexpr int64_t inval = -22, exist = -17, noent = -2, nospc = -28;

TEST(TwoLevelEvents, SendSetsTheBitAndCallsTheVcpuOnce) {
    EventGuest guest;
    uint32_t const port = guest.bind_ipi();
    guest.take_upcall();
    guest.vcpu().info->pending_select = 0;
    EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
    EXPECT_TRUE(guest.pending(port));
    EXPECT_EQ(guest.vcpu().info->pending_select, uint64_t{1} << (port / 64));
    EXPECT_TRUE(guest.take_upcall());
    EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
    EXPECT_FALSE(guest.take_upcall()) << "it is pending already";
}

TEST(TwoLevelEvents, PortsTakeMemoryByPieces) {
    EventGuest guest;
    uint32_t port = guest.bind_ipi();
    uint64_t const objects = object_count();
    while (port < 63)
        port = guest.bind_ipi();
    EXPECT_EQ(object_count(), objects) << "the first piece";
    while (port < 2 * 64 - 1)
        port = guest.bind_ipi();
    EXPECT_EQ(object_count(), objects + 1);
    EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
    EXPECT_TRUE(guest.pending(port));
    EXPECT_EQ(guest.simple(EventOperation::send, port + 1), inval) << "nothing is there";
    EXPECT_EQ(guest.simple(EventOperation::send, 4096 + 1), inval);
}

TEST(TwoLevelEvents, APortIsFoundAmongThousandsThatAreInUse) {
    EventGuest guest;
    for (uint32_t port = guest.bind_ipi(); port < abi::two_level_ports - 1;)
        port = guest.bind_ipi();
    abi::BindIpi one_more{0, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_ipi, one_more), nospc);
    std::mt19937 random{58};
    for (unsigned i = 0; i < 500; ++i) {
        std::set<uint32_t> closed;
        while (closed.size() < 1 + i % 5)
            closed.insert(1 + random() % (abi::two_level_ports - 1));
        for (uint32_t const port : closed)
            ASSERT_EQ(guest.simple(EventOperation::close, port), 0);
        for (uint32_t const port : closed)
            EXPECT_EQ(guest.bind_ipi(), port) << "the lowest";
    }
    EXPECT_EQ(guest.operation(EventOperation::bind_ipi, one_more), nospc);
}

TEST(TwoLevelEvents, AMaskedEventWaitsForUnmask) {
    EventGuest guest;
    uint32_t const port = guest.bind_ipi();
    guest.shared().event_mask[port / 64] |= uint64_t{1} << (port % 64);
    guest.take_upcall();
    guest.vcpu().info->pending_select = 0;
    EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
    EXPECT_TRUE(guest.pending(port));
    EXPECT_FALSE(guest.take_upcall());
    EXPECT_EQ(guest.simple(EventOperation::unmask, port), 0);
    EXPECT_TRUE(guest.take_upcall());
    EXPECT_EQ(guest.shared().event_mask[port / 64] >> (port % 64) & 1, 0u);
    EXPECT_EQ(guest.simple(EventOperation::unmask, port), 0);
    EXPECT_FALSE(guest.take_upcall());
}

TEST(TwoLevelEvents, TwoDomainsTalkAndPart) {
    EventGuest a, b;
    abi::AllocUnbound offer{domid_self, b.domain.id, 0};
    ASSERT_EQ(a.operation(EventOperation::alloc_unbound, offer), 0);
    EXPECT_EQ(a.status(offer.port).status, static_cast<uint32_t>(abi::EventState::unbound));
    EXPECT_EQ(a.status(offer.port).detail[0], b.domain.id);
    EXPECT_EQ(a.simple(EventOperation::send, offer.port), 0) << "nobody listens: no error";

    EventGuest stranger;
    abi::BindInterdomain theft{a.domain.id, 0, offer.port, 0};
    EXPECT_EQ(stranger.operation(EventOperation::bind_interdomain, theft), inval);

    abi::BindInterdomain bind{a.domain.id, 0, offer.port, 0};
    ASSERT_EQ(b.operation(EventOperation::bind_interdomain, bind), 0);
    EXPECT_TRUE(b.pending(bind.local_port)) << "signals may have been lost before";
    EXPECT_EQ(b.operation(EventOperation::bind_interdomain, theft), inval) << "only once";
    EXPECT_EQ(a.status(offer.port).detail[0], b.domain.id);
    EXPECT_EQ(a.status(offer.port).detail[1], bind.local_port);
    EXPECT_EQ(b.simple(EventOperation::send, bind.local_port), 0);
    EXPECT_TRUE(a.pending(offer.port));

    EXPECT_EQ(b.simple(EventOperation::close, bind.local_port), 0);
    EXPECT_EQ(b.simple(EventOperation::close, bind.local_port), inval);
    EXPECT_EQ(a.status(offer.port).status, static_cast<uint32_t>(abi::EventState::unbound));
    EXPECT_FALSE(b.pending(bind.local_port));
    EXPECT_EQ(a.simple(EventOperation::close, offer.port), 0);
}

TEST(Poll, HearsOfPortsOfOtherVcpus) {
    EventGuest guest{2};
    uint32_t const port = guest.bind_ipi(1);
    guest.vcpu().info->upcall_mask = 1;
    guest.argument<uint32_t>(0x80) = port;
    guest.argument<abi::SchedPoll>() = {Guest::argument_address + 0x80, 1, 0, 0};
    EXPECT_FALSE(guest.hypercall(abi::Hypercall::sched_op,
                                 static_cast<uint64_t>(abi::SchedOperation::poll),
                                 Guest::argument_address))
        << "nothing is pending: it sleeps";
    guest.argument<abi::EventPort>(0x100) = {port};
    EXPECT_EQ(guest.hypercall(abi::Hypercall::event_channel_op,
                              static_cast<uint64_t>(EventOperation::send),
                              Guest::argument_address + 0x100, 0, 0, 0, 0, 1),
              0);
    EXPECT_TRUE(guest.run([] {}));
}

/// Whose events it is called for: once, until it has looked again.
TEST(Poll, IsCalledOncePerLook) {
    EventGuest guest;
    uint32_t const polled = guest.bind_ipi(), other = guest.bind_ipi();
    guest.vcpu().info->upcall_mask = 1;
    guest.argument<uint32_t>(0x80) = polled;
    guest.argument<abi::SchedPoll>() = {Guest::argument_address + 0x80, 1, 0, 0};
    EXPECT_FALSE(guest.hypercall(abi::Hypercall::sched_op,
                                 static_cast<uint64_t>(abi::SchedOperation::poll),
                                 Guest::argument_address));
    for (unsigned round = 0; round < 2; ++round) {
        EXPECT_TRUE(guest.vcpu().polling.load());
        Worker::run([&] {
            send_event(guest.domain, other);
            EXPECT_FALSE(guest.vcpu().polling.load()) << "it has been called";
        });
        guest.shared().event_pending[other / 64] = 0;
        run_all_cpus();
        run_all_cpus();
    }
    send_event(guest.domain, polled);
    EXPECT_TRUE(guest.run([] {}));
    EXPECT_EQ(guest.domain.pollers.load(), 0u);
}

TEST(TwoLevelEvents, AChannelToOneself) {
    EventGuest guest;
    abi::AllocUnbound offer{domid_self, domid_self, 0};
    ASSERT_EQ(guest.operation(EventOperation::alloc_unbound, offer), 0);
    abi::BindInterdomain bind{domid_self, 0, offer.port, 0};
    ASSERT_EQ(guest.operation(EventOperation::bind_interdomain, bind), 0);
    EXPECT_EQ(guest.simple(EventOperation::send, bind.local_port), 0);
    EXPECT_TRUE(guest.pending(offer.port));
    EXPECT_EQ(guest.simple(EventOperation::close, offer.port), 0);
    EXPECT_EQ(guest.status(bind.local_port).status,
              static_cast<uint32_t>(abi::EventState::unbound));
}

TEST(TwoLevelEvents, VirtualInterruptsBindOnce) {
    EventGuest guest{2};
    abi::BindVirq request{abi::virq_timer, 1, 0};
    ASSERT_EQ(guest.operation(EventOperation::bind_virq, request), 0);
    uint32_t const port = request.port;
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, request), exist);
    send_virq(guest.vcpu(1), abi::virq_timer);
    EXPECT_TRUE(guest.pending(port));
    EXPECT_EQ(guest.simple(EventOperation::send, port), inval)
        << "a guest does not raise those itself";
    abi::BindVirq wrong{abi::virq_con_ring, 1, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, wrong), inval)
        << "a domain's, on vCPU 0 only";
    wrong = {abi::virq_count, 0, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, wrong), inval);
    wrong = {~0u, 0, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, wrong), inval);
    wrong = {abi::virq_timer, 2, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, wrong), noent);
    abi::BindVcpu move{port, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_vcpu, move), inval)
        << "the timer stays with its vCPU";
    EXPECT_EQ(guest.simple(EventOperation::close, port), 0);
    request = {abi::virq_timer, 1, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, request), 0);
}

TEST(TwoLevelEvents, FreePortsAreClosed) {
    EventGuest guest;
    for (uint32_t const port : {0u, 1u, abi::two_level_ports - 1})
        EXPECT_EQ(guest.status(port).status, static_cast<uint32_t>(abi::EventState::closed))
            << port;
    abi::EventStatus beyond{domid_self, 0, abi::two_level_ports, 0, 0, {}};
    EXPECT_EQ(guest.operation(EventOperation::status, beyond), inval);
}

TEST(TwoLevelEvents, HostilePortsAreRefused) {
    EventGuest guest;
    for (uint32_t const port : {0u, 1u, 77u, 4095u, 4096u, 0x1ffffu, 0x20000u, 0x80000000u, ~0u})
        for (auto const command :
             {EventOperation::close, EventOperation::send, EventOperation::unmask})
            EXPECT_EQ(guest.simple(command, port), inval) << port;
    EXPECT_EQ(*guest.hypercall(abi::Hypercall::event_channel_op, 99, Guest::argument_address), -38);
    EXPECT_EQ(*guest.hypercall(abi::Hypercall::event_channel_op, 4, 0xffff800000000000), -14);
    EXPECT_EQ(*guest.hypercall(abi::Hypercall::event_channel_op, 4, 0), -14);
    EXPECT_EQ(*guest.hypercall(abi::Hypercall::event_channel_op, 4, ~uint64_t{0}), -14);
}

TEST(TwoLevelEvents, HaveNoPrioritiesAndNoPages) {
    EventGuest guest;
    uint32_t const port = guest.bind_ipi();
    for (uint32_t const number : {port, port + 1}) {
        abi::SetPriority priority{number, 0};
        EXPECT_EQ(guest.operation(EventOperation::set_priority, priority), -38) << number;
    }
    abi::SetPriority nowhere{4000, 0};
    EXPECT_EQ(guest.operation(EventOperation::set_priority, nowhere), inval);
    abi::ExpandArray expand{~uint64_t{0}};
    EXPECT_EQ(guest.operation(EventOperation::expand_array, expand), -95);
}

TEST(TwoLevelEvents, AFreePortStaysMasked) {
    EventGuest guest;
    uint32_t const port = guest.bind_ipi();
    guest.shared().event_mask[0] = ~uint64_t{0};
    EXPECT_EQ(guest.simple(EventOperation::unmask, port + 1), 0);
    EXPECT_EQ(guest.shared().event_mask[0], ~uint64_t{0});
    EXPECT_EQ(guest.simple(EventOperation::unmask, port), 0);
    EXPECT_EQ(guest.shared().event_mask[0], ~(uint64_t{1} << port));
}

TEST(TwoLevelEvents, PortsRunOutAndComeBack) {
    EventGuest guest;
    uint32_t last = 0;
    for (;;) {
        abi::BindIpi request{0, 0};
        int64_t const result = guest.operation(EventOperation::bind_ipi, request);
        if (result != 0) {
            EXPECT_EQ(result, -28);
            break;
        }
        last = request.port;
    }
    EXPECT_EQ(last, abi::two_level_ports - 1);
    EXPECT_EQ(guest.simple(EventOperation::close, 1234), 0);
    EXPECT_EQ(guest.bind_ipi(), 1234u);
    abi::EventReset everything{domid_self};
    EXPECT_EQ(guest.operation(EventOperation::reset, everything), 0);
    EXPECT_EQ(guest.bind_ipi(), 1u);
}

TEST(Poll, SleepsUntilItsEventOrItsTime) {
    EventGuest guest;
    uint32_t const port = guest.bind_ipi();
    guest.shared().event_mask[port / 64] |= uint64_t{1} << (port % 64);
    auto const poll = [&](uint64_t timeout) {
        guest.argument<abi::SchedPoll>() = {Guest::argument_address + 0x100, 1, 0, timeout};
        guest.argument<uint32_t>(0x100) = port;
        return guest.hypercall(abi::Hypercall::sched_op,
                               static_cast<uint64_t>(abi::SchedOperation::poll),
                               Guest::argument_address);
    };
    EXPECT_FALSE(poll(0)) << "nothing is pending: it sleeps";
    send_event(guest.domain, port);
    run_all_cpus();
    run_all_cpus();
    EXPECT_TRUE(guest.run([] {})) << "masked or not, a polled event wakes";
    EXPECT_EQ(poll(0), 0) << "still pending: it returns at once";
    guest.shared().event_pending[port / 64] = 0;
    EXPECT_FALSE(poll(now_ns() + 1'000'000));
    host::tsc += 2'000'000;
    run_all_cpus();
    run_all_cpus();
    EXPECT_TRUE(guest.run([] {})) << "its time is over";
}

TEST(Poll, OfPortsThatHaveNeverBeenIsRefused) {
    EventGuest guest;
    uint32_t const mine = guest.bind_ipi();
    auto const poll = [&](uint32_t first, uint32_t second) {
        guest.argument<abi::SchedPoll>() = {Guest::argument_address + 0x100, 2, 0, 1};
        guest.argument<uint32_t>(0x100) = first;
        guest.argument<uint32_t>(0x104) = second;
        return guest.hypercall(abi::Hypercall::sched_op,
                               static_cast<uint64_t>(abi::SchedOperation::poll),
                               Guest::argument_address);
    };
    for (uint32_t const none : {4096u, 1u << 17, ~0u})
        EXPECT_EQ(poll(mine, none), -22);
    EXPECT_FALSE(guest.vcpu().polling.load());
    EXPECT_EQ(guest.domain.pollers.load(), 0u);
    send_event(guest.domain, mine);
    EXPECT_EQ(poll(mine, ~0u), 0) << "there is an event before it";
}

/// A guest of two vCPUs, the first of which sleeps in various ways.
class SleepingGuest : public EventGuest {
public:
    static constexpr uint64_t handler = 0x1000;

    SleepingGuest() : EventGuest{2} { vcpu().registers().rsp = argument_address + 0xf00; }
    void take_nmis() { must(vcpu().traps.set(pv::PvVcpu::nmi_vector, {handler, 0xe033, 4})); }
    std::optional<int64_t> sleep(abi::SchedOperation how) {
        argument<abi::SchedPoll>() = {};
        return hypercall(abi::Hypercall::sched_op, static_cast<uint64_t>(how), argument_address);
    }
    void send_nmi_to_first() {
        EXPECT_EQ(hypercall(abi::Hypercall::vcpu_op,
                            static_cast<uint64_t>(abi::VcpuOperation::send_nmi), 0, 0, 0, 0, 0, 1),
                  0);
    }
    [[nodiscard]] bool in_handler() const { return vcpu().registers().rip == handler; }
};

TEST(Sleepers, AnNmiEndsTheirSleep) {
    for (auto const how : {abi::SchedOperation::block, abi::SchedOperation::poll}) {
        SleepingGuest guest;
        guest.take_nmis();
        EXPECT_FALSE(guest.sleep(how));
        guest.send_nmi_to_first();
        EXPECT_TRUE(guest.run([] {})) << static_cast<unsigned>(how);
        EXPECT_TRUE(guest.in_handler());
    }
}

/// It is paused just when it is on its way to a handler, and called meanwhile.
TEST(Sleepers, AnNmiReachesOneThatStaysOut) {
    SleepingGuest guest;
    guest.take_nmis();
    guest.vcpu().event_callback = {0x2000, 0};
    static SleepingGuest* pausing;
    pausing = &guest;
    host::guest_access = [](void const*, size_t) {
        host::guest_access = nullptr;
        pausing->domain.pauses.fetch_add(1);
    };
    guest.vcpu().info->upcall_mask = 0;
    notify_vcpu(guest.vcpu());
    (void)guest.run([] {});
    ASSERT_EQ(host::guest_access, nullptr) << "there was no frame to be written";
    EXPECT_EQ(guest.vcpu().registers().rip, 0x2000u);
    send_nmi(guest.vcpu());
    Worker::run([&] { unpause_domain(guest.domain); });
    run_all_cpus();
    EXPECT_TRUE(guest.in_handler());
}

TEST(Sleepers, AnNmiThatNobodyTakesDoesNotKeepThemAwake) {
    for (auto const how : {abi::SchedOperation::block, abi::SchedOperation::poll}) {
        SleepingGuest guest;
        guest.send_nmi_to_first();
        EXPECT_FALSE(guest.sleep(how)) << static_cast<unsigned>(how);
        guest.send_nmi_to_first();
        EXPECT_FALSE(guest.run([] {})) << static_cast<unsigned>(how);
        notify_vcpu(guest.vcpu());
        guest.vcpu().info->upcall_mask = 0;
        EXPECT_TRUE(guest.run([] {})) << static_cast<unsigned>(how);
    }
}

/// A guest's side of the FIFO, after the description in public/event_channel.h.
class FifoGuest : public EventGuest {
public:
    Mfn control_page, word_page;
    std::map<uint32_t, unsigned> handled;
    uint32_t heads[abi::fifo::priorities]{};

    explicit FifoGuest(unsigned ports, unsigned vcpus = 1)
        : EventGuest{vcpus}, control_page{new_frame()}, word_page{new_frame()} {
        abi::InitControl init{control_page.raw(), 0, 0, 0, {}};
        EXPECT_EQ(operation(EventOperation::init_control, init), 0);
        EXPECT_EQ(init.link_bits, abi::fifo::link_bits);
        abi::ExpandArray expand{word_page.raw()};
        EXPECT_EQ(operation(EventOperation::expand_array, expand), 0);
        for (unsigned i = 0; i < ports; ++i) {
            abi::SetPriority priority{bind_ipi(), i % abi::fifo::priorities};
            EXPECT_EQ(operation(EventOperation::set_priority, priority), 0);
        }
    }
    [[nodiscard]] abi::fifo::ControlBlock& control() const {
        return *direct<abi::fifo::ControlBlock>(control_page);
    }
    [[nodiscard]] uint32_t& word(uint32_t port) const { return direct<uint32_t>(word_page)[port]; }

    void consume(unsigned most = ~0u) {
        uint32_t ready = std::exchange(control().ready, 0u);
        for (; ready != 0 && most > 0; --most) {
            unsigned const priority = static_cast<unsigned>(std::countr_zero(ready));
            uint32_t const port = heads[priority] ? heads[priority] : control().head[priority];
            uint32_t const next = word(port) & abi::fifo::link_mask;
            word(port) &= ~(abi::fifo::linked | abi::fifo::link_mask);
            if (next == 0)
                ready &= ~(1u << priority);
            if ((word(port) & abi::fifo::pending) && !(word(port) & abi::fifo::masked)) {
                word(port) &= ~abi::fifo::pending;
                ++handled[port];
            }
            heads[priority] = next;
            ready |= std::exchange(control().ready, 0u);
        }
        control().ready |= ready; // not done yet
    }
};

TEST(FifoEvents, EveryEventArrivesOnceWhateverTheOrder) {
    FifoGuest guest{60};
    std::mt19937_64 random{77};
    std::map<uint32_t, unsigned> expected;
    for (unsigned step = 0; step < 4000; ++step) {
        uint32_t const port = 1 + static_cast<uint32_t>(random() % 60);
        switch (random() % 6) {
        case 0:
            guest.consume(static_cast<unsigned>(random() % 5));
            break;
        case 1:
            __atomic_fetch_or(&guest.word(port), abi::fifo::masked, __ATOMIC_SEQ_CST);
            break;
        case 2:
            EXPECT_EQ(guest.simple(EventOperation::unmask, port), 0);
            break;
        case 3: {
            abi::SetPriority priority{port,
                                      static_cast<uint32_t>(random() % abi::fifo::priorities)};
            EXPECT_EQ(guest.operation(EventOperation::set_priority, priority), 0);
            break;
        }
        default:
            if (!(guest.word(port) & abi::fifo::pending))
                ++expected[port];
            EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
        }
    }
    for (uint32_t port = 1; port <= 60; ++port)
        EXPECT_EQ(guest.simple(EventOperation::unmask, port), 0);
    guest.consume();
    for (uint32_t port = 1; port <= 60; ++port)
        EXPECT_EQ(guest.handled[port], expected[port]) << "port " << port;
}

TEST(FifoEvents, APortAllocatedAnewLeavesTheQueueThatItWasTheTailOf) {
    FifoGuest guest{0, 2};
    Mfn const other_page = guest.new_frame();
    abi::InitControl init{other_page.raw(), 0, 1, 0, {}};
    ASSERT_EQ(guest.operation(EventOperation::init_control, init), 0);
    auto const& other_control = *direct<abi::fifo::ControlBlock>(other_page);
    constexpr uint32_t queue = abi::fifo::default_priority;

    uint32_t const moves = guest.bind_ipi(0), stays = guest.bind_ipi(0);
    EXPECT_EQ(guest.simple(EventOperation::send, moves), 0);
    guest.consume();
    EXPECT_EQ(guest.simple(EventOperation::close, moves), 0);
    ASSERT_EQ(guest.bind_ipi(1), moves) << "the number comes back, on another vCPU";
    EXPECT_EQ(guest.simple(EventOperation::send, moves), 0);
    EXPECT_EQ(other_control.head[queue], moves);

    EXPECT_EQ(guest.simple(EventOperation::send, stays), 0);
    EXPECT_EQ(guest.control().ready, 1u << queue) << "it was hung onto the other vCPU's queue";
    EXPECT_EQ(guest.control().head[queue], stays);
    EXPECT_EQ(guest.word(moves) & abi::fifo::link_mask, 0u);
}

/// As when a toolstack has found the domain before it ends, and comes to its ports afterwards.
TEST(FifoEvents, AResetAfterTheEnd) {
    FifoGuest guest{0};
    DomainRef const held = DomainRef::to(guest.domain);
    Worker::run([&] {
        events_release(*held);
        abi::SharedInfo* const shared_info = std::exchange(held->shared_info, nullptr);
        {
            LockGuard guard{held->events->lock};
            held->events->leave_fifo();
        }
        held->shared_info = shared_info;
    });
}

TEST(FifoEvents, HostileWordsHurtNobodyElse) {
    FifoGuest guest{60};
    std::mt19937_64 random{78};
    Mfn const before = guest.new_frame(), after = guest.new_frame();
    for (Mfn const frame : {before, after})
        memset(direct<char>(frame), 0x5a, page_size);
    for (unsigned step = 0; step < 20000; ++step) {
        uint32_t const port = 1 + static_cast<uint32_t>(random() % 64);
        switch (random() % 8) {
        case 0:
            guest.word(static_cast<uint32_t>(random() % 1024)) = static_cast<uint32_t>(random());
            break;
        case 1:
            direct<uint32_t>(guest.control_page)[random() % 20] = static_cast<uint32_t>(random());
            break;
        case 2:
            (void)guest.simple(EventOperation::unmask, port);
            break;
        case 3:
            if (random() % 8 == 0) {
                (void)guest.simple(EventOperation::close, port);
                abi::BindIpi again{0, 0};
                (void)guest.operation(EventOperation::bind_ipi, again);
            }
            break;
        case 4: {
            abi::SetPriority priority{port, static_cast<uint32_t>(random() % 18)};
            (void)guest.operation(EventOperation::set_priority, priority);
            break;
        }
        default:
            (void)guest.simple(EventOperation::send, port);
        }
    }
    for (Mfn const frame : {before, after})
        for (unsigned i = 0; i < page_size; ++i)
            ASSERT_EQ(direct<char>(frame)[i], 0x5a);
}

TEST(FifoEvents, PagesOfWordsAreCheckedAndHeld) {
    FifoGuest guest{1};
    abi::InitControl twice{guest.new_frame().raw(), 0, 0, 0, {}};
    EXPECT_EQ(guest.operation(EventOperation::init_control, twice), -22);
    for (uint32_t const offset :
         {1u, 4u, uint32_t{page_size}, ~0u & ~7u, uint32_t{page_size} - 64}) {
        abi::InitControl bad{guest.new_frame().raw(), offset, 0, 0, {}};
        EXPECT_LT(guest.operation(EventOperation::init_control, bad), 0) << offset;
    }
    abi::InitControl nobody{guest.new_frame().raw(), 0, 7, 0, {}};
    EXPECT_EQ(guest.operation(EventOperation::init_control, nobody), noent);
    for (uint64_t const frame : {guest.l1.raw(), uint64_t{5}, ~uint64_t{0},
                                 guest.domain.shared_info_frame.raw() + (1ul << 40)}) {
        abi::ExpandArray bad{frame};
        EXPECT_LT(guest.operation(EventOperation::expand_array, bad), 0) << frame;
    }
    // A page that Hearth writes to cannot become a table.
    guest.argument<abi::MmuExtOp>() = {0, 0, guest.word_page.raw(), 0};
    EXPECT_LT(
        *guest.hypercall(abi::Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self), 0);
}

TEST(FifoEvents, WhatIsPendingBeforeTheChangeIsSeenAfterIt) {
    EventGuest guest;
    uint32_t const port = guest.bind_ipi();
    EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
    Mfn const control = guest.new_frame(), words = guest.new_frame();
    abi::InitControl init{control.raw(), 0, 0, 0, {}};
    EXPECT_EQ(guest.operation(EventOperation::init_control, init), 0);
    abi::ExpandArray expand{words.raw()};
    EXPECT_EQ(guest.operation(EventOperation::expand_array, expand), 0);
    EXPECT_TRUE(direct<uint32_t>(words)[port] & abi::fifo::pending);
}

TEST(FifoEvents, AResetGoesBackToBits) {
    FifoGuest guest{3};
    EXPECT_EQ(guest.simple(EventOperation::send, 2), 0);
    guest.shared().event_pending[0] = ~uint64_t{0};
    abi::EventReset everything{domid_self};
    EXPECT_EQ(guest.operation(EventOperation::reset, everything), 0);
    abi::ExpandArray expand{guest.word_page.raw()};
    EXPECT_EQ(guest.operation(EventOperation::expand_array, expand), -95);
    // The pages are the guest's again, to be tables if it likes.
    for (Mfn const page : {guest.control_page, guest.word_page}) {
        memset(direct<char>(page), 0, page_size);
        guest.argument<abi::MmuExtOp>() = {0, 0, page.raw(), 0}; // pin as L1
        EXPECT_EQ(
            *guest.hypercall(abi::Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self),
            0);
    }
    uint32_t const port = guest.bind_ipi();
    EXPECT_FALSE(guest.pending(port));
    EXPECT_EQ(guest.simple(EventOperation::send, port), 0);
    EXPECT_TRUE(guest.pending(port));
    // And there again, with pages of its own choice.
    abi::InitControl init{guest.new_frame().raw(), 0, 0, 0, {}};
    EXPECT_EQ(guest.operation(EventOperation::init_control, init), 0);
    Mfn const words = guest.new_frame();
    expand = {words.raw()};
    EXPECT_EQ(guest.operation(EventOperation::expand_array, expand), 0);
    EXPECT_TRUE(direct<uint32_t>(words)[port] & abi::fifo::pending);
    EXPECT_EQ(guest.operation(EventOperation::reset, everything), 0);
}

/// A channel between two domains; whoever is `near` made the offer.
struct Channel {
    uint32_t near, far;
    Channel(EventGuest& a, EventGuest& b) {
        abi::AllocUnbound offer{domid_self, b.domain.id, 0};
        EXPECT_EQ(a.operation(EventOperation::alloc_unbound, offer), 0);
        abi::BindInterdomain bind{a.domain.id, 0, offer.port, 0};
        EXPECT_EQ(b.operation(EventOperation::bind_interdomain, bind), 0);
        near = offer.port;
        far = bind.local_port;
    }
};

TEST(ChannelsBetweenKinds, EachSideHearsInItsOwnWay) {
    FifoGuest fifo{3};
    EventGuest bits;
    for (bool const fifo_offers : {true, false}) {
        Channel const channel = fifo_offers ? Channel{fifo, bits} : Channel{bits, fifo};
        uint32_t const its = fifo_offers ? channel.near : channel.far;
        uint32_t const other = fifo_offers ? channel.far : channel.near;
        fifo.consume();
        fifo.handled.clear();
        bits.shared().event_pending[other / 64] = 0;
        abi::SetPriority priority{its, 2};
        EXPECT_EQ(fifo.operation(EventOperation::set_priority, priority), 0);
        priority.port = other;
        EXPECT_EQ(bits.operation(EventOperation::set_priority, priority), -38);
        EXPECT_EQ(fifo.simple(EventOperation::send, its), 0);
        EXPECT_TRUE(bits.pending(other));
        EXPECT_EQ(fifo.word(its) & abi::fifo::pending, 0u);
        EXPECT_EQ(bits.simple(EventOperation::send, other), 0);
        EXPECT_EQ(fifo.control().ready, 1u << 2) << "the priority that the receiver chose";
        fifo.consume();
        EXPECT_EQ(fifo.handled[its], 1u);
        EXPECT_EQ(bits.simple(EventOperation::close, other), 0);
        EXPECT_EQ(fifo.status(its).status, static_cast<uint32_t>(abi::EventState::unbound));
        EXPECT_EQ(fifo.simple(EventOperation::close, its), 0);
    }
}

TEST(ChannelsBetweenKinds, AHighPortOfOneIsNoPortOfTheOther) {
    FifoGuest fifo{0};
    EventGuest bits;
    uint32_t high = 0;
    for (uint32_t i = 0; i < abi::two_level_ports; ++i)
        high = fifo.bind_ipi();
    ASSERT_GE(high, abi::two_level_ports);
    Channel const channel{fifo, bits};
    EXPECT_GT(channel.near, high);
    EXPECT_EQ(bits.simple(EventOperation::send, channel.near), inval);
    EXPECT_EQ(bits.simple(EventOperation::send, channel.far), 0);
    EXPECT_EQ(fifo.simple(EventOperation::send, channel.near), 0);
    EXPECT_TRUE(bits.pending(channel.far));
    // Nor is it one of its own any more when there are only bits.
    EXPECT_EQ(fifo.simple(EventOperation::unmask, high), 0);
    abi::EventReset everything{domid_self};
    EXPECT_EQ(fifo.operation(EventOperation::reset, everything), 0);
    EXPECT_EQ(fifo.simple(EventOperation::unmask, high), inval);
}

TEST(EventLimits, NoPortAboveTheDomains) {
    EventGuest guest;
    events_limit_ports(guest.domain, 3);
    for (uint32_t port = 1; port <= 3; ++port)
        EXPECT_EQ(guest.bind_ipi(), port);
    abi::BindIpi one_more{0, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_ipi, one_more), -28);
    EXPECT_EQ(guest.simple(EventOperation::close, 2), 0);
    EXPECT_EQ(guest.bind_ipi(), 2u);
}

TEST(EventEnd, ClosesEveryChannelAndGivesPagesBack) {
    FifoGuest guest{2};
    EventGuest peer;
    Channel const ours{guest, peer}, theirs{peer, guest};
    abi::BindVirq virq{abi::virq_timer, 0, 0};
    EXPECT_EQ(guest.operation(EventOperation::bind_virq, virq), 0);
    abi::AllocUnbound offer{domid_self, peer.domain.id, 0};
    EXPECT_EQ(guest.operation(EventOperation::alloc_unbound, offer), 0);
    EXPECT_EQ(page_at(guest.control_page).type_word().count(), 1u);
    EXPECT_TRUE(guest.run([&] { events_release(guest.domain); }));
    for (Mfn const page : {guest.control_page, guest.word_page}) {
        EXPECT_EQ(page_at(page).type_word().count(), 0u);
        EXPECT_EQ(page_at(page).references.load() & Page::count_mask, 1u);
    }
    for (uint32_t const port : {ours.far, theirs.near}) {
        EXPECT_EQ(peer.status(port).status, static_cast<uint32_t>(abi::EventState::unbound));
        EXPECT_EQ(peer.simple(EventOperation::send, port), 0);
    }
    EXPECT_EQ(guest.vcpu().virq_ports[abi::virq_timer], 0u);
    // Nobody gets at it any more, and nothing is written to its frames.
    send_virq(guest.vcpu(), abi::virq_timer);
    send_event(guest.domain, ours.near);
    abi::BindInterdomain bind{guest.domain.id, 0, offer.port, 0};
    EXPECT_EQ(peer.operation(EventOperation::bind_interdomain, bind), inval);
    peer.domain.privileged = true;
    abi::AllocUnbound more{guest.domain.id, peer.domain.id, 0};
    EXPECT_EQ(peer.operation(EventOperation::alloc_unbound, more), inval);
    EXPECT_TRUE(guest.run([&] { events_release(guest.domain); })) << "twice is no harm";
    events_destroy(guest.domain);
    EXPECT_EQ(guest.domain.events, nullptr);
    EXPECT_TRUE(events_create(guest.domain)); // for what comes after the test
}

} // namespace
} // namespace hearth::test
