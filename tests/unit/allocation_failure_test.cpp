// Each allocation of the hypervisor fails once, in scenarios of a toolstack and its guests:
// somebody is told, and after the end of all nothing is left.
#include "grant_guest.h"
#include "inventory.h"
#include "toolstack.h"

#include "abi/event_channel.h"
#include "domain/guest_memory.h"

#include <gtest/gtest.h>

#include <memory>

namespace hearth::test {
namespace {

using abi::DomctlOperation;
using abi::EventOperation;
using abi::Hypercall;

/// What a scenario's calls answer: whether all went well.
class Answers {
    bool good_ = true;

public:
    bool operator()(int64_t answer) {
        good_ = good_ && answer >= 0;
        return answer >= 0;
    }
    bool operator()(GrantStatus status) {
        good_ = good_ && status == GrantStatus::okay;
        return status == GrantStatus::okay;
    }
    [[nodiscard]] bool good() const { return good_; }
};

/// Suspends the failure: what is done meanwhile is not the scenario's.
class Undisturbed {
    uint64_t const left_ = host::allocations_left();

public:
    Undisturbed() { host::fail_allocation(0); }
    ~Undisturbed() {
        if (left_ != 0)
            host::fail_allocation(left_);
    }
    Undisturbed(Undisturbed const&) = delete;
};
template <class T, class... A>
std::unique_ptr<T> undisturbed(A&&... arguments) {
    Undisturbed const now;
    return std::make_unique<T>(std::forward<A>(arguments)...);
}

std::vector<Mfn> new_frames(Guest& guest, unsigned count) {
    Undisturbed const now;
    std::vector<Mfn> frames;
    for (unsigned i = 0; i < count; ++i)
        frames.push_back(guest.new_frame());
    return frames;
}

/// Leaves nothing behind, whatever fails in it.
using Scenario = void (*)(Toolstack&, Answers&);

/// How many allocations the scenario makes. Each has failed once.
unsigned fail_each(Scenario scenario) {
    Toolstack toolstack;
    auto const runs_well = [&] {
        Answers answers;
        scenario(toolstack, answers);
        Toolstack::settle();
        return answers.good();
    };
    EXPECT_TRUE(runs_well());
    EXPECT_TRUE(runs_well()) << "what is made only once is there now";
    Inventory const before = Inventory::now();
    for (unsigned n = 1;; ++n) {
        host::fail_allocation(n);
        bool const well = runs_well();
        host::fail_allocation(0);
        if (!host::allocation_failed())
            return n - 1;
        EXPECT_EQ(Inventory::now(), before) << "after allocation " << n << " failed";
        EXPECT_FALSE(well) << "nobody was told that allocation " << n << " failed";
        if (testing::Test::HasFailure())
            return 0;
    }
}

TEST(AllocationFailure, OfADomainThatIsMade) {
    EXPECT_GT(
        fail_each([](Toolstack& t, Answers& answers) {
            auto create = Toolstack::ordinary(3);
            if (!answers(t.control(DomctlOperation::createdomain, 0, create)))
                return;
            DomainId const id = t.number;
            abi::DomctlMaxVcpus vcpus{3};
            answers(t.control(DomctlOperation::max_vcpus, id, vcpus));
            abi::DomctlMaxMemory memory{4096};
            answers(t.control(DomctlOperation::max_mem, id, memory));
            constexpr uint64_t list = 0x100;
            for (int64_t const order : {0, 3}) {
                t.argument<uint64_t>(list) = 8 * order;
                t.argument<uint64_t>(list + 8) = 8 * order + 8;
                t.argument<abi::MemoryReservation>() = {
                    Guest::argument_address + list, 2, static_cast<uint32_t>(order), 0, id, {}};
                answers(t.hypercall(Hypercall::memory_op,
                                    static_cast<uint64_t>(abi::MemoryOperation::populate_physmap),
                                    Guest::argument_address) == 2
                            ? 0
                            : nomem);
            }
            answers(t.end(id));
        }),
        19u);
}

TEST(AllocationFailure, TheEndOfADomainNeedsNoMemory) {
    EXPECT_EQ(fail_each([](Toolstack&, Answers&) { (void)undisturbed<Guest>(2u); }), 0u);
}

TEST(AllocationFailure, OfVcpuState) {
    EXPECT_GT(fail_each([](Toolstack& t, Answers& answers) {
                  auto const guest = undisturbed<Guest>(1u);
                  DomainId const id = guest->domain.id;
                  answers(t.control(DomctlOperation::pausedomain, id));
                  // Of more than a page: it is too large for where it is to go, unless memory fails
                  // first.
                  constexpr uint64_t at = Guest::argument_address + 0x200;
                  abi::DomctlVcpuContext context{0, 0, at};
                  int64_t const read = t.control(DomctlOperation::getvcpucontext, id, context);
                  answers(read == fault || read == -61 ? 0 : read);
                  int64_t const written = t.control(DomctlOperation::setvcpucontext, id, context);
                  answers(written == fault ? 0 : written);
                  abi::DomctlExtendedState state{0, 0, 0, 0, 0};
                  answers(t.control(DomctlOperation::getvcpuextstate, id, state));
                  state.buffer = at;
                  int64_t const saved = t.control(DomctlOperation::getvcpuextstate, id, state);
                  answers(saved == fault ? 0 : saved);
                  answers(t.control(DomctlOperation::unpausedomain, id));
              }),
              1u);
}

TEST(AllocationFailure, OfHandlersAndPermissions) {
    EXPECT_EQ(fail_each([](Toolstack& t, Answers& answers) {
                  auto const guest = undisturbed<Guest>(1u);
                  constexpr uint64_t list = 0x100;
                  guest->argument<abi::TrapInfo>(list) = {14, 0, 0xe033, 0, 0x1000};
                  guest->argument<abi::TrapInfo>(list + 16) = {0x80, 3, 0xe033, 0, 0x2000};
                  guest->argument<abi::TrapInfo>(list + 32) = {0x81, 3, 0xe033, 0, 0x2000};
                  guest->argument<abi::TrapInfo>(list + 48) = {};
                  answers(
                      guest->hypercall(Hypercall::set_trap_table, Guest::argument_address + list)
                          .value_or(-1000));
                  abi::DomctlIoportPermission ports{0x3f8, 8, 1, {}};
                  answers(t.control(DomctlOperation::ioport_permission, guest->domain.id, ports));
              }),
              4u)
        << "two pieces of the table, the permissions, and a frame for one of them";
}

TEST(AllocationFailure, OfEventChannels) {
    EXPECT_GT(
        fail_each([](Toolstack&, Answers& answers) {
            auto const guest = undisturbed<Guest>(1u);
            auto const frames = new_frames(*guest, 2);
            auto const operation = [&](EventOperation what, auto argument) {
                guest->argument<decltype(argument)>() = argument;
                return guest
                    ->hypercall(Hypercall::event_channel_op, static_cast<uint64_t>(what),
                                Guest::argument_address)
                    .value_or(-1000);
            };
            for (unsigned i = 0; i < 300; ++i)
                answers(
                    operation(EventOperation::alloc_unbound, abi::AllocUnbound{domid_self, 0, 0}));
            answers(operation(EventOperation::init_control,
                              abi::InitControl{frames[0].raw(), 0, 0, 0, {}}));
            answers(operation(EventOperation::expand_array, abi::ExpandArray{frames[1].raw()}));
        }),
        3u);
}

TEST(AllocationFailure, OfGrants) {
    EXPECT_GT(fail_each([](Toolstack&, Answers& answers) {
                  auto const granter = undisturbed<GrantGuest>(1u, 2u);
                  auto const mapper = undisturbed<GrantGuest>(1u);
                  auto const frames = new_frames(*granter, 1);
                  answers(granter->setup(4));
                  granter->grant(20, *mapper, frames[0]);
                  auto const mapped =
                      mapper->map(*granter, 20, GrantGuest::address(3), abi::grant_map::host);
                  if (answers(mapped.status))
                      answers(mapper->unmap(mapped.handle, GrantGuest::address(3)));
              }),
              9u);
}

TEST(AllocationFailure, OfTheDirtyLog) {
    auto const moves = [](Toolstack& t, Answers& answers) {
        auto const guest = undisturbed<Guest>(1u);
        auto const operate = [&](uint32_t operation) {
            abi::DomctlShadowOp request{};
            request.operation = operation;
            request.dirty_bitmap = Guest::argument_address + 0x200;
            request.page_count = 64;
            return t.control(DomctlOperation::shadow_op, guest->domain.id, request);
        };
        t.domain.hardware = true; // it is reported to Domain 0's log
        if (answers(operate(abi::shadow_enable_log_dirty))) {
            uint64_t word = 0;
            (void)guest->run([&] {
                answers(copy_from_guest(&word, GuestAddress{Guest::argument_address}, 8) ? 0
                                                                                         : fault);
            });
            answers(operate(abi::shadow_clean));
            answers(operate(abi::shadow_off));
        }
        t.domain.hardware = false;
    };
    EXPECT_GT(fail_each(moves), 10u);
}

} // namespace
} // namespace hearth::test
