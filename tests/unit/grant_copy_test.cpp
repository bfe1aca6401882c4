// Copies between granted frames and one's own.
#include "grant_guest.h"

namespace hearth::test {
namespace {

namespace gtf = abi::grant;
constexpr uint16_t from_grant = abi::copy_source_reference,
                   to_grant = abi::copy_destination_reference;

class GrantCopies : public testing::TestWithParam<unsigned> {
protected:
    GrantGuest front{1, GetParam()};
    GrantGuest back;
    GrantGuest third{1, GetParam()};
    FrameAccounting accounting;
    Mfn theirs = front.new_frame(), mine = back.new_frame();

    void SetUp() override {
        front.grant(9, back, theirs);
        for (unsigned i = 0; i < page_size; ++i) {
            direct<uint8_t>(theirs)[i] = static_cast<uint8_t>(i);
            direct<uint8_t>(mine)[i] = 0xee;
        }
    }
    void TearDown() override { EXPECT_EQ(accounting.check({&front, &back, &third}), ""); }

    static abi::GrantCopySide grant(Guest& of, uint32_t reference, uint16_t offset = 0) {
        return {reference, of.domain.id, offset, 0};
    }
    static abi::GrantCopySide own(Mfn mfn, uint16_t offset = 0) {
        return {mfn.raw(), domid_self, offset, 0};
    }
    static uint8_t byte(Mfn mfn, unsigned n) { return direct<uint8_t>(mfn)[n]; }
};
INSTANTIATE_TEST_SUITE_P(V, GrantCopies, testing::Values(1u, 2u));

TEST_P(GrantCopies, JustTheBytesThatWereAskedFor) {
    EXPECT_EQ(back.copy(grant(front, 9, 3), own(mine, 100), 5, from_grant), GrantStatus::okay);
    EXPECT_EQ(byte(mine, 99), 0xee);
    for (unsigned i = 0; i < 5; ++i)
        EXPECT_EQ(byte(mine, 100 + i), 3 + i);
    EXPECT_EQ(byte(mine, 105), 0xee);
    EXPECT_EQ(back.copy(own(mine, 0), grant(front, 9, 4094), 2, to_grant), GrantStatus::okay);
    EXPECT_EQ(byte(theirs, 4093), 4093 % 256);
    EXPECT_EQ(byte(theirs, 4095), 0xee);
    EXPECT_EQ(front.use_of(9), 0);
    EXPECT_EQ(back.copy(grant(front, 9), own(mine), page_size, from_grant), GrantStatus::okay);
    EXPECT_EQ(memcmp(direct<char>(mine), direct<char>(theirs), page_size), 0);
    EXPECT_EQ(back.copy(grant(front, 9), own(mine), 0, from_grant), GrantStatus::okay);
}

TEST_P(GrantCopies, BetweenTwoGrantsAndTwoFramesOfOnesOwn) {
    Mfn const other = third.new_frame();
    third.grant(9, back, other);
    EXPECT_EQ(back.copy(grant(front, 9, 8), grant(third, 9, 16), 8, from_grant | to_grant),
              GrantStatus::okay);
    EXPECT_EQ(byte(other, 16), 8);
    EXPECT_EQ(back.copy(own(back.argument_page), own(mine), 8, 0), GrantStatus::okay);
    // Within one page, as memmove would.
    EXPECT_EQ(back.copy(grant(front, 9, 0), grant(front, 9, 1), 16, from_grant | to_grant),
              GrantStatus::okay);
    EXPECT_EQ(byte(theirs, 1), 0);
    EXPECT_EQ(byte(theirs, 16), 15);
    EXPECT_EQ(front.use_of(9), 0);
}

TEST_P(GrantCopies, StayWithinThePage) {
    for (auto const& [offset, length] :
         {std::pair{1, 4096}, {4096, 1}, {0xffff, 1}, {4000, 0xffff}}) {
        auto const at = static_cast<uint16_t>(offset), bytes = static_cast<uint16_t>(length);
        EXPECT_EQ(back.copy(grant(front, 9, at), own(mine), bytes, from_grant),
                  GrantStatus::bad_copy_argument);
        EXPECT_EQ(back.copy(grant(front, 9), own(mine, at), bytes, from_grant),
                  GrantStatus::bad_copy_argument);
    }
}

TEST_P(GrantCopies, WhatIsRefused) {
    EXPECT_EQ(back.copy(grant(front, 10), own(mine), 8, from_grant), GrantStatus::general_error);
    EXPECT_EQ(back.copy(grant(front, 1u << 20), own(mine), 8, from_grant),
              GrantStatus::bad_reference);
    EXPECT_EQ(third.copy(grant(front, 9), own(third.new_frame()), 8, from_grant),
              GrantStatus::general_error);
    front.grant(10, back, theirs, gtf::readonly);
    EXPECT_EQ(back.copy(own(mine), grant(front, 10), 8, to_grant), GrantStatus::general_error);
    EXPECT_EQ(back.copy(grant(front, 10), own(mine), 8, from_grant), GrantStatus::okay);
    EXPECT_EQ(back.copy({9, 1023, 0, 0}, own(mine), 8, from_grant), GrantStatus::bad_domain);
    // Of several reasons the domains come first, then the grants.
    EXPECT_EQ(back.copy(grant(front, 12), {9, 1023, 0, 0}, 8, from_grant | to_grant),
              GrantStatus::bad_domain);
    EXPECT_EQ(back.copy(grant(front, 9, 4096), {0, 1023, 0, 0}, 8, from_grant),
              GrantStatus::bad_domain);
    EXPECT_EQ(back.copy(grant(front, 12, 4096), own(mine), 8, from_grant),
              GrantStatus::general_error);
    // Frames only of one's own, and to write to only such as are data.
    EXPECT_EQ(back.copy({theirs.raw(), front.domain.id, 0, 0}, own(mine), 8, 0),
              GrantStatus::permission_denied);
    EXPECT_EQ(back.copy(own(theirs), own(mine), 8, 0), GrantStatus::bad_page);
    EXPECT_EQ(back.copy(own(Mfn{~uint64_t{0} >> 12}), own(mine), 8, 0), GrantStatus::bad_page);
    EXPECT_EQ(back.copy(grant(front, 9), own(theirs), 8, from_grant), GrantStatus::bad_page);
    EXPECT_EQ(back.copy(grant(front, 9), own(back.l1), 8, from_grant),
              GrantStatus::permission_denied);
    front.grant(11, back, front.l1);
    EXPECT_EQ(back.copy(own(mine), grant(front, 11), 8, to_grant), GrantStatus::permission_denied);
    EXPECT_EQ(back.copy(grant(front, 11), own(mine), 8, from_grant), GrantStatus::okay);
    front.grant(11, back, mine); // not the granter's
    EXPECT_EQ(back.copy(grant(front, 11), own(mine), 8, from_grant), GrantStatus::bad_page);
    for (uint32_t const reference : {9u, 10u, 11u})
        EXPECT_EQ(front.use_of(reference), 0) << reference;
}

TEST_P(GrantCopies, OnesOwnGrantsByTheNameOfSelf) {
    back.grant(9, back, mine);
    abi::GrantCopySide side = grant(back, 9);
    side.domain = domid_self;
    EXPECT_EQ(back.copy(grant(front, 9), side, 8, from_grant | to_grant), GrantStatus::okay);
    EXPECT_EQ(byte(mine, 7), 7);
}

class GrantParts : public GrantCopies {};
INSTANTIATE_TEST_SUITE_P(V, GrantParts, testing::Values(2u));

TEST_P(GrantParts, NoMoreOfAPageThanIsGranted) {
    front.v2(9) = {gtf::permit_access | gtf::sub_page, back.domain.id, 100, 50, theirs.raw()};
    EXPECT_EQ(back.copy(grant(front, 9, 100), own(mine), 50, from_grant), GrantStatus::okay);
    EXPECT_EQ(byte(mine, 49), 149);
    EXPECT_EQ(back.copy(grant(front, 9, 99), own(mine), 2, from_grant), GrantStatus::general_error);
    EXPECT_EQ(back.copy(grant(front, 9, 149), own(mine), 2, from_grant),
              GrantStatus::general_error);
    EXPECT_EQ(back.copy(own(mine), grant(front, 9, 150), 1, to_grant), GrantStatus::general_error);
    front.v2(9).length = 0xffff; // beyond the page: the page ends it
    EXPECT_EQ(back.copy(grant(front, 9, 4090), own(mine), 7, from_grant),
              GrantStatus::bad_copy_argument);
    EXPECT_EQ(front.use_of(9), 0);
}

TEST_P(GrantParts, OnBehalfOfAnother) {
    Mfn const origin = third.new_frame();
    *direct<uint64_t>(origin) = 4711;
    third.grant(20, front, origin, gtf::readonly);
    front.v2(9) = {gtf::transitive, back.domain.id, third.domain.id, 0, 20};
    EXPECT_EQ(back.copy(grant(front, 9), own(mine), 8, from_grant), GrantStatus::okay);
    EXPECT_EQ(*direct<uint64_t>(mine), 4711u);
    EXPECT_EQ(back.copy(own(mine), grant(front, 9), 8, to_grant), GrantStatus::general_error)
        << "read-only there";
    EXPECT_EQ(back.copy(grant(third, 20), own(mine), 8, from_grant), GrantStatus::general_error);
    EXPECT_EQ(front.use_of(9), 0);
    EXPECT_EQ(third.use_of(20), 0);
    third.grant(20, back, origin); // not to the one in between
    EXPECT_EQ(back.copy(grant(front, 9), own(mine), 8, from_grant), GrantStatus::general_error);
    third.v2(20) = {gtf::transitive, front.domain.id, back.domain.id, 0, 9};
    EXPECT_EQ(back.copy(grant(front, 9), own(mine), 8, from_grant), GrantStatus::general_error)
        << "one step only";
    for (DomainId const nobody : {front.domain.id, DomainId{1023}, domid_self, domid_invalid}) {
        front.v2(9) = {gtf::transitive, back.domain.id, nobody, 0, 9};
        EXPECT_EQ(back.copy(grant(front, 9), own(mine), 8, from_grant), GrantStatus::general_error)
            << nobody;
    }
    EXPECT_EQ(front.use_of(9), 0);
    EXPECT_EQ(third.use_of(20), 0);
}

TEST_P(GrantParts, AFailedClaimTakesNothingFromAUseUnderWay) {
    uint32_t const handle =
        back.map(front, 9, GrantGuest::address(1), abi::grant_map::host | abi::grant_map::readonly)
            .handle;
    front.v2(9).flags |= gtf::readonly;
    EXPECT_EQ(back.copy(own(mine), grant(front, 9), 8, to_grant), GrantStatus::general_error);
    EXPECT_EQ(front.use_of(9), gtf::reading);
    EXPECT_EQ(back.unmap(handle, GrantGuest::address(1)), GrantStatus::okay);
    EXPECT_EQ(front.use_of(9), 0);
}

} // namespace
} // namespace hearth::test
