// The page-type state machine under random operations of a hostile guest, with everything recounted
// after each one. HEARTH_SEED=n replays one run; HEARTH_RUNS=n makes more of them.
#include "random_guest.h"

#include <gtest/gtest.h>

namespace hearth::test {
namespace {

uint64_t setting(char const* name, uint64_t otherwise) {
    char const* const text = getenv(name);
    return text ? strtoull(text, nullptr, 0) : otherwise;
}

void run_seed(uint64_t seed, unsigned operations, unsigned vcpus, bool isolated = false) {
    RandomGuest guest{seed, vcpus};
    if (isolated)
        guest.isolate();
    ASSERT_EQ(guest.check(), "") << "before anything was done";
    for (unsigned i = 0; i < operations; ++i) {
        std::string const problem = guest.step();
        ASSERT_EQ(problem, "") << "seed " << seed << ", operation " << i << ": "
                               << guest.last_operation();
        if (guest.dead())
            break;
    }
    if (getenv("HEARTH_VERBOSE"))
        guest.print_statistics();
}

TEST(PageTableModel, EveryReferenceIsAccountedFor) {
    boot_machine();
    if (getenv("HEARTH_SEED"))
        return run_seed(setting("HEARTH_SEED", 0), 3000, 1);
    for (uint64_t seed = 1; seed <= setting("HEARTH_RUNS", 12) && !HasFatalFailure(); ++seed)
        run_seed(seed, 2000, 1);
}

TEST(PageTableModel, NothingStaleIsKeptUnderATag) {
    boot_machine();
    for (bool const by_tag : {false, true}) {
        use_space_tags(by_tag);
        for (uint64_t seed = 201; seed <= 200 + setting("HEARTH_RUNS", 6) && !HasFatalFailure();
             ++seed)
            run_seed(seed, 2000, 1);
    }
}

TEST(PageTableModel, NothingStaleIsShownToAGuest) {
    boot_machine();
    for (bool const by_tag : {false, true}) {
        if (by_tag)
            use_space_tags(true);
        for (uint64_t seed = 301; seed <= 300 + setting("HEARTH_RUNS", 6) && !HasFatalFailure();
             ++seed)
            run_seed(seed, 2000, 1, true);
    }
}

uint64_t guest_frames_in_machine() {
    uint64_t count = 0;
    for (Mfn mfn = host::RamLayout::low_start; mfn < host::RamLayout::high_end; ++mfn)
        count += is_ram(mfn) && page_at(mfn).state == PageState::guest;
    return count;
}

TEST(PageTableModel, AFinishedGuestGivesAllItsMemoryBack) {
    boot_machine();
    for (uint64_t seed = 101; seed < 106; ++seed) {
        uint64_t const before = guest_frames_in_machine();
        {
            RandomGuest guest{seed, 1};
            for (unsigned i = 0; i < 400; ++i)
                (void)guest.step();
        }
        EXPECT_EQ(guest_frames_in_machine(), before) << "seed " << seed;
    }
}

} // namespace
} // namespace hearth::test
