// The table itself: its size, its version, and what a toolstack gets of it.
#include "grant_guest.h"

#include "abi/operations.h"
#include "memory/allocator.h"

namespace hearth::test {
namespace {

namespace gtf = abi::grant;
constexpr int64_t inval = -22, busy = -16, nosys = -38, perm = -1, srch = -3;
constexpr uint32_t host = abi::grant_map::host;

class GrantTables : public testing::Test {
protected:
    GrantGuest guest;
    GrantGuest other;

    abi::GrantQuerySize size() {
        abi::GrantQuerySize request{domid_self, 0, 99, 99, {}, 0};
        EXPECT_EQ(guest.status_of(GrantOperation::query_size, request), GrantStatus::okay);
        return request;
    }
    unsigned version() {
        abi::GrantGetVersion request{domid_self, 0, 99};
        EXPECT_EQ(guest.operation(GrantOperation::get_version, request), 0);
        return request.version;
    }
};

TEST_F(GrantTables, GrowAndStayWithinTheLimit) {
    EXPECT_EQ(size().frame_count, 1u);
    EXPECT_EQ(size().max_frame_count, 64u);
    Mfn const first = guest.table_frame(0);
    EXPECT_EQ(guest.setup(3), GrantStatus::okay);
    EXPECT_EQ(guest.table_frame(0), first);
    EXPECT_EQ(size().frame_count, 3u);
    EXPECT_EQ(guest.setup(65), GrantStatus::general_error);
    EXPECT_EQ(guest.setup(~0u), GrantStatus::general_error);
    EXPECT_EQ(guest.setup(64), GrantStatus::okay);
    // The last entry works.
    Mfn const frame = guest.new_frame();
    uint32_t const last = 64 * 512 - 1;
    guest.grant(last, other, frame);
    auto const done = other.map(guest, last, GrantGuest::address(1), host);
    EXPECT_EQ(done.status, GrantStatus::okay);
    EXPECT_EQ(other.map(guest, last + 1, GrantGuest::address(2), host).status,
              GrantStatus::bad_reference);
    EXPECT_EQ(other.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
}

TEST_F(GrantTables, TakeMemoryForUsesOnlyAboutGrantsThatAreUsed) {
    Mfn const frame = guest.new_frame();
    unsigned mapped = 0;
    std::vector<uint32_t> handles;
    auto const objects_after_use_of = [&](uint32_t reference) {
        guest.grant(reference, other, frame);
        auto const done = other.map(guest, reference, GrantGuest::address(++mapped), host);
        EXPECT_EQ(done.status, GrantStatus::okay);
        handles.push_back(done.handle);
        return object_count();
    };
    uint64_t const first = objects_after_use_of(40);
    EXPECT_EQ(objects_after_use_of(32), first) << "one piece of the table";
    EXPECT_EQ(objects_after_use_of(63), first);
    EXPECT_EQ(objects_after_use_of(31), first + 1) << "each in a piece of its own";
    EXPECT_EQ(objects_after_use_of(64), first + 2);
    EXPECT_EQ(objects_after_use_of(500), first + 3);
    for (unsigned n = 0; n < mapped; ++n)
        EXPECT_EQ(other.unmap(handles[n], GrantGuest::address(n + 1)), GrantStatus::okay);
    EXPECT_EQ(objects_after_use_of(500), first + 3) << "it stays";
}

TEST_F(GrantTables, AreOnesOwnBusiness) {
    abi::GrantSetupTable set_up{other.domain.id, 0, 1, {}, {}, GrantGuest::argument_address};
    EXPECT_EQ(guest.status_of(GrantOperation::setup_table, set_up), GrantStatus::permission_denied);
    abi::GrantQuerySize query{other.domain.id, 0, 0, 0, {}, 0};
    EXPECT_EQ(guest.status_of(GrantOperation::query_size, query), GrantStatus::permission_denied);
    abi::GrantGetVersion version_of{other.domain.id, 0, 0};
    EXPECT_EQ(guest.operation(GrantOperation::get_version, version_of), perm);
    guest.domain.privileged = true;
    EXPECT_EQ(guest.status_of(GrantOperation::setup_table, set_up), GrantStatus::okay);
    EXPECT_EQ(guest.status_of(GrantOperation::query_size, query), GrantStatus::okay);
    EXPECT_EQ(guest.operation(GrantOperation::get_version, version_of), 0);
    set_up.domain = 1023;
    EXPECT_EQ(guest.status_of(GrantOperation::setup_table, set_up), GrantStatus::bad_domain);
    version_of.domain = 1023;
    EXPECT_EQ(guest.operation(GrantOperation::get_version, version_of), srch);
    set_up = {domid_self, 0, 1, {}, {}, layout::start};
    EXPECT_EQ(guest.status_of(GrantOperation::setup_table, set_up),
              GrantStatus::bad_virtual_address);
}

TEST_F(GrantTables, ChangeTheirVersion) {
    EXPECT_EQ(version(), 1u);
    EXPECT_EQ(guest.set_version(3), inval);
    EXPECT_EQ(guest.version(), 1u) << "told in any case";
    EXPECT_EQ(guest.set_version(0), inval);
    EXPECT_EQ(guest.set_version(1), 0);
    guest.grant(8, other, guest.new_frame());
    guest.grant(1, other, guest.new_frame(), gtf::readonly);
    uint64_t const store = guest.v1(1).frame;
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(version(), 2u);
    EXPECT_EQ(guest.v2(1).flags, gtf::permit_access | gtf::readonly);
    EXPECT_EQ(guest.v2(1).domain, other.domain.id);
    EXPECT_EQ(guest.v2(1).frame_or_reference, store);
    EXPECT_EQ(guest.v2(8).flags, 0) << "the reserved ones only are kept";
    EXPECT_EQ(guest.set_version(1), 0);
    EXPECT_EQ(guest.v1(1).flags, gtf::permit_access | gtf::readonly);
    EXPECT_EQ(guest.v1(1).frame, store);
    EXPECT_EQ(guest.v1(8).flags, 0);
    // The same frames again, so that nobody gathers them by going back and forth.
    EXPECT_EQ(guest.set_version(2), 0);
    Mfn const status = guest.status_frame(0);
    EXPECT_EQ(guest.set_version(1), 0);
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(guest.status_frame(0), status);
}

TEST_F(GrantTables, KeepTheirVersionWhileStatusFramesAreMapped) {
    auto const map = [&](uint64_t value) {
        return guest.hypercall(abi::Hypercall::update_va_mapping, GrantGuest::address(1), value, 0);
    };
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(map(Pte::make(guest.status_frame(0), Guest::table_flags & ~pte::writable).v), 0);
    EXPECT_EQ(guest.set_version(1), busy);
    EXPECT_EQ(guest.version(), 2u);
    EXPECT_EQ(map(0), 0);
    EXPECT_EQ(guest.set_version(1), 0);
}

TEST_F(GrantTables, DoNotChangeTheirVersionWhileInUse) {
    Mfn const frame = guest.new_frame();
    guest.grant(8, other, frame);
    auto const done = other.map(guest, 8, GrantGuest::address(1), host);
    EXPECT_EQ(guest.set_version(2), busy);
    EXPECT_EQ(guest.version(), 1u);
    EXPECT_EQ(guest.use_of(8), gtf::reading | gtf::writing);
    EXPECT_EQ(other.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(guest.use_of(8), 0);
    EXPECT_EQ(guest.set_version(2), 0);
    guest.grant(8, other, frame);
    auto const again = other.map(guest, 8, GrantGuest::address(1), host);
    EXPECT_EQ(guest.set_version(1), busy);
    EXPECT_EQ(guest.use_of(8), gtf::reading | gtf::writing);
    EXPECT_EQ(other.unmap(again.handle, GrantGuest::address(1)), GrantStatus::okay);
}

TEST_F(GrantTables, AReservedEntryStaysInUseOverAChangeOfVersion) {
    Mfn const frame = guest.new_frame();
    guest.grant(1, other, frame);
    auto const done = other.map(guest, 1, GrantGuest::address(1), host);
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(guest.v2(1).flags, gtf::permit_access);
    EXPECT_EQ(guest.use_of(1), gtf::reading | gtf::writing);
    EXPECT_EQ(guest.set_version(1), 0);
    EXPECT_EQ(guest.use_of(1), gtf::reading | gtf::writing);
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(other.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(guest.use_of(1), 0);
}

TEST_F(GrantTables, StatusFramesGoWithVersionTwo) {
    abi::GrantGetStatusFrames request{1, domid_self, {}, GrantGuest::argument_address + 0x800};
    EXPECT_EQ(guest.status_of(GrantOperation::get_status_frames, request),
              GrantStatus::general_error);
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(guest.status_of(GrantOperation::get_status_frames, request), GrantStatus::okay);
    request.frame_count = 2;
    EXPECT_EQ(guest.status_of(GrantOperation::get_status_frames, request),
              GrantStatus::general_error);
    EXPECT_EQ(guest.setup(9), GrantStatus::okay);
    EXPECT_EQ(guest.status_of(GrantOperation::get_status_frames, request), GrantStatus::okay);
    EXPECT_NE(guest.status_frame(0), guest.status_frame(1));
    request.domain = other.domain.id;
    EXPECT_EQ(guest.status_of(GrantOperation::get_status_frames, request),
              GrantStatus::permission_denied);
}

TEST_F(GrantTables, VersionTwoHasFewerEntries) {
    EXPECT_EQ(guest.set_version(2), 0);
    Mfn const frame = guest.new_frame();
    guest.grant(255, other, frame);
    EXPECT_EQ(other.map(guest, 256, GrantGuest::address(1), host).status,
              GrantStatus::bad_reference);
    auto const done = other.map(guest, 255, GrantGuest::address(1), host);
    EXPECT_EQ(done.status, GrantStatus::okay);
    EXPECT_EQ(other.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
}

TEST_F(GrantTables, PartsAndTransitiveGrantsAreNotMapped) {
    EXPECT_EQ(guest.set_version(2), 0);
    Mfn const frame = guest.new_frame();
    guest.grant(9, other, frame);
    guest.v2(9).flags |= gtf::sub_page;
    EXPECT_EQ(other.map(guest, 9, GrantGuest::address(1), host).status, GrantStatus::general_error);
    guest.v2(9).flags = gtf::transitive;
    EXPECT_EQ(other.map(guest, 9, GrantGuest::address(1), host).status, GrantStatus::general_error);
    EXPECT_EQ(guest.use_of(9), 0);
}

TEST_F(GrantTables, EntriesAreSwapped) {
    for (unsigned const wanted : {1u, 2u}) {
        EXPECT_EQ(guest.set_version(wanted), 0);
        Mfn const a = guest.new_frame(), b = guest.new_frame();
        guest.grant(9, other, a);
        guest.grant(20, other, b, gtf::readonly);
        abi::GrantSwap request{20, 9, {}, 0};
        EXPECT_EQ(guest.status_of(GrantOperation::swap_grant_ref, request), GrantStatus::okay);
        auto const done = other.map(guest, 20, GrantGuest::address(1), host);
        EXPECT_EQ(other.entry_at(1).mfn(), a);
        EXPECT_EQ(guest.status_of(GrantOperation::swap_grant_ref, request), GrantStatus::again);
        EXPECT_EQ(other.unmap(done.handle, GrantGuest::address(1)), GrantStatus::okay);
        EXPECT_EQ(other.map(guest, 9, GrantGuest::address(1), host).status,
                  GrantStatus::general_error);
        request = {9, 9, {}, 0};
        EXPECT_EQ(guest.status_of(GrantOperation::swap_grant_ref, request), GrantStatus::okay);
        request = {9, 512, {}, 0};
        EXPECT_EQ(guest.status_of(GrantOperation::swap_grant_ref, request),
                  GrantStatus::bad_reference);
        request = {300, 300, {}, 0}; // there in version 1
        EXPECT_EQ(guest.status_of(GrantOperation::swap_grant_ref, request),
                  wanted == 1 ? GrantStatus::okay : GrantStatus::bad_reference);
    }
}

TEST_F(GrantTables, RefusedOperations) {
    abi::GrantTransfer transfer{guest.new_frame().raw(), other.domain.id, 0, 9, {}, {}};
    EXPECT_EQ(guest.status_of(GrantOperation::transfer, transfer), GrantStatus::bad_page);
    auto const call = [&](uint32_t command, uint64_t count, uint64_t argument) {
        return *guest.hypercall(abi::Hypercall::grant_table_op, command, argument, count);
    };
    uint64_t const argument = GrantGuest::argument_address;
    EXPECT_EQ(call(3, 1, argument), nosys);
    EXPECT_EQ(call(12, 1, argument), -95);
    EXPECT_EQ(call(13, 1, argument), nosys);
    EXPECT_EQ(call(0, 0x80000000, argument), inval);
    for (uint32_t const command : {0u, 1u, 4u, 5u, 7u, 11u}) {
        EXPECT_EQ(call(command, 1, layout::start), -14) << command;
        EXPECT_EQ(call(command, 0, layout::start), 0) << command;
    }
    for (uint32_t const command : {2u, 6u, 9u})
        EXPECT_EQ(call(command, 2, argument), inval) << command;
}

TEST(GrantLimits, AreThoseOfTheDomain) {
    boot_machine();
    Domain domain;
    EXPECT_EQ(grants_create(domain, 0).error(), Errno::inval);
    EXPECT_EQ(grants_create(domain, 5000).error(), Errno::inval);
    EXPECT_EQ(grants_create(domain, 1, 1 << 20).error(), Errno::inval);
    EXPECT_EQ(grants_create(domain, 1, 1, 3).error(), Errno::inval);
    EXPECT_EQ(grants_create(domain, 1, 1, 0).error(), Errno::inval);
    EXPECT_TRUE(grants_create(domain, 2, 1, 1));
    EXPECT_EQ(most_grant_frames_of(domain, GrantFrames::shared), 2u);
    grants_destroy(domain);
    EXPECT_EQ(domain.grants, nullptr);
}

TEST(GrantLimits, AreNeverAboveTheMachines) {
    boot_machine();
    Domain domain;
    limit_grants(3, 2);
    EXPECT_EQ(grants_create(domain, 4).error(), Errno::inval);
    EXPECT_EQ(grants_create(domain, 1, 3).error(), Errno::inval);
    EXPECT_TRUE(grants_create(domain));
    EXPECT_EQ(most_grant_frames_of(domain, GrantFrames::shared), 3u);
    grants_destroy(domain);
    limit_grants(~0u, ~0u);
    EXPECT_EQ(grants_create(domain, 4097).error(), Errno::inval);
    EXPECT_TRUE(grants_create(domain, 4096, 1));
    grants_destroy(domain);
    limit_grants(64, 1024);
}

TEST(GrantLimits, HandlesRunOut) {
    GrantGuest front, back;
    back.run_once([&] {
        grants_close(back.domain);
        grants_release(back.domain);
    });
    grants_destroy(back.domain);
    ASSERT_TRUE(grants_create(back.domain, 1, 1, 1));
    Mfn const frame = front.new_frame();
    front.grant(9, back, frame);
    std::vector<uint32_t> handles;
    auto const map = [&] {
        return back.map(front, 9, 0, abi::grant_map::device | abi::grant_map::readonly);
    };
    for (abi::GrantMap done = map(); done.status == GrantStatus::okay; done = map())
        handles.push_back(done.handle);
    EXPECT_EQ(handles.size(), 256u);
    EXPECT_EQ(map().status, GrantStatus::no_space);
    EXPECT_EQ(back.set_version(2), nosys);
    EXPECT_EQ(back.unmap(handles[17], 0, frame.raw() << page_shift), GrantStatus::okay);
    EXPECT_EQ(map().handle, handles[17]);
    back.end(); // with all of them open
    EXPECT_EQ(page_at(frame).references.load() & Page::count_mask, 1u);
    EXPECT_EQ(front.use_of(9), 0);
}

class Resources : public testing::Test {
protected:
    GrantGuest control;
    GrantGuest guest;
    void SetUp() override { control.domain.privileged = true; }

    int64_t acquire(Guest& who, abi::AcquireResource request) {
        who.argument<abi::AcquireResource>() = request;
        return *who.hypercall(abi::Hypercall::memory_op,
                              static_cast<uint64_t>(abi::MemoryOperation::acquire_resource),
                              Guest::argument_address);
    }
    abi::AcquireResource request(uint32_t id, uint32_t count, uint64_t first = 0) {
        return {guest.domain.id, abi::resource_grant_table,      id, count, 0,
                first,           Guest::argument_address + 0x100};
    }
};

TEST_F(Resources, GrantFramesOfAnother) {
    EXPECT_EQ(acquire(control, request(abi::grant_table_shared, 3)), 0);
    EXPECT_EQ(Mfn{control.argument<uint64_t>(0x100)}, guest.table_frame(0));
    EXPECT_EQ(guest.setup(3), GrantStatus::okay);
    EXPECT_EQ(Mfn{control.argument<uint64_t>(0x110)}, guest.table_frame(2));
    EXPECT_EQ(acquire(control, request(abi::grant_table_shared, 1, 2)), 0);
    EXPECT_EQ(Mfn{control.argument<uint64_t>(0x100)}, guest.table_frame(2));
    // And it may map them, to fill in the guest's first entries.
    Pte const entry = Pte::make(guest.table_frame(0), Guest::table_flags);
    EXPECT_EQ(*control.hypercall(abi::Hypercall::update_va_mapping_otherdomain,
                                 GrantGuest::address(1), entry.v, 0, guest.domain.id),
              0);
    EXPECT_EQ(control.map_own(1, {}), 0);
}

TEST_F(Resources, StatusFramesOfVersionTwo) {
    EXPECT_EQ(acquire(control, request(abi::grant_table_status, 1)), inval);
    EXPECT_EQ(guest.set_version(2), 0);
    EXPECT_EQ(acquire(control, request(abi::grant_table_status, 2)), 0);
    EXPECT_EQ(guest.status_frame(1), Mfn{control.argument<uint64_t>(0x108)});
}

TEST_F(Resources, TheirSizeIsTold) {
    abi::AcquireResource ask = request(abi::grant_table_shared, 0);
    ask.frames = 0;
    EXPECT_EQ(acquire(control, ask), 0);
    EXPECT_EQ(control.argument<abi::AcquireResource>().frame_count, 64u);
    ask.id = abi::grant_table_status;
    EXPECT_EQ(acquire(control, ask), 0);
    EXPECT_EQ(control.argument<abi::AcquireResource>().frame_count, 8u);
    ask.frame_count = 1;
    EXPECT_EQ(acquire(control, ask), inval);
}

TEST_F(Resources, WhatIsRefused) {
    EXPECT_EQ(acquire(guest, request(0, 1)), perm);
    auto bad = request(0, 1);
    bad.domain = 1023;
    EXPECT_EQ(acquire(control, bad), srch);
    bad.domain = control.domain.id;
    EXPECT_EQ(acquire(control, bad), perm);
    bad.domain = domid_self;
    EXPECT_EQ(acquire(control, bad), srch);
    bad = request(0, 1);
    bad.padding = 1;
    EXPECT_EQ(acquire(control, bad), inval);
    EXPECT_EQ(acquire(control, request(2, 1)), inval);
    EXPECT_EQ(acquire(control, request(0, 65)), inval);
    EXPECT_EQ(acquire(control, request(0, 2, 63)), inval);
    EXPECT_EQ(acquire(control, request(0, 1, ~uint64_t{0})), inval);
    for (uint16_t const type : {uint16_t{0}, uint16_t{2}, uint16_t{99}}) {
        bad = request(0, 1);
        bad.type = type;
        EXPECT_EQ(acquire(control, bad), inval);
    }
    bad = request(0, 1);
    bad.frames = layout::start;
    EXPECT_EQ(acquire(control, bad), -14);
}

} // namespace
} // namespace hearth::test
