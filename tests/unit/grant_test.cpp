// Mapping and unmapping granted frames, one rule at a time. Copies are in grant_copy_test.cpp.
#include "grant_guest.h"

namespace hearth::test {
namespace {

namespace gtf = abi::grant;
namespace map_flag = abi::grant_map;

constexpr uint32_t host = map_flag::host;
constexpr uint32_t readonly = map_flag::host | map_flag::readonly;
constexpr uint16_t used = gtf::reading | gtf::writing;

/// Everything that holds for either version of the table.
class Grants : public testing::TestWithParam<unsigned> {
protected:
    GrantGuest front{1, GetParam()};
    GrantGuest back{2};
    GrantGuest third;
    FrameAccounting accounting;
    Mfn frame = front.new_frame();
    std::map<uint64_t, unsigned> handles; // frames that handles hold

    void SetUp() override { front.grant(9, back, frame); }
    void all_is_well() {
        HeldElsewhere elsewhere;
        elsewhere.read_only = handles;
        EXPECT_EQ(accounting.check({&front, &back, &third}, elsewhere), "");
    }
    uint32_t mapped(unsigned n, uint32_t reference = 9, uint32_t flags = host) {
        auto const done = back.map(front, reference, GrantGuest::address(n), flags);
        EXPECT_EQ(done.status, GrantStatus::okay);
        return done.handle;
    }
    GrantStatus refused(uint32_t reference, uint32_t flags = host,
                        uint64_t where = GrantGuest::address(1)) {
        auto const done = back.map(front, reference, where, flags);
        EXPECT_EQ(done.handle, 0xdeadu) << "no handle for what was refused";
        all_is_well();
        return done.status;
    }
    void TearDown() override { all_is_well(); }
};
INSTANTIATE_TEST_SUITE_P(V, Grants, testing::Values(1u, 2u));

TEST_P(Grants, AFrameIsMappedAndUnmapped) {
    auto const done = back.map(front, 9, GrantGuest::address(1), host);
    EXPECT_EQ(done.status, GrantStatus::okay);
    EXPECT_EQ(done.device_address, frame.raw() << page_shift);
    EXPECT_EQ(back.entry_at(1).mfn(), frame);
    EXPECT_TRUE(back.entry_at(1).writable());
    EXPECT_EQ(front.use_of(9), used);
    handles[frame.raw()] = 1;
    all_is_well();
    EXPECT_EQ(back.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(back.entry_at(1).v, 0u);
    EXPECT_EQ(front.use_of(9), 0);
    handles.clear();
    all_is_well();
    EXPECT_EQ(back.unmap(done.handle, GrantGuest::address(1)), GrantStatus::bad_handle);
}

TEST_P(Grants, ReadersAndWritersAreCountedApart) {
    uint32_t const reader = mapped(1, 9, readonly);
    EXPECT_FALSE(back.entry_at(1).writable());
    EXPECT_EQ(front.use_of(9), gtf::reading);
    uint32_t const writer = mapped(2);
    EXPECT_EQ(front.use_of(9), used);
    handles[frame.raw()] = 2;
    all_is_well();
    EXPECT_EQ(back.unmap(writer, GrantGuest::address(2)), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), gtf::reading);
    EXPECT_EQ(back.unmap(reader, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), 0);
    handles.clear();
}

TEST_P(Grants, TheEntryMayBeNamedByItsOwnAddress) {
    auto const done = back.map(front, 9, back.machine_address_of_entry(3),
                               host | map_flag::contains_pte | map_flag::application |
                                   5u << map_flag::guest_available_shift);
    EXPECT_EQ(done.status, GrantStatus::okay);
    EXPECT_EQ(back.entry_at(3).v & 0xe00, 5u << 9);
    EXPECT_EQ(back.unmap(done.handle, GrantGuest::address(3)), GrantStatus::general_error);
    EXPECT_EQ(back.unmap(done.handle, back.machine_address_of_entry(4)),
              GrantStatus::general_error);
    EXPECT_EQ(back.unmap(done.handle, back.machine_address_of_entry(3)), GrantStatus::okay);
}

TEST_P(Grants, OnlyEntriesOfTablesInUseThatAreTheCallers) {
    Mfn const plain = back.new_frame();
    for (uint64_t const where :
         {address_of(plain).raw(), back.machine_address_of_entry(1) + 4, address_of(back.l2).raw(),
          front.machine_address_of_entry(1), uint64_t{1} << 60})
        EXPECT_EQ(refused(9, host | map_flag::contains_pte, where), GrantStatus::general_error)
            << std::hex << where;
    for (uint64_t const where :
         {uint64_t{0x40000000}, layout::start, layout::direct_map, uint64_t{1} << 47, ~uint64_t{0}})
        EXPECT_EQ(refused(9, host, where), GrantStatus::general_error) << std::hex << where;
    EXPECT_EQ(page_at(plain).type_word().count(), 0u);
    EXPECT_EQ(front.use_of(9), 0);
}

TEST_P(Grants, WhatIsNotGrantedIsRefused) {
    EXPECT_EQ(refused(10), GrantStatus::general_error) << "an invalid entry";
    EXPECT_EQ(refused(100000), GrantStatus::bad_reference);
    EXPECT_EQ(refused(~0u), GrantStatus::bad_reference);
    EXPECT_EQ(refused(9, map_flag::readonly), GrantStatus::bad_reference) << "for nothing";
    front.grant(11, third, frame);
    EXPECT_EQ(refused(11), GrantStatus::general_error);
    EXPECT_EQ(front.use_of(11), 0);
    front.grant(12, back, frame, gtf::readonly);
    EXPECT_EQ(refused(12), GrantStatus::general_error);
    EXPECT_EQ(front.use_of(12), 0);
    uint32_t const handle = mapped(1, 12, readonly);
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    abi::GrantMap nobody{GrantGuest::address(1), host, 9, 1023, {}, 0, 0};
    for (DomainId const id : {DomainId{1023}, domid_self, domid_io, domid_xen, DomainId{0xffff}}) {
        nobody.domain = id;
        EXPECT_EQ(back.status_of(GrantOperation::map_grant_ref, nobody), GrantStatus::bad_domain);
    }
}

TEST_P(Grants, OnlyTheGrantersOwnData) {
    front.grant(10, back, third.new_frame());
    EXPECT_EQ(refused(10), GrantStatus::general_error);
    front.grant(10, back, front.l1); // a table may be read
    EXPECT_EQ(refused(10), GrantStatus::general_error);
    uint32_t const handle = mapped(1, 10, readonly);
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    front.grant(10, back, Mfn{0x30});
    EXPECT_EQ(refused(10), GrantStatus::bad_page);
    front.grant(10, back, Mfn{0xffffffff});
    EXPECT_EQ(refused(10), GrantStatus::bad_page);
    EXPECT_EQ(front.use_of(10), 0);
}

TEST_P(Grants, WhatWasThereBeforeIsReleased) {
    Mfn const before = back.new_frame();
    EXPECT_EQ(back.map_own(1, Pte::make(before, Guest::table_flags)), 0);
    uint32_t const handle = mapped(1);
    EXPECT_EQ(page_at(before).references.load() & Page::count_mask, 1u);
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
}

TEST_P(Grants, AHandleTakesAwayNoMoreThanItBrought) {
    uint32_t const reader = mapped(1, 9, readonly), writer = mapped(2);
    // With them exchanged, the grant would seem to be read only while it is still written to.
    EXPECT_EQ(back.unmap(writer, GrantGuest::address(1)), GrantStatus::general_error);
    EXPECT_EQ(back.unmap(reader, GrantGuest::address(2)), GrantStatus::general_error);
    EXPECT_EQ(back.unmap(reader, GrantGuest::address(3)), GrantStatus::general_error);
    EXPECT_EQ(third.unmap(reader, GrantGuest::address(1)), GrantStatus::bad_handle);
    EXPECT_EQ(front.use_of(9), used);
    // The entry's rights go down, not up; then it is no longer what the handle stands for.
    EXPECT_EQ(back.map_own(1, Pte{back.entry_at(1).v | pte::writable}), -16);
    EXPECT_EQ(back.map_own(2, Pte{back.entry_at(2).v & ~pte::writable}), 0);
    EXPECT_EQ(back.unmap(writer, GrantGuest::address(2)), GrantStatus::general_error);
    EXPECT_EQ(front.use_of(9), used);
    EXPECT_EQ(back.unmap(reader, GrantGuest::address(2)), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), used);
    EXPECT_EQ(back.map_own(1, {}), 0);
    handles[frame.raw()] = 1; // the writer's, for ever
}

TEST_P(Grants, NothingTakenAwayLeavesTheHandle) {
    uint32_t const handle = mapped(1);
    EXPECT_EQ(back.unmap(handle, 0), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), used);
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(back.unmap(0x7fffffff, GrantGuest::address(1)), GrantStatus::bad_handle);
}

TEST_P(Grants, DevicesHoldTheFrameToo) {
    auto const done = back.map(front, 9, GrantGuest::address(1), host | map_flag::device);
    EXPECT_EQ(done.status, GrantStatus::okay);
    EXPECT_EQ(page_at(frame).type_word().count(), 2u);
    EXPECT_EQ(back.unmap(done.handle, 0, done.device_address + page_size),
              GrantStatus::general_error);
    EXPECT_EQ(back.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), used) << "the device still writes";
    EXPECT_EQ(page_at(frame).type_word().count(), 1u);
    EXPECT_EQ(back.unmap(done.handle, 0, done.device_address), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), 0);
    EXPECT_EQ(page_at(frame).type_word().count(), 0u);
    // And the other way round.
    auto const again = back.map(front, 9, GrantGuest::address(1), host | map_flag::device);
    EXPECT_EQ(back.unmap(again.handle, 0, again.device_address), GrantStatus::okay);
    EXPECT_EQ(page_at(frame).type_word().count(), 1u);
    EXPECT_EQ(back.unmap(again.handle, GrantGuest::address(1)), GrantStatus::okay);
}

TEST_P(Grants, WhatTheEntrySaysLaterDoesNotMatter) {
    uint32_t const handle = mapped(1, 9, readonly);
    handles[frame.raw()] = 1;
    Mfn const other = front.new_frame();
    front.grant(9, third, other);
    EXPECT_EQ(refused(9), GrantStatus::general_error); // to write, it has to be asked again
    front.grant(9, back, other, gtf::readonly);
    EXPECT_EQ(refused(9), GrantStatus::general_error);
    uint32_t const more = mapped(2, 9, readonly);
    EXPECT_EQ(back.entry_at(2).mfn(), frame) << "the frame that it was when the use began";
    EXPECT_EQ(third.map(front, 9, GrantGuest::address(1), readonly).status,
              GrantStatus::general_error);
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(back.unmap(more, GrantGuest::address(2)), GrantStatus::okay);
    handles.clear();
    front.grant(9, back, other);
    uint32_t const fresh = mapped(1);
    EXPECT_EQ(back.entry_at(1).mfn(), other);
    EXPECT_EQ(back.unmap(fresh, GrantGuest::address(1)), GrantStatus::okay);
}

TEST_P(Grants, NoTranslationOutlivesTheUnmapping) {
    uint32_t const handle = mapped(1);
    uint64_t loads[machine_cpus];
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        loads[cpu] = host::cpu_state(cpu).cr3_loads;
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    unsigned checked = 0;
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        if (back.domain.dirty().has(cpu)) {
            EXPECT_GT(host::cpu_state(cpu).cr3_loads, loads[cpu]) << cpu;
            ++checked;
        }
    EXPECT_EQ(checked, 2u);
}

TEST_P(Grants, AGranterThatEndsLeavesWhatIsMapped) {
    uint32_t const handle = mapped(1);
    handles[frame.raw()] = 1;
    *direct<uint64_t>(frame) = 4711;
    front.end();
    EXPECT_EQ(back.map(front, 9, GrantGuest::address(2), host).status, GrantStatus::general_error);
    EXPECT_TRUE(drop_owners_reference(frame));
    EXPECT_EQ(page_at(frame).state, PageState::guest);
    EXPECT_EQ(*direct<uint64_t>(frame), 4711u);
    all_is_well();
    handles.clear();
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(page_at(frame).state, PageState::free);
}

TEST_P(Grants, AMapperThatEndsGivesEverythingBack) {
    Mfn const other = front.new_frame();
    front.grant(10, third, other);
    EXPECT_EQ(third.map(front, 10, GrantGuest::address(1), host | map_flag::device).status,
              GrantStatus::okay);
    uint32_t const references = front.domain.references.load();
    EXPECT_EQ(third.map_own(1, {}), 0); // as the end of its tables does
    third.end();
    EXPECT_EQ(front.use_of(10), 0);
    EXPECT_EQ(page_at(other).references.load() & Page::count_mask, 1u);
    EXPECT_EQ(page_at(other).type_word().count(), 0u);
    EXPECT_EQ(front.domain.references.load(), references - 1);
}

TEST_P(Grants, AnEntryIsReplacedByAnother) {
    Mfn const own = back.new_frame();
    EXPECT_EQ(back.map_own(5, Pte::make(own, Guest::table_flags)), 0);
    uint32_t const handle = mapped(1);
    abi::GrantUnmapAndReplace request{
        GrantGuest::address(1), GrantGuest::address(5), handle, {}, 0};
    request.new_address = GrantGuest::address(1);
    EXPECT_EQ(back.status_of(GrantOperation::unmap_and_replace, request),
              GrantStatus::general_error);
    request = {GrantGuest::address(2), GrantGuest::address(5), handle, {}, 0};
    EXPECT_EQ(back.status_of(GrantOperation::unmap_and_replace, request),
              GrantStatus::general_error);
    EXPECT_EQ(back.entry_at(5).mfn(), own) << "put back";
    request.host_address = GrantGuest::address(1);
    EXPECT_EQ(back.status_of(GrantOperation::unmap_and_replace, request), GrantStatus::okay);
    EXPECT_EQ(back.entry_at(1).mfn(), own);
    EXPECT_EQ(back.entry_at(5).v, 0u);
    EXPECT_EQ(front.use_of(9), 0);
    all_is_well();
    EXPECT_EQ(back.map_own(1, {}), 0);
}

} // namespace
} // namespace hearth::test
