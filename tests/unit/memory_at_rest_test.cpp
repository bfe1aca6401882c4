// What Hearth keeps for a guest that only sleeps: see docs/performance.md.
#include "toolstack.h"

#include "abi/event_channel.h"
#include "abi/grant_table.h"
#include "grant/grant.h"
#include "grant/use.h"

namespace hearth::test {
namespace {

/// A vCPU, some handlers, its map of memory, and what xl's store and console need: two ports, and
/// two grants in use.
void set_up(Toolstack& toolstack, DomainId id) {
    Domain& domain = *find_domain(id);
    constexpr uint64_t map = 0x100;
    toolstack.argument<abi::E820Entry>(map) = {0, 4 << 20, 1};
    toolstack.argument<abi::ForeignMemoryMap>() = {id, {}, {1, 0, Guest::argument_address + map}};
    ASSERT_EQ(toolstack.hypercall(abi::Hypercall::memory_op,
                                  static_cast<uint64_t>(abi::MemoryOperation::set_memory_map),
                                  Guest::argument_address),
              0);
    ASSERT_TRUE(pv::pv_vcpu(*domain.vcpus[0]).traps.set(14, {0x1000, 0xe033, 0}));
    for (unsigned i = 0; i < 2; ++i) {
        toolstack.argument<abi::AllocUnbound>() = {id, toolstack.domain.id, 0};
        ASSERT_EQ(toolstack.hypercall(abi::Hypercall::event_channel_op,
                                      static_cast<uint64_t>(abi::EventOperation::alloc_unbound),
                                      Guest::argument_address),
                  0);
    }
    ASSERT_TRUE(toolstack.run([&] {
        auto const frame = grant_frame(domain, GrantFrames::shared, 0);
        ASSERT_TRUE(frame);
        for (uint32_t reference = 0; reference < 2; ++reference) {
            direct<abi::GrantEntryV1>(*frame)[reference] = {abi::grant::permit_access,
                                                            toolstack.domain.id, 1};
            GrantTerms terms;
            ASSERT_EQ(domain.grants->table.begin(reference, toolstack.domain.id, true,
                                                 GrantPurpose::map, terms),
                      GrantStatus::okay);
        }
    }));
}

TEST(MemoryAtRest, IsLittleBesideTheGuestsOwn) {
    constexpr unsigned guests = 32;
    constexpr uint64_t goal = 20 * 1024; // without stacks, which are not of this memory here
    constexpr uint64_t avx512 = 2048;    // a frame for a vCPU with that, half of one here
    Toolstack toolstack;
    uint64_t const before = free_frame_count();
    std::vector<DomainId> made;
    for (unsigned i = 0; i < guests; ++i) {
        made.push_back(toolstack.make());
        ASSERT_NO_FATAL_FAILURE(set_up(toolstack, made.back()));
    }
    uint64_t const kept = (before - free_frame_count()) * page_size / guests + avx512;
    RecordProperty("bytes", static_cast<int>(kept));
    EXPECT_LE(kept, goal);
    for (DomainId const id : made) {
        for (uint32_t reference = 0; reference < 2; ++reference)
            find_domain(id)->grants->table.end(reference, true);
        EXPECT_EQ(toolstack.end(id), 0);
    }
}

} // namespace
} // namespace hearth::test
