// A privileged domain maps, writes and pins other domains' memory, as a toolstack does; others may
// not.
#include "frame_accounting.h"

#include "abi/operations.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth::test {
namespace {

using abi::Hypercall;
using abi::MmuExtCommand;

constexpr int64_t inval = -22, perm = -1, srch = -3, busy = -16, nosys = -38;
constexpr DomainId nobody = 999;

Pte writable(Mfn m) { return Pte::make(m, Guest::table_flags); }
Pte read_only(Mfn m) { return Pte::make(m, Guest::table_flags & ~pte::writable); }

/// Hypercalls that a guest makes about another.
class ForeignMemory : public testing::Test {
protected:
    Guest control;
    Guest guest;
    Guest third;
    FrameAccounting accounting;
    Mfn frame = guest.new_frame();

    static uint64_t address(unsigned n) { return Guest::argument_address + n * page_size; }
    static Pte& entry(Guest& who, unsigned n) {
        return direct<Pte>(who.l1)[table_index(address(n), 1)];
    }
    static int64_t update_at(Guest& who, uint64_t where, uint64_t value, uint32_t foreign) {
        who.argument<abi::MmuUpdate>() = {where, value};
        return who.hypercall(Hypercall::mmu_update, Guest::argument_address, 1, 0, foreign)
            .value_or(-1000);
    }
    static int64_t map(Guest& who, unsigned n, Pte value, uint32_t foreign, uint64_t command = 0) {
        uint64_t const where = (who.l1.raw() << page_shift) + table_index(address(n), 1) * 8;
        return update_at(who, where + command, value.v, foreign);
    }
    static int64_t mmuext(Guest& who, MmuExtCommand command, Mfn mfn, uint32_t foreign,
                          uint64_t argument2 = 0) {
        who.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(command), 0, mfn.raw(), argument2};
        return who.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, 0, foreign)
            .value_or(-1000);
    }
    static int64_t give_back(Guest& who, Mfn mfn) {
        who.argument<abi::MemoryReservation>() = {
            Guest::argument_address + 0x100, 1, 0, 0, domid_self, {}};
        who.argument<uint64_t>(0x100) = mfn.raw();
        return who
            .hypercall(Hypercall::memory_op,
                       static_cast<uint64_t>(abi::MemoryOperation::decrease_reservation),
                       Guest::argument_address)
            .value_or(-1000);
    }
    void all_is_well() { EXPECT_EQ(accounting.check({&control, &guest, &third}), ""); }
    void SetUp() override { control.domain.hardware = control.domain.privileged = true; }
    void TearDown() override {
        all_is_well();
        control.domain.hardware = false; // whose end would be the machine's
    }
};

TEST_F(ForeignMemory, AnotherDomainsFramesAreMappedByName) {
    EXPECT_EQ(map(control, 1, writable(frame), guest.domain.id), 0);
    EXPECT_EQ(page_at(frame).references.load() & Page::count_mask, 2u);
    all_is_well();
    EXPECT_EQ(map(control, 2, read_only(frame), guest.domain.id, abi::mmu_pt_update_no_translate),
              0);
    EXPECT_EQ(page_at(frame).references.load() & Page::count_mask, 3u);
    all_is_well();
    // The same way out as of one's own.
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
    EXPECT_EQ(map(control, 2, {}, guest.domain.id), 0);
    EXPECT_EQ(page_at(frame).references.load() & Page::count_mask, 1u);
}

TEST_F(ForeignMemory, OnlyThoseOfTheDomainThatIsNamed) {
    Mfn const own = control.new_frame();
    EXPECT_EQ(map(control, 1, writable(frame), domid_self), busy);
    EXPECT_EQ(map(control, 1, writable(frame), third.domain.id), busy);
    EXPECT_EQ(map(control, 1, writable(own), guest.domain.id), busy);
    EXPECT_EQ(map(control, 1, writable(frame), domid_io), busy);
    EXPECT_EQ(map(control, 1, writable(frame), domid_xen), busy);
    EXPECT_EQ(map(control, 1, writable(frame), nobody), srch);
    EXPECT_EQ(map(control, 1, read_only(Mfn{0x30}), guest.domain.id), inval); // a device's
    EXPECT_EQ(map(control, 1, read_only(Mfn{0xfffffffff}), guest.domain.id), inval);
    all_is_well();
}

TEST_F(ForeignMemory, OneselfGoesByAName) {
    DomainId const number = control.domain.id;
    Mfn const own = control.new_frame();
    EXPECT_EQ(map(control, 1, writable(own), number), srch);
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l1_table, own, number), srch);
    EXPECT_EQ(
        *control.hypercall(Hypercall::update_va_mapping_otherdomain, address(1), 0, 0, number),
        srch);
    // The owner of tables is a number and never the name.
    EXPECT_EQ(map(control, 1, writable(own), domid_self | (domid_self + 1u) << 16), srch);
    EXPECT_EQ(map(control, 1, writable(own), domid_self | (number + 1u) << 16), 0);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
    all_is_well();
}

TEST_F(ForeignMemory, CommandsThatThereAreNot) {
    for (uint64_t const command : {4u, 5u, 6u, 7u})
        EXPECT_EQ(map(control, 1, {}, domid_self, command), nosys) << command;
}

/// What was done is done.
TEST_F(ForeignMemory, ACountThatCannotBeWrittenIsNot) {
    for (uint64_t const nowhere : {uint64_t{0xffff800000000000}, ~uint64_t{0}, uint64_t{8}}) {
        Mfn const table = control.new_frame();
        control.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(MmuExtCommand::pin_l1_table), 0,
                                             table.raw(), 0};
        EXPECT_EQ(control.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, nowhere,
                                    domid_self),
                  0);
        EXPECT_TRUE(page_at(table).type_word().has(TypeWord::pinned));
        control.argument<abi::MmuUpdate>() = {table.raw() << page_shift, 0};
        EXPECT_EQ(control.hypercall(Hypercall::mmu_update, Guest::argument_address, 1, nowhere,
                                    domid_self),
                  0);
    }
}

TEST_F(ForeignMemory, TheUnprivilegedMayNot) {
    for (DomainId const whom : {control.domain.id, third.domain.id, domid_xen, nobody})
        EXPECT_EQ(map(guest, 1, read_only(control.l1), whom), perm) << whom;
    EXPECT_EQ(map(guest, 1, {}, domid_self | (third.domain.id + 1u) << 16), perm);
    EXPECT_EQ(mmuext(guest, MmuExtCommand::unpin_table, third.l4, third.domain.id), perm);
    EXPECT_EQ(mmuext(guest, MmuExtCommand::clear_page, third.argument_page, third.domain.id), perm);
    EXPECT_EQ(*guest.hypercall(Hypercall::update_va_mapping_otherdomain, address(1), 0, 0,
                               third.domain.id),
              perm);
    EXPECT_EQ(map(guest, 1, read_only(Mfn{0x30}), domid_io), perm);
}

TEST_F(ForeignMemory, DevicesByTheirOwnName) {
    EXPECT_EQ(map(control, 1, writable(Mfn{0x30}), domid_io), 0);
    EXPECT_EQ(map(control, 1, writable(control.argument_page), domid_io), busy);
    EXPECT_EQ(map(control, 1, {}, domid_io), 0);
}

TEST_F(ForeignMemory, FramesOfTheHypervisorsAreReadOnly) {
    Mfn const shown = *allocate_zeroed_frame();
    EXPECT_EQ(map(control, 1, read_only(shown), domid_xen), busy) << "not shown yet";
    show_frame(shown);
    EXPECT_EQ(map(control, 1, read_only(shown), domid_xen), 0);
    EXPECT_EQ(map(control, 2, writable(shown), domid_xen), busy);
    EXPECT_EQ(map(control, 2, read_only(shown), domid_self), busy);
    EXPECT_EQ(mmuext(control, MmuExtCommand::clear_page, shown, domid_xen), srch);
    EXPECT_EQ(update_at(control, shown.raw() << page_shift, 1, domid_xen), inval);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
    EXPECT_EQ(page_at(shown).state, PageState::guest) << "it stays";
}

TEST_F(ForeignMemory, SharedFramesAreMappedLikeAnyOther) {
    EXPECT_EQ(map(control, 1, writable(guest.domain.shared_info_frame), guest.domain.id), 0);
    all_is_well();
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
}

TEST_F(ForeignMemory, AnEntryGetsNoMoreRightsWithoutTheOwnersName) {
    EXPECT_EQ(map(control, 1, read_only(frame), guest.domain.id), 0);
    EXPECT_EQ(map(control, 1, writable(frame), domid_self), busy);
    // Other bits are free, and so is to have less.
    EXPECT_EQ(map(control, 1, Pte{read_only(frame).v | pte::no_execute}, domid_self), 0);
    EXPECT_EQ(map(control, 1, writable(frame), guest.domain.id), 0);
    all_is_well();
    EXPECT_EQ(map(control, 1, read_only(frame), domid_self), 0);
    EXPECT_EQ(page_at(frame).type_word().count(), 0u);
    EXPECT_EQ(entry(control, 1).writable(), false);
    all_is_well();
    // A copy elsewhere is a new mapping.
    EXPECT_EQ(map(control, 2, read_only(frame), domid_self), busy);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
}

TEST_F(ForeignMemory, ALinearAddressIsOnesOwn) {
    auto const call = [&](Guest& who, Pte value, DomainId whom) {
        return *who.hypercall(Hypercall::update_va_mapping_otherdomain, address(3), value.v,
                              abi::uvmf_invlpg, whom);
    };
    EXPECT_EQ(call(control, writable(frame), third.domain.id), busy);
    EXPECT_EQ(call(control, writable(frame), nobody), srch);
    EXPECT_EQ(call(control, writable(frame), guest.domain.id), 0);
    EXPECT_EQ(entry(control, 3).mfn(), frame);
    EXPECT_EQ(call(control, {}, guest.domain.id), 0);
}

TEST_F(ForeignMemory, TablesOfAnotherDomainAreWrittenByTheUpperHalf) {
    uint32_t const its = domid_self, tables = (guest.domain.id + 1u) << 16;
    uint64_t const where = (guest.l1.raw() << page_shift) + table_index(address(4), 1) * 8;
    EXPECT_EQ(update_at(control, where, writable(frame).v, guest.domain.id), inval)
        << "the table is not the caller's";
    EXPECT_EQ(update_at(control, where, writable(frame).v, guest.domain.id | tables), 0);
    EXPECT_EQ(entry(guest, 4).mfn(), frame);
    all_is_well();
    // Leaves only may lead to somebody else's.
    uint64_t const upper = (guest.l2.raw() << page_shift) + 8 * 9;
    Mfn const table = control.new_frame();
    EXPECT_EQ(update_at(control, upper, writable(table).v, its | tables), inval);
    EXPECT_EQ(update_at(control, upper, writable(guest.l1).v, guest.domain.id | tables), 0);
    EXPECT_EQ(update_at(control, where, 0, guest.domain.id | tables), 0);
    EXPECT_EQ(update_at(control, where, 0, domid_self | (nobody + 1u) << 16), srch);
}

TEST_F(ForeignMemory, TheToolstackBuildsTablesAndPinsThem) {
    Mfn const root = guest.new_frame();
    EXPECT_EQ(map(control, 1, writable(root), guest.domain.id), 0);
    // It is writable somewhere: no table.
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l4_table, root, guest.domain.id), inval);
    direct<Pte>(root)[0] = writable(guest.l3);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l4_table, root, domid_self), inval);
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l4_table, root, nobody), srch);
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l4_table, root, guest.domain.id), 0);
    EXPECT_TRUE(page_at(root).type_word().has(TypeWord::pinned));
    all_is_well();
    // And is a table to everybody.
    EXPECT_EQ(map(control, 1, writable(root), guest.domain.id), busy);
    EXPECT_EQ(map(control, 1, read_only(root), guest.domain.id), 0);
    EXPECT_EQ(mmuext(control, MmuExtCommand::unpin_table, root, guest.domain.id), 0);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
}

TEST_F(ForeignMemory, NothingOfADomainThatEndsIsPinned) {
    auto ending = std::make_unique<Guest>();
    DomainId const id = ending->domain.id;
    Mfn const table = ending->new_frame();
    EXPECT_EQ(map(control, 1, read_only(table), id), 0);
    ending.reset();
    EXPECT_EQ(page_at(table).state, PageState::guest) << "somebody maps it";
    // The builder has not heard of it yet.
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l1_table, table, id), srch);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
    for (unsigned round = 0; round < 4; ++round) // the reaper's turn
        run_all_cpus();
    EXPECT_EQ(find_domain(id), nullptr);
}

TEST_F(ForeignMemory, ContentsOfAForeignTableMustBeItsOwn) {
    Mfn const table = guest.new_frame();
    direct<Pte>(table)[0] = read_only(control.argument_page);
    EXPECT_EQ(mmuext(control, MmuExtCommand::pin_l1_table, table, guest.domain.id), busy);
    direct<Pte>(table)[0] = {};
}

TEST_F(ForeignMemory, WhatConcernsTheCallersProcessorIsItsOwn) {
    for (MmuExtCommand const command :
         {MmuExtCommand::new_baseptr, MmuExtCommand::new_user_baseptr,
          MmuExtCommand::tlb_flush_local, MmuExtCommand::tlb_flush_all, MmuExtCommand::invlpg_all,
          MmuExtCommand::set_ldt, MmuExtCommand::flush_cache})
        EXPECT_EQ(mmuext(control, command, guest.l4, guest.domain.id), perm)
            << static_cast<unsigned>(command);
}

TEST_F(ForeignMemory, PagesAreClearedAndCopiedWithinOneDomain) {
    Mfn const other = guest.new_frame();
    *direct<uint64_t>(frame) = 7;
    EXPECT_EQ(mmuext(control, MmuExtCommand::copy_page, other, guest.domain.id, frame.raw()), 0);
    EXPECT_EQ(*direct<uint64_t>(other), 7u);
    EXPECT_EQ(mmuext(control, MmuExtCommand::clear_page, frame, guest.domain.id), 0);
    EXPECT_EQ(*direct<uint64_t>(frame), 0u);
    EXPECT_EQ(mmuext(control, MmuExtCommand::clear_page, guest.l1, guest.domain.id), inval);
    EXPECT_EQ(mmuext(control, MmuExtCommand::copy_page, other, guest.domain.id,
                     control.argument_page.raw()),
              inval);
}

TEST_F(ForeignMemory, TheMachineToPhysicalTableOfAnother) {
    uint64_t const where = (frame.raw() << page_shift) + abi::mmu_machphys_update;
    EXPECT_EQ(update_at(control, where, 77, domid_self), inval);
    EXPECT_EQ(update_at(control, where, 77, guest.domain.id), 0);
    EXPECT_EQ(get_m2p(frame), 77u);
}

TEST_F(ForeignMemory, AFrameStaysAsLongAsSomebodyMapsIt) {
    EXPECT_EQ(map(control, 1, writable(frame), guest.domain.id), 0);
    EXPECT_EQ(give_back(guest, frame), 1);
    EXPECT_EQ(page_at(frame).state, PageState::guest);
    all_is_well();
    EXPECT_EQ(map(control, 1, {}, domid_self), 0);
    EXPECT_EQ(page_at(frame).state, PageState::free);
}

TEST_F(ForeignMemory, ATranslationOnSomebodyElsesCpuIsFlushed) {
    // The guest's vCPU and the control domain's must be on different CPUs, or the test says
    // nothing.
    unsigned const cpu = control.vcpu().cpu();
    ASSERT_NE(cpu, guest.vcpu().cpu());
    ASSERT_FALSE(guest.domain.dirty().has(cpu));
    EXPECT_EQ(map(control, 1, writable(frame), guest.domain.id), 0);
    EXPECT_EQ(map(control, 1, {}, domid_self), 0); // and does not flush
    uint64_t const loads = host::cpu_state(cpu).cr3_loads;
    EXPECT_EQ(mmuext(guest, MmuExtCommand::pin_l1_table, frame, domid_self), 0);
    EXPECT_GT(host::cpu_state(cpu).cr3_loads, loads);
}

TEST_F(ForeignMemory, RandomUpdatesAddUp) {
    std::mt19937_64 random{4711};
    auto const below = [&](uint64_t n) { return random() % n; };
    Guest* const guests[] = {&control, &guest, &third};
    std::vector<Mfn> pool{guest.l1, third.l2, guest.domain.shared_info_frame};
    for (Guest* const owner : guests)
        for (unsigned i = 0; i < 6; ++i)
            pool.push_back(owner->new_frame());
    unsigned done = 0;
    for (unsigned step = 0; step < 4000; ++step) {
        Mfn const target = pool[below(pool.size())];
        Guest& whom = *guests[below(3)];
        int64_t result = 0;
        switch (below(8)) {
        case 0:
            result = mmuext(control, static_cast<MmuExtCommand>(below(2) ? 0 : 4), target,
                            whom.domain.id);
            break;
        case 1:
            result = mmuext(control, MmuExtCommand::clear_page, target, whom.domain.id);
            break;
        case 2: { // a table of somebody's, with anybody's frame
            uint64_t const where = (whom.l1.raw() << page_shift) +
                                   table_index(address(1 + static_cast<unsigned>(below(4))), 1) * 8;
            result = update_at(control, where, below(3) ? writable(target).v : 0,
                               guests[below(3)]->domain.id | (whom.domain.id + 1u) << 16);
            break;
        }
        case 3: // its owner writes what it can: it may become a table with this in it
            if (page_at(target).type_word().count() == 0 && !page_at(target).unlisted)
                direct<Pte>(target)[below(4)] =
                    below(2) ? read_only(pool[below(pool.size())]) : Pte{};
            break;
        default:
            result = map(*guests[below(3)], 1 + static_cast<unsigned>(below(6)),
                         below(4) ? (below(2) ? writable(target) : read_only(target)) : Pte{},
                         below(2) ? whom.domain.id : domid_self,
                         below(2) ? 0 : abi::mmu_pt_update_preserve_ad);
        }
        done += result == 0;
        ASSERT_EQ(accounting.check({&control, &guest, &third}), "") << "step " << step;
    }
    EXPECT_GT(done, 500u);
    for (Guest* const who : guests)
        for (unsigned n = 1; n < 8; ++n)
            EXPECT_EQ(map(*who, n, {}, domid_self), 0);
}

} // namespace
} // namespace hearth::test
