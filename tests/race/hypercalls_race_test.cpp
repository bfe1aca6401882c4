// Guests and a toolstack at work on several CPUs at once, for the thread sanitizer. HEARTH_SEED=n
// replays a choice of operations, though not their timing; HEARTH_ROUNDS=n makes it longer.
#include "parallel_machine.h"

#include "abi/domctl.h"
#include "abi/event_channel.h"
#include "abi/grant_table.h"
#include "abi/operations.h"
#include "abi/sysctl.h"

#include <gtest/gtest.h>

namespace hearth::test {
namespace {

unsigned rounds() {
    char const* const text = getenv("HEARTH_ROUNDS");
    return text ? static_cast<unsigned>(atoi(text)) : 1500;
}

/// Events, grants, page tables and timers, with another guest.
class GuestProgram final : public Program {
    Guest& other_;
    Mfn table_ = invalid_mfn; // its grant table's first frame
    std::vector<Mfn> frames_;
    uint32_t handle_ = 0;

    uint32_t any_port() { return static_cast<uint32_t>(below(24)); }

    void event() {
        auto const operate = [&](abi::EventOperation what, auto const& body) {
            argument<std::decay_t<decltype(body)>>() = body;
            (void)call(abi::Hypercall::event_channel_op, static_cast<uint64_t>(what), address());
        };
        switch (below(8)) {
        case 0:
            return operate(abi::EventOperation::alloc_unbound,
                           abi::AllocUnbound{domid_self, other_.domain.id, 0});
        case 1:
            return operate(abi::EventOperation::bind_interdomain,
                           abi::BindInterdomain{other_.domain.id, 0, any_port(), 0});
        case 2:
            return operate(abi::EventOperation::close, abi::EventPort{any_port()});
        case 3:
            return operate(abi::EventOperation::unmask, abi::EventPort{any_port()});
        case 4:
            return operate(abi::EventOperation::status,
                           abi::EventStatus{domid_self, 0, any_port(), 0, 0, {}});
        case 5:
            return operate(abi::EventOperation::bind_vcpu,
                           abi::BindVcpu{any_port(), static_cast<uint32_t>(below(2))});
        default:
            return operate(abi::EventOperation::send, abi::EventPort{any_port()});
        }
    }
    void offer() {
        auto& entry = direct<abi::GrantEntryV1>(table_)[8 + below(8)];
        uint32_t const frame = static_cast<uint32_t>(frames_[below(frames_.size())].raw());
        uint64_t const value = uint64_t{frame} << 32 | uint64_t{other_.domain.id} << 16 |
                               (one_in(4) ? 0 : abi::grant::permit_access);
        auto* const word = reinterpret_cast<uint64_t*>(&entry);
        uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
        if (!(old & (abi::grant::reading | abi::grant::writing)))
            (void)__atomic_compare_exchange_n(word, &old, value, false, __ATOMIC_ACQ_REL,
                                              __ATOMIC_RELAXED);
    }
    void grant() {
        auto const operate = [&](abi::GrantOperation what) {
            return call(abi::Hypercall::grant_table_op, static_cast<uint64_t>(what), address(), 1);
        };
        uint64_t const where = Guest::argument_address + (8 + below(4)) * page_size;
        switch (below(4)) {
        case 0:
            offer();
            return;
        case 1:
            argument<abi::GrantMap>() = {where,
                                         abi::grant_map::host,
                                         static_cast<uint32_t>(8 + below(8)),
                                         other_.domain.id,
                                         {},
                                         0,
                                         0};
            (void)operate(abi::GrantOperation::map_grant_ref);
            if (argument<abi::GrantMap>().status == abi::GrantStatus::okay)
                handle_ = argument<abi::GrantMap>().handle;
            return;
        case 2:
            argument<abi::GrantUnmap>() = {
                where, 0, one_in(2) ? handle_ : uint32_t(below(8)), {}, 0};
            (void)operate(abi::GrantOperation::unmap_grant_ref);
            return;
        default: // of no bytes: the frames' contents are everybody's
            argument<abi::GrantCopy>() = {{8 + below(8), other_.domain.id, 0, 0},
                                          {frames_[below(frames_.size())].raw(), domid_self, 0, 0},
                                          0,
                                          abi::copy_source_reference,
                                          {},
                                          0};
            (void)operate(abi::GrantOperation::copy);
        }
    }
    void tables() {
        uint64_t const where = Guest::argument_address + (4 + below(4)) * page_size;
        Mfn const frame = frames_[below(frames_.size())];
        if (one_in(3)) {
            argument<abi::MmuExtOp>() = {
                static_cast<uint32_t>(one_in(2) ? abi::MmuExtCommand::pin_l1_table
                                                : abi::MmuExtCommand::unpin_table),
                0, frame.raw(), 0};
            (void)call(abi::Hypercall::mmuext_op, address(), 1, 0, domid_self);
            return;
        }
        Pte const value =
            one_in(3)
                ? Pte{}
                : Pte::make(frame, pte::present | pte::user | (one_in(2) ? pte::writable : 0));
        (void)call(abi::Hypercall::update_va_mapping, where, value.v,
                   below(3) | (one_in(2) ? 4 : 0));
    }
    void time() {
        switch (below(3)) {
        case 0:
            (void)call(abi::Hypercall::set_timer_op, below(1'000'000));
            return;
        case 1:
            (void)call(abi::Hypercall::vcpu_op,
                       static_cast<uint64_t>(abi::VcpuOperation::get_runstate_info), below(2),
                       address());
            return;
        default:
            (void)call(abi::Hypercall::sched_op, 0); // yield
        }
    }
    void step() override {
        switch (below(4)) {
        case 0:
            return event();
        case 1:
            return grant();
        case 2:
            return tables();
        default:
            return time();
        }
    }

public:
    GuestProgram(uint64_t seed, Guest& guest, Guest& other, unsigned vcpu, Mfn table,
                 std::vector<Mfn> frames)
        : Program{guest, vcpu, seed * 100 + guest.domain.id * 4 + vcpu, rounds()}, other_{other},
          table_{table}, frames_{std::move(frames)} {}
};

/// Asks and tells about the guests, stops and starts them, logs their writes; makes others and ends
/// them.
class ToolstackProgram final : public Program {
    std::vector<DomainId> guests_;
    DomainId made_ = 0;

    template <class T>
    int64_t domctl(abi::DomctlOperation what, DomainId id, T const& body) {
        abi::Domctl op{static_cast<uint32_t>(what), abi::domctl_interface_version, id, {}, {}};
        memcpy(op.body, &body, sizeof body);
        argument<abi::Domctl>() = op;
        return call(abi::Hypercall::domctl, address());
    }
    int64_t domctl(abi::DomctlOperation what, DomainId id) { return domctl(what, id, uint8_t{0}); }

    void log_writes(DomainId id) {
        abi::DomctlShadowOp request{};
        constexpr uint32_t operations[] = {abi::shadow_off, abi::shadow_enable_log_dirty,
                                           abi::shadow_clean, abi::shadow_clean, abi::shadow_peek};
        request.operation = operations[below(std::size(operations))];
        request.dirty_bitmap = address() + 0x200;
        request.page_count = 1024;
        (void)domctl(abi::DomctlOperation::shadow_op, id, request);
    }
    void come_and_go() {
        if (made_ != 0) {
            (void)domctl(abi::DomctlOperation::destroydomain, std::exchange(made_, 0));
            return;
        }
        abi::DomctlCreate create{};
        create.max_vcpus = 1;
        create.max_event_port = ~0u;
        create.max_grant_frames = create.max_maptrack_frames = -1;
        create.grant_options = 2;
        if (domctl(abi::DomctlOperation::createdomain, 0, create) == 0)
            made_ = argument<abi::Domctl>().domain;
    }
    void list() {
        abi::Sysctl op{static_cast<uint32_t>(one_in(2) ? abi::SysctlOperation::physinfo
                                                       : abi::SysctlOperation::availheap),
                       abi::sysctl_interface_version,
                       {}};
        argument<abi::Sysctl>() = op;
        (void)call(abi::Hypercall::sysctl, address());
    }
    void step() override {
        DomainId const id = guests_[below(guests_.size())];
        switch (below(10)) {
        case 0:
            (void)domctl(abi::DomctlOperation::pausedomain, id);
            (void)domctl(abi::DomctlOperation::unpausedomain, id);
            return;
        case 1:
            return log_writes(id);
        case 2:
            if (one_in(4))
                return come_and_go();
            return;
        case 3:
            return list();
        case 4:
            (void)domctl(abi::DomctlOperation::getvcpuinfo, id, abi::DomctlVcpuInfo{});
            return;
        case 5: {
            abi::DomctlSchedulerOp request{};
            request.scheduler = abi::scheduler_credit2;
            request.command = abi::scheduler_put;
            request.weight = static_cast<uint16_t>(1 + below(1000));
            (void)domctl(abi::DomctlOperation::scheduler_op, id, request);
            return;
        }
        case 6: {
            abi::DomctlVcpuAffinity request{};
            request.flags = abi::affinity_hard;
            argument<uint64_t>(0x300) = 1 + below(15);
            request.hard = {address() + 0x300, 64, 0};
            (void)domctl(abi::DomctlOperation::setvcpuaffinity, id, request);
            return;
        }
        default:
            (void)domctl(abi::DomctlOperation::getdomaininfo, id, abi::DomctlInfo{});
        }
    }

public:
    ToolstackProgram(uint64_t seed, Guest& guest, std::vector<DomainId> guests)
        : Program{guest, 0, seed, rounds()}, guests_{std::move(guests)} {}
};

Mfn set_up_grants(Guest& guest) {
    guest.argument<abi::GrantSetupTable>() = {domid_self, 0,  1,
                                              {},         {}, Guest::argument_address + 0xe00};
    EXPECT_EQ(guest.hypercall(abi::Hypercall::grant_table_op,
                              static_cast<uint64_t>(abi::GrantOperation::setup_table),
                              Guest::argument_address, 1),
              0);
    return Mfn{guest.argument<uint64_t>(0xe00)};
}

void work_at_once(uint64_t seed) {
    Guest control{1, ~0u, true};
    control.domain.hardware = false; // whose end would be the machine's
    Guest a{2}, b{2};
    std::vector<std::unique_ptr<GuestProgram>> programs;
    std::vector<Program*> all;
    for (auto const& [guest, other] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        guest->bring_up(1);
        Mfn const table = set_up_grants(*guest);
        std::vector<Mfn> frames;
        for (unsigned i = 0; i < 8; ++i)
            frames.push_back(guest->new_frame());
        for (unsigned vcpu = 0; vcpu < 2; ++vcpu) {
            programs.push_back(
                std::make_unique<GuestProgram>(seed, *guest, *other, vcpu, table, frames));
            all.push_back(programs.back().get());
        }
    }
    ToolstackProgram toolstack{seed, control, {a.domain.id, b.domain.id}};
    all.push_back(&toolstack);
    EXPECT_TRUE(ParallelMachine::run(all)) << "seed " << seed << ": somebody waits for ever";
}

TEST(Races, GuestsAndAToolstackAtOnce) {
    if (char const* const text = getenv("HEARTH_SEED"))
        return work_at_once(strtoull(text, nullptr, 0));
    for (uint64_t seed = 1; seed <= 40; ++seed)
        work_at_once(seed);
}

/// Registers a place for each of the vCPUs that are not up yet, at the same time as another does.
class RegisteringProgram final : public Program {
    std::atomic<unsigned>& ready_;
    unsigned vcpu_ = 2;

    void step() override {
        unsigned const everybody = 2 * (vcpu_ - 1);
        for (ready_.fetch_add(1); ready_.load() < everybody;)
            host::interrupt_window();
        argument<abi::RegisterVcpuInfo>() = {frame_.raw(), 0, 0};
        if (call(abi::Hypercall::vcpu_op,
                 static_cast<uint64_t>(abi::VcpuOperation::register_vcpu_info), vcpu_++,
                 address()) == 0)
            ++registered_;
    }

public:
    static constexpr unsigned vcpus = 34;
    Mfn const frame_;
    unsigned registered_ = 0;

    RegisteringProgram(Guest& guest, unsigned vcpu, std::atomic<unsigned>& ready)
        : Program{guest, vcpu, 1, vcpus - 2}, ready_{ready}, frame_{guest.new_frame()} {}
};

/// Each vCPU has one place, and who came too late keeps nothing.
TEST(Races, APlaceForAVcpusInfoIsRegisteredOnce) {
    for (unsigned i = 0; i < 20; ++i) {
        Guest guest{RegisteringProgram::vcpus, 2};
        guest.bring_up(1);
        std::atomic<unsigned> ready{0};
        RegisteringProgram first{guest, 0, ready}, second{guest, 1, ready};
        ASSERT_TRUE(ParallelMachine::run({&first, &second}));
        EXPECT_EQ(first.registered_ + second.registered_, RegisteringProgram::vcpus - 2);
        for (RegisteringProgram const* const one : {&first, &second})
            EXPECT_EQ(page_at(one->frame_).references.load() & Page::count_mask,
                      1 + one->registered_);
    }
}

/// Somebody is pausing a guest, slowly, on CPU 0.
std::atomic<bool> pausing{false};
void pause_slowly() {
    if (pausing.load() && host::current_cpu() == 0)
        std::this_thread::sleep_for(std::chrono::microseconds{10});
}

/// Brings the other one up when that is down, and goes down itself; or, the last of the guest's,
/// does so while the guest is being paused.
class RelayProgram final : public Program {
    std::atomic<bool> const& over_;
    unsigned const self_, other_;

    int64_t vcpu_op(abi::VcpuOperation what, unsigned vcpu) {
        return call(abi::Hypercall::vcpu_op, static_cast<uint64_t>(what), vcpu);
    }
    void wait_for_pause() {
        while (!pausing.load() && !over_.load())
            std::this_thread::yield();
        // The first one is looked at now.
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    void step() override {
        if (vcpu_op(abi::VcpuOperation::is_up, other_) == 0) {
            if (self_ > other_)
                wait_for_pause();
            (void)vcpu_op(abi::VcpuOperation::up, other_);
            if (!over_.load())
                (void)vcpu_op(abi::VcpuOperation::down, self_);
        }
        if (over_.load())
            finish();
    }

public:
    RelayProgram(Guest& guest, unsigned self, unsigned other, std::atomic<bool> const& over)
        : Program{guest, self, 1, ~0u}, over_{over}, self_{self}, other_{other} {}
};

/// Keeps its CPU to itself while somebody pauses a guest, though not for ever.
class CpuHolder final : public Program {
    std::atomic<bool> const& over_;

    void step() override {
        using namespace std::chrono;
        for (auto const end = steady_clock::now() + 100ms;
             pausing.load() && steady_clock::now() < end;)
            std::this_thread::yield();
        (void)call(abi::Hypercall::sched_op, static_cast<uint64_t>(abi::SchedOperation::yield));
        if (over_.load())
            finish();
    }

public:
    CpuHolder(Guest& guest, std::atomic<bool> const& over)
        : Program{guest, 0, 1, ~0u}, over_{over} {}
};

/// Pauses a guest whose last vCPU is up and the first one down, and looks whether all are parked.
class PausingProgram final : public Program {
    Domain& domain_;
    std::atomic<bool>& over_;
    unsigned left_ = 10;

    int64_t domctl(abi::DomctlOperation what) {
        argument<abi::Domctl>() = {
            static_cast<uint32_t>(what), abi::domctl_interface_version, domain_.id, {}, {}};
        return call(abi::Hypercall::domctl, address());
    }
    void step() override {
        if (!domain_.vcpus[domain_.vcpu_count - 1]->online.load() || !is_parked(*domain_.vcpus[0]))
            return std::this_thread::yield();
        pausing.store(true);
        EXPECT_EQ(domctl(abi::DomctlOperation::pausedomain), 0);
        for (unsigned i = 0; i < domain_.vcpu_count; ++i)
            not_parked_ += is_parked(*domain_.vcpus[i]) ? 0 : 1;
        pausing.store(false);
        EXPECT_EQ(domctl(abi::DomctlOperation::unpausedomain), 0);
        if (--left_ == 0) {
            over_.store(true);
            finish();
        }
    }

public:
    unsigned not_parked_ = 0;

    PausingProgram(Guest& guest, Domain& paused, std::atomic<bool>& over)
        : Program{guest, 0, 1, ~0u}, domain_{paused}, over_{over} {}
};

/// Also if the last one on its way has brought up one that was at its border already, and has to
/// wait for a CPU now.
TEST(Races, APausedDomainsVcpusAreParked) {
    constexpr unsigned vcpus = 32;
    Guest control{1, ~0u, true};
    control.domain.hardware = false; // whose end would be the machine's
    Guest guest{vcpus}, another;
    set_affinity(control.vcpu(0), CpuMask::of(0));
    set_affinity(guest.vcpu(vcpus - 1), CpuMask::of(1));
    for (pv::PvVcpu* const v : {&guest.vcpu(0), &another.vcpu(0)})
        set_affinity(*v, CpuMask::of(2));
    std::atomic<bool> over{false};
    RelayProgram first{guest, 0, vcpus - 1, over}, last{guest, vcpus - 1, 0, over};
    CpuHolder holder{another, over};
    PausingProgram toolstack{control, guest.domain, over};
    host::hesitate = pause_slowly;
    EXPECT_TRUE(ParallelMachine::run({&first, &last, &holder, &toolstack}));
    host::hesitate = nullptr;
    EXPECT_EQ(toolstack.not_parked_, 0u);
}

} // namespace
} // namespace hearth::test
