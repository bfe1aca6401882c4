// Which translations survive a switch between the two modes of a vCPU, where the processor tags
// them.
#include "fake_machine.h"

#include "abi/operations.h"

#include <gtest/gtest.h>

namespace hearth::test {
namespace {

constexpr uint64_t kernel_space = 0x10000, user_space = 0x20000;

class SpaceTags : public testing::Test {
protected:
    void SetUp() override {
        boot_machine();
        use_space_tags(true);
        load_address_space(kernel_space, SpaceTag::guest_kernel);
        switch_address_space(user_space, SpaceTag::guest_user);
    }
    void TearDown() override { load_address_space(idle_cr3()); }

    /// Whether a switch drops what the tag had.
    static bool drops(uint64_t cr3, SpaceTag tag) {
        uint64_t const before = host::cpu_state(host::current_cpu()).cr3_loads;
        switch_address_space(cr3, tag);
        EXPECT_EQ(host::cpu_state(host::current_cpu()).cr3, cr3);
        EXPECT_EQ(loaded_address_space(), cr3);
        return host::cpu_state(host::current_cpu()).cr3_loads != before;
    }
    static bool kernel_drops() { return drops(kernel_space, SpaceTag::guest_kernel); }
    static bool user_drops() { return drops(user_space, SpaceTag::guest_user); }
};

TEST_F(SpaceTags, ASwitchBackDropsNothing) {
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_FALSE(kernel_drops());
        EXPECT_FALSE(user_drops());
    }
}

TEST_F(SpaceTags, AnotherSpaceDropsWhatItsTagHad) {
    EXPECT_TRUE(drops(kernel_space + page_size, SpaceTag::guest_kernel));
    EXPECT_FALSE(user_drops());
    EXPECT_TRUE(kernel_drops());
}

TEST_F(SpaceTags, AFlushReachesTheOtherTagBeforeItIsUsed) {
    flush_local_tlb();
    EXPECT_TRUE(kernel_drops());
    EXPECT_FALSE(user_drops());
    load_address_space(user_space, SpaceTag::guest_user);
    EXPECT_TRUE(kernel_drops());
}

TEST_F(SpaceTags, APageIsDroppedOfBothTags) {
    uint64_t const before = host::cpu_state(host::current_cpu()).pages_invalidated;
    flush_local_page(0x1000);
    EXPECT_EQ(host::cpu_state(host::current_cpu()).pages_invalidated, before + 2);
    EXPECT_FALSE(kernel_drops());
    use_space_tags(false); // a processor without INVPCID
    flush_local_page(0x1000);
    EXPECT_TRUE(user_drops());
}

TEST_F(SpaceTags, OnlyAFullFlushMovesTheClock) {
    CpuMask const here = CpuMask::of(host::current_cpu());
    uint64_t const stamp = stale_from_now();
    (void)kernel_drops();
    (void)drops(user_space + page_size, SpaceTag::guest_user);
    // Neither of these was one, so this one is.
    flush_stale_translations(stamp, here, IdleCpus::later);
    EXPECT_TRUE(kernel_drops());
}

TEST_F(SpaceTags, OtherTablesAtTheSamePlaceAreOtherTables) {
    EXPECT_FALSE(kernel_drops());
    forget_user_space();
    EXPECT_TRUE(user_drops());
    EXPECT_FALSE(kernel_drops());
}

TEST(SpaceTagsOfGuests, AnUpdateThatDropsItsPageDropsItOfBothModes) {
    Guest guest;
    use_space_tags(true);
    guest.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(abi::MmuExtCommand::new_user_baseptr),
                                       0, guest.l4.raw(), 0};
    ASSERT_EQ(guest.hypercall(abi::Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self),
              0);
    guest.run([&] {
        pv::load_active_space(guest.vcpu());
        // There and back: both modes have something to keep.
        pv::enter_mode(guest.vcpu(), false);
        pv::enter_mode(guest.vcpu(), true);
    });
    uint64_t const& dropped = host::cpu_state(guest.vcpu().cpu()).pages_invalidated;
    uint64_t const before = dropped;
    Pte const entry = Pte::make(guest.argument_page, Guest::table_flags);
    ASSERT_EQ(guest.hypercall(abi::Hypercall::update_va_mapping, Guest::argument_address, entry.v,
                              abi::uvmf_invlpg),
              0);
    EXPECT_EQ(dropped, before + 2);
}

} // namespace
} // namespace hearth::test
