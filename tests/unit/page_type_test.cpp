// Sequences of page-table operations that matter, one by one. Random ones are in
// page_table_model_test.cpp.
#include "frame_accounting.h"

#include "abi/operations.h"
#include "pv/contents.h"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <ucontext.h>

namespace hearth::test {
namespace {

using abi::Hypercall;
using abi::MmuExtCommand;

class PageTypeTest : public testing::Test {
protected:
    Guest guest;
    FrameAccounting accounting;
    TlbModel tlb;

    int64_t update(Mfn table, unsigned index, uint64_t value) {
        guest.argument<abi::MmuUpdate>() = {(table.raw() << page_shift) + index * 8, value};
        return guest.hypercall(Hypercall::mmu_update, Guest::argument_address, 1, 0, domid_self)
            .value_or(-1000);
    }
    int64_t mmuext(MmuExtCommand command, Mfn frame, uint64_t argument2 = 0) {
        guest.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(command), 0, frame.raw(),
                                           argument2};
        return guest.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self)
            .value_or(-1000);
    }
    int64_t pin(Mfn frame, unsigned level) {
        return mmuext(static_cast<MmuExtCommand>(level - 1), frame);
    }
    int64_t unpin(Mfn frame) { return mmuext(MmuExtCommand::unpin_table, frame); }
    /// Maps a frame at the n-th page after the argument page.
    int64_t map(unsigned n, Pte entry) {
        return guest.hypercall(Hypercall::update_va_mapping, address(n), entry.v, 0)
            .value_or(-1000);
    }
    static uint64_t address(unsigned n) { return Guest::argument_address + n * page_size; }
    int64_t give_back(Mfn frame) {
        guest.argument<abi::MemoryReservation>() = {
            Guest::argument_address + 0x100, 1, 0, 0, domid_self, {}};
        guest.argument<uint64_t>(0x100) = frame.raw();
        return guest
            .hypercall(Hypercall::memory_op,
                       static_cast<uint64_t>(abi::MemoryOperation::decrease_reservation),
                       Guest::argument_address)
            .value_or(-1000);
    }
    void all_is_well() {
        EXPECT_EQ(accounting.check(guest), "");
        EXPECT_EQ(tlb.check(guest.domain), "");
    }
    static Pte writable(Mfn m) { return Pte::make(m, Guest::table_flags); }
    static Pte read_only(Mfn m) { return Pte::make(m, Guest::table_flags & ~pte::writable); }
    void TearDown() override { all_is_well(); }

    static constexpr int64_t inval = -22, busy = -16;
};

TEST_F(PageTypeTest, ATableIsNotWritable) {
    Mfn const table = guest.new_frame();
    EXPECT_EQ(pin(table, 1), 0);
    EXPECT_EQ(map(1, writable(table)), busy);
    EXPECT_EQ(map(1, read_only(table)), 0);
    EXPECT_EQ(unpin(table), 0);
    EXPECT_EQ(map(1, writable(table)), 0);
    EXPECT_EQ(pin(table, 1), inval);
    EXPECT_EQ(map(1, {}), 0);
    EXPECT_EQ(pin(table, 1), 0);
}

TEST_F(PageTypeTest, PinsComeInPairs) {
    Mfn const table = guest.new_frame();
    EXPECT_EQ(unpin(table), inval);
    EXPECT_EQ(pin(table, 1), 0);
    EXPECT_EQ(pin(table, 1), inval);
    EXPECT_EQ(pin(table, 2), inval);
    EXPECT_EQ(unpin(table), 0);
    EXPECT_EQ(unpin(table), inval);
}

TEST_F(PageTypeTest, NobodyMapsWhatIsNotTheirs) {
    Guest other;
    Mfn const foreign = other.new_frame();
    Mfn const ours = *allocate_zeroed_frame();
    for (Mfn const frame : {foreign, ours, Mfn{0x30}, Mfn{0xfffffffff}, Mfn{0x40000}})
        for (Pte const entry : {writable(frame), read_only(frame)}) {
            EXPECT_LT(map(1, entry), 0) << std::hex << frame.raw();
            EXPECT_LT(update(guest.l2, 9, entry.v), 0);
        }
    EXPECT_LT(mmuext(MmuExtCommand::new_baseptr, foreign), 0);
    EXPECT_LT(mmuext(MmuExtCommand::clear_page, foreign), 0);
    EXPECT_LT(mmuext(MmuExtCommand::clear_page, ours), 0);
    guest.argument<uint64_t>(0x100) = foreign.raw();
    EXPECT_LT(*guest.hypercall(Hypercall::set_gdt, Guest::argument_address + 0x100, 512), 0);
    EXPECT_EQ(give_back(foreign), 0); // none done
    free_frames(ours, 0);
}

TEST_F(PageTypeTest, LargePagesAndReservedBitsAreRefused) {
    Mfn const frame = guest.new_frame();
    EXPECT_EQ(update(guest.l2, 9, writable(frame).v | pte::large), inval);
    EXPECT_EQ(update(guest.l3, 9, writable(frame).v | pte::large), inval);
    EXPECT_EQ(map(1, Pte{writable(frame).v | pte::cache_disable}), inval);
    EXPECT_EQ(map(1, Pte{writable(frame).v & ~pte::user}), 0); // it gets the bit that ring 3 needs
    EXPECT_TRUE(direct<Pte>(guest.l1)[table_index(address(1), 1)].v & pte::user);
}

TEST_F(PageTypeTest, BitsLeftToSoftwareAreTheGuests) {
    Mfn const frame = guest.new_frame(), table = guest.new_frame();
    Mfn const tables[] = {guest.l1, guest.l2, guest.l3, guest.l4};
    Pte entry = writable(frame);
    ASSERT_EQ(pin(table, 1), 0);
    for (unsigned level = 1; level <= 4; ++level) {
        for (unsigned const left : {9u, 10u, 11u, 52u, 57u, 58u, 59u, 62u}) {
            EXPECT_EQ(update(tables[level - 1], 300, entry.v | bit(left)), 0);
            EXPECT_EQ(direct<Pte>(tables[level - 1])[300].v, entry.v | bit(left))
                << "level " << level << " bit " << left;
        }
        EXPECT_EQ(update(tables[level - 1], 300, 0), 0);
        entry = writable(level == 1 ? table : guest.new_frame());
    }
}

TEST_F(PageTypeTest, TheHypervisorsSlotsAreItsOwn) {
    Mfn const table = guest.new_frame();
    EXPECT_EQ(pin(table, 3), 0);
    for (unsigned const slot : {256u, 260u, 271u})
        EXPECT_EQ(update(guest.l4, slot, writable(table).v), inval);
    EXPECT_EQ(update(guest.l4, 255, writable(table).v), 0);
    EXPECT_EQ(update(guest.l4, 272, writable(table).v), 0);
    EXPECT_EQ(update(guest.l4, 256, 0), inval);
}

/// A frame that is given back while it is mapped goes when the table with its entry does.
class EndOfATable : public PageTypeTest, public testing::WithParamInterface<unsigned> {
protected:
    Mfn const table = guest.new_frame(), frame = guest.new_frame();

    void ends_with_the_frame() {
        EXPECT_EQ(give_back(frame), 1);
        EXPECT_EQ(page_at(frame).state, PageState::guest);
        all_is_well();
        EXPECT_EQ(unpin(table), 0);
        EXPECT_EQ(page_at(frame).state, PageState::free);
    }
};

TEST_P(EndOfATable, ReleasesWhatItCameWith) {
    EXPECT_EQ(update(table, GetParam(), read_only(frame).v), 0);
    EXPECT_EQ(pin(table, 1), 0);
    ends_with_the_frame();
}

TEST_P(EndOfATable, ReleasesWhatWasPutThere) {
    EXPECT_EQ(pin(table, 1), 0);
    EXPECT_EQ(update(table, GetParam(), read_only(frame).v), 0);
    ends_with_the_frame();
}

TEST_P(EndOfATable, ReleasesWhatWasExchanged) {
    EXPECT_EQ(pin(table, 1), 0);
    Pte* const slot = direct<Pte>(table) + GetParam();
    EXPECT_EQ(pv::exchange_entry(guest.domain, slot, 1, read_only(frame)), Pte{});
    ends_with_the_frame();
}

INSTANTIATE_TEST_SUITE_P(Places, EndOfATable,
                         testing::Values(0, 31, 32, 100, 255, 256, 300, 479, 480, 511));

/// Above the kind of flush comes all, or where a bitmap of vCPUs is.
TEST_F(PageTypeTest, WhomAFlushIsForIsReadFromTheFlags) {
    auto const write = [&](uint64_t whom) {
        return guest.hypercall(Hypercall::update_va_mapping, Guest::argument_address,
                               direct<Pte>(guest.l1)[table_index(Guest::argument_address, 1)].v,
                               abi::uvmf_invlpg | whom);
    };
    EXPECT_EQ(write(0), 0);
    EXPECT_EQ(write(abi::uvmf_all), 0);
    EXPECT_EQ(write(Guest::argument_address), 0);
    EXPECT_EQ(write(0x200000000000), -14);
    EXPECT_EQ(write(0x200000000000 | abi::uvmf_all), -14);
}

TEST_F(PageTypeTest, ATableThatMapsItselfWritableIsRefused) {
    Mfn const table = guest.new_frame();
    EXPECT_EQ(update(table, 3, writable(table).v), 0); // as plain memory
    EXPECT_EQ(pin(table, 1), busy);
    EXPECT_EQ(update(table, 3, read_only(table).v), 0);
    EXPECT_EQ(pin(table, 1), 0);
}

TEST_F(PageTypeTest, ALoopOfTablesIsRefused) {
    Mfn const a = guest.new_frame(), b = guest.new_frame();
    EXPECT_EQ(update(a, 0, writable(b).v), 0);
    EXPECT_EQ(update(b, 0, writable(a).v), 0);
    for (unsigned const level : {2u, 3u, 4u})
        EXPECT_EQ(pin(a, level), level == 2 ? busy : inval);
    EXPECT_EQ(update(a, 0, writable(a).v), 0);
    for (unsigned const level : {2u, 3u, 4u})
        EXPECT_EQ(pin(a, level), inval);
}

TEST_F(PageTypeTest, DescriptorTablesHoldNoGates) {
    Mfn const table = guest.new_frame();
    auto& entries = *direct<uint64_t[512]>(table);
    guest.argument<uint64_t>(0x100) = table.raw();
    auto const set_gdt = [&] {
        return *guest.hypercall(Hypercall::set_gdt, Guest::argument_address + 0x100, 512);
    };
    for (uint64_t const hostile :
         {0x0000ee000008ffffull, 0x0000e90000000000ull, 0x00008200deadbeefull}) {
        entries[7] = hostile;
        EXPECT_EQ(set_gdt(), inval) << std::hex << hostile;
    }
    entries[7] = 0x00cf9a000000ffff; // code at level 0
    EXPECT_EQ(set_gdt(), 0);
    EXPECT_EQ(entries[7] >> 45 & 3, 3u) << "level 0 for a guest";
    EXPECT_EQ(map(1, writable(table)), busy);
    EXPECT_EQ(*guest.hypercall(Hypercall::update_descriptor, (table.raw() << 12) + 16,
                               0x0000ee000008ffff),
              inval);
    EXPECT_EQ(*guest.hypercall(Hypercall::update_descriptor, (table.raw() << 12) + 16,
                               0x00cf92000000ffff),
              0);
    EXPECT_EQ(entries[2], 0x00cff2000000ffffu);
    EXPECT_EQ(*guest.hypercall(Hypercall::set_gdt, 0, 0), 0);
    EXPECT_EQ(map(1, writable(table)), 0);
}

// Exploits: each of these once gave, or would give, a guest write access to a table.

TEST_F(PageTypeTest, ATableThatFailsToComeBackIsFlushedBeforeItIsWritable) {
    Mfn const table = guest.new_frame(), data = guest.new_frame();
    EXPECT_EQ(update(table, 0, read_only(data).v), 0);
    EXPECT_EQ(update(guest.l2, 9, writable(table).v), 0);
    all_is_well(); // from here on the processor may have it in its caches
    EXPECT_EQ(update(guest.l2, 9, 0), 0);
    // What it maps goes, so that it does not pass as a table a second time.
    EXPECT_EQ(give_back(data), 1);
    EXPECT_EQ(pin(table, 1), busy);
    // The processor may still walk it by its paging-structure caches.
    EXPECT_EQ(map(1, writable(table)), 0);
    all_is_well();
}

TEST_F(PageTypeTest, AnIdleCpuLetsGoOfARootThatEnds) {
    Mfn const root = guest.new_frame();
    for (unsigned i = 0; i < entries_per_table; ++i)
        if (!pv::is_reserved_slot(i))
            direct<Pte>(root)[i] = direct<Pte>(guest.l4)[i];
    // The vCPU sleeps; its CPU idles in its address space. It wakes on another CPU and changes its
    // root there.
    unsigned const before = guest.vcpu().cpu();
    guest.vcpu().info->upcall_pending = 0;
    EXPECT_FALSE(
        guest.hypercall(Hypercall::sched_op, static_cast<uint64_t>(abi::SchedOperation::block)));
    set_affinity(guest.vcpu(), CpuMask::of((before + 1) % machine_cpus));
    guest.vcpu().info->upcall_pending = 1;
    guest.vcpu().info->upcall_mask = 1;
    wake(guest.vcpu());
    run_all_cpus();
    run_all_cpus();
    guest.vcpu().info->upcall_mask = 1;
    ASSERT_EQ(mmuext(MmuExtCommand::new_baseptr, root), 0);
    ASSERT_NE(guest.vcpu().cpu(), before);
    EXPECT_EQ(page_at(guest.l4).type_word().count(), 0u);
    all_is_well();
}

/// A guest of two vCPUs on a CPU each, of which the second sleeps.
class IdleCpu : public testing::Test {
protected:
    static constexpr unsigned awake = 0, idle = 1;
    Guest guest{2};
    TlbModel tlb;
    Mfn const frame = guest.new_frame();

    IdleCpu() {
        set_affinity(guest.vcpu(0), CpuMask::of(awake));
        set_affinity(guest.vcpu(1), CpuMask::of(idle));
        guest.bring_up(1);
        run_all_cpus();
        guest.vcpu(1).info->upcall_pending = 0;
        EXPECT_FALSE(guest.hypercall(Hypercall::sched_op,
                                     static_cast<uint64_t>(abi::SchedOperation::block), 0, 0, 0, 0,
                                     0, 1));
        EXPECT_EQ(host::cpu_state(idle).cr3, address_of(guest.l4).raw()) << "it is kept";
        all_is_well();
    }
    void wake_the_other() {
        guest.vcpu(1).info->upcall_pending = guest.vcpu(1).info->upcall_mask = 1;
        wake(guest.vcpu(1));
        EXPECT_TRUE(guest.run([] {}, 1));
    }
    void all_is_well() { EXPECT_EQ(tlb.check(guest.domain), ""); }
    void map(uint64_t flags) {
        EXPECT_EQ(guest.hypercall(Hypercall::update_va_mapping, Guest::argument_address + page_size,
                                  Pte::make(frame, flags).v, 0),
                  0);
    }
    void change_pin(MmuExtCommand command) {
        guest.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(command), 0, frame.raw(), 0};
        EXPECT_EQ(guest.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self),
                  0);
    }
    static uint64_t drops() { return host::cpu_state(idle).cr3_loads; }
};

TEST_F(IdleCpu, IsNotInterruptedForDataThatBecomesATable) {
    map(Guest::table_flags);
    all_is_well();
    map(Guest::table_flags & ~pte::writable);
    uint64_t const before = drops();
    change_pin(MmuExtCommand::pin_l1_table);
    run_all_cpus();
    EXPECT_EQ(drops(), before);
    all_is_well();
    wake_the_other();
    EXPECT_GT(drops(), before) << "before its guest runs";
    all_is_well();
}

TEST_F(IdleCpu, DropsATableThatBecomesDataAtOnce) {
    map(Guest::table_flags & ~pte::writable);
    change_pin(MmuExtCommand::pin_l1_table);
    change_pin(MmuExtCommand::unpin_table);
    uint64_t const before = drops();
    map(Guest::table_flags);
    EXPECT_GT(drops(), before);
    all_is_well();
}

TEST_F(IdleCpu, IsInterruptedForHearthsOwnAddresses) {
    uint64_t const& invalidated = host::cpu_state(idle).pages_invalidated;
    uint64_t const before = invalidated;
    Worker::run([] { flush_tlb_page(CpuMask::of(idle), Guest::argument_address); });
    EXPECT_EQ(invalidated, before);
    Worker::run([] { flush_tlb_page(CpuMask::of(idle), layout::start); });
    EXPECT_GT(invalidated, before);
}

/// On a CPU that another domain has: what a guest does to its own tables and memory, however often,
/// is no interruption there.
class Neighbour : public IdleCpu {
protected:
    static constexpr unsigned others = 2;
    Guest neighbour;
    uint64_t before = 0;

    Neighbour() {
        set_affinity(neighbour.vcpu(), CpuMask::of(others));
        EXPECT_TRUE(neighbour.run([] {}));
        EXPECT_EQ(neighbour.vcpu().cpu(), others);
        before = disturbances();
    }
    /// The frame, the same again each time.
    void give_back_and_take() {
        uint64_t const& number = guest.argument<uint64_t>(0x100) = frame.raw();
        guest.argument<abi::MemoryReservation>() = {
            Guest::argument_address + 0x100, 1, 0, 0, domid_self, {}};
        for (auto const operation :
             {abi::MemoryOperation::decrease_reservation, abi::MemoryOperation::populate_physmap})
            ASSERT_EQ(guest.hypercall(Hypercall::memory_op, static_cast<uint64_t>(operation),
                                      Guest::argument_address),
                      1);
        ASSERT_EQ(number, frame.raw()) << "so that it has to be flushed";
    }
    static uint64_t disturbances() {
        host::CpuState const& cpu = host::cpu_state(others);
        return cpu.cr3_loads + cpu.pages_invalidated + cpu.interrupts.size();
    }
};

TEST_F(Neighbour, IsNotDisturbedByFramesThatComeAndGo) {
    for (unsigned i = 0; i < 4; ++i) {
        uint64_t const own_before = drops();
        ASSERT_NO_FATAL_FAILURE(give_back_and_take());
        EXPECT_GT(drops(), own_before) << "where the guest's other vCPU was";
    }
    EXPECT_EQ(disturbances(), before);
    // One that others had mapped is dropped by all.
    page_at(frame).seen_by_others = SeenByOthers::for_reading;
    ASSERT_NO_FATAL_FAILURE(give_back_and_take());
    EXPECT_GT(disturbances(), before);
}

/// The toolstack has written to most of a guest's memory, once.
TEST_F(Neighbour, IsDisturbedOnceByWhatOthersCouldWriteTo) {
    map(Guest::table_flags);
    page_at(frame).seen_by_others = SeenByOthers::for_writing;
    auto const become_a_table_and_data = [&] {
        map(Guest::table_flags & ~pte::writable);
        change_pin(MmuExtCommand::pin_l1_table);
        change_pin(MmuExtCommand::unpin_table);
        map(Guest::table_flags);
        EXPECT_TRUE(neighbour.run([] {})); // who was idle drops at the latest now
    };
    become_a_table_and_data();
    EXPECT_GT(disturbances(), before);
    before = disturbances();
    for (unsigned i = 0; i < 3; ++i)
        become_a_table_and_data();
    EXPECT_EQ(disturbances(), before);
}

TEST_F(Neighbour, IsNotDisturbedByDescriptorTables) {
    uint64_t const& own = host::cpu_state(idle).pages_invalidated;
    uint64_t const own_before = own;
    for (unsigned i = 0; i < 2; ++i) {
        guest.argument<uint64_t>() = frame.raw();
        ASSERT_EQ(guest.hypercall(Hypercall::set_gdt, Guest::argument_address, i == 0 ? 512 : 0),
                  0);
    }
    EXPECT_GE(own, own_before + 2);
    EXPECT_EQ(disturbances(), before);
}

TEST_F(PageTypeTest, AnExchangeThatFailsGivesNothing) {
    Mfn const frame = guest.new_frame();
    EXPECT_EQ(map(1, writable(frame)), 0);
    uint64_t const before = guest.owned_frames().size();
    host::spin = [] {}; // it looks more than once
    for (unsigned i = 0; i < 3; ++i) {
        guest.argument<uint64_t>(0x100) = frame.raw();
        guest.argument<uint64_t>(0x200) = 5;
        guest.argument<abi::MemoryExchange>() = {
            {Guest::argument_address + 0x100, 1, 0, 0, domid_self, {}},
            {Guest::argument_address + 0x200, 1, 0, 32, domid_self, {}},
            0};
        EXPECT_LT(*guest.hypercall(Hypercall::memory_op,
                                   static_cast<uint64_t>(abi::MemoryOperation::exchange),
                                   Guest::argument_address),
                  0);
    }
    host::spin = nullptr;
    EXPECT_EQ(guest.owned_frames().size(), before);
}

/// Runs something between any two instructions of something else, as another CPU might.
class Interloper {
    static constexpr uint64_t trap_flag = 0x100;
    static inline std::function<void()> work;
    static inline unsigned instructions = 0, when = 0;
    static inline bool over = false;

    static void stepped(int, siginfo_t*, void* context) {
        auto& flags = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL];
        if (over)
            flags &= ~static_cast<greg_t>(trap_flag);
        else if (instructions++ == when)
            work();
    }

public:
    /// Calls `function`, and `other` after its n-th instruction. False: it has no more than that.
    template <class Function>
    static bool run(unsigned n, Function function, std::function<void()> other) {
        struct sigaction action{}, before{};
        action.sa_sigaction = stepped;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGTRAP, &action, &before);
        work = std::move(other);
        instructions = 0;
        when = n;
        over = false;
        __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | trap_flag);
        function();
        over = true;
        asm volatile("nop; nop" : : : "memory");
        sigaction(SIGTRAP, &before, nullptr);
        return instructions > n;
    }
};

/// Whatever another CPU does between two steps of the last use's end: the stamp is not older than
/// a use that began before.
TEST_F(PageTypeTest, TheStampOfALastUseIsNoOlderThanAnyUse) {
    Mfn const frame = guest.new_frame();
    Page& page = page_at(frame);
    auto const use = [&] { return pv::get_page_and_type(guest.domain, frame, PageType::writable); };
    bool more = true;
    for (unsigned n = 0; more; ++n) {
        ASSERT_TRUE(use());
        uint64_t used = 0;
        more = Interloper::run(
            n, [&] { pv::put_type(guest.domain, frame); },
            [&] {
                if (page.type_word().has(TypeWord::busy)) // there it would wait
                    return;
                if (use()) {
                    used = stale_from_now();
                    pv::put_page_and_type(guest.domain, frame);
                }
            });
        drop_reference(frame);
        ASSERT_EQ(page.type_word().count(), 0u);
        EXPECT_GE(page.flush_stamp.load(), used) << "after " << n << " instructions";
    }
}

/// 32 frames of the guest's for one block of them.
class ExchangeTest : public PageTypeTest {
protected:
    static constexpr uint64_t frames = 32, in = 0x100, out = 0x300;
    static constexpr uint64_t first_number = 64;
    static inline Guest* caller = nullptr;
    static inline std::vector<PageRef> mapped;
    static inline bool looked = false;

    ExchangeTest() {
        caller = &guest;
        for (uint64_t i = 0; i < frames; ++i)
            guest.argument<uint64_t>(in + i * 8) = guest.new_frame().raw();
    }
    int64_t exchange() {
        guest.argument<uint64_t>(out) = first_number;
        guest.argument<abi::MemoryExchange>() = {
            {Guest::argument_address + in, frames, 0, 0, domid_self, {}},
            {Guest::argument_address + out, 1, 5, 0, domid_self, {}},
            0};
        return *guest.hypercall(Hypercall::memory_op,
                                static_cast<uint64_t>(abi::MemoryOperation::exchange),
                                Guest::argument_address);
    }
    [[nodiscard]] uint64_t fresh() { return guest.argument<uint64_t>(out); }
    static Mfn looked_at() { return Mfn{caller->argument<uint64_t>(in + 20 * 8)}; }
    static void stranger_looks() { page_at(looked_at()).references.fetch_add(1); }
    /// What another vCPU might do as soon as it sees the new frames' number, and before they are
    /// the domain's.
    static void map_all_meanwhile() {
        Mfn const first{caller->argument<uint64_t>(out)};
        if (first == Mfn{first_number} || page_at(first).owner == caller->domain.id)
            return;
        looked = true;
        auto const map = [](Mfn mfn) {
            if (auto held = PageRef::get(mfn, caller->domain.id))
                mapped.push_back(std::move(*held));
        };
        for (uint64_t i = 0; i < frames; ++i) {
            map(first + i);
            map(Mfn{caller->argument<uint64_t>(in + i * 8)});
        }
    }
};

TEST_F(ExchangeTest, GivesAsMuchAsItTakes) {
    uint64_t const before = guest.owned_frames().size();
    Mfn const given{guest.argument<uint64_t>(in)};
    EXPECT_EQ(exchange(), 0);
    EXPECT_EQ(guest.owned_frames().size(), before);
    EXPECT_NE(page_at(given).owner, guest.domain.id);
    EXPECT_EQ(page_at(Mfn{fresh() + frames - 1}).owner, guest.domain.id);
    EXPECT_EQ(get_m2p(Mfn{fresh() + frames - 1}), first_number + frames - 1);
    guest.domain.pages.with([](PageList& list) { EXPECT_EQ(list.claimed, 0u); });
}

TEST_F(ExchangeTest, NothingOfItIsMappedMeanwhile) {
    uint64_t const before = guest.owned_frames().size();
    host::interrupt_window = map_all_meanwhile;
    EXPECT_EQ(exchange(), 0);
    host::interrupt_window = nullptr;
    EXPECT_TRUE(looked);
    EXPECT_TRUE(mapped.empty());
    EXPECT_EQ(guest.owned_frames().size(), before);
}

/// Who has no right to a frame holds it for a moment, to find that out.
TEST_F(ExchangeTest, AStrangersLookDoesNotDisturbIt) {
    uint64_t const before = guest.owned_frames().size();
    stranger_looks();
    host::spin = [] { page_at(looked_at()).references.fetch_sub(1); };
    EXPECT_EQ(exchange(), 0);
    host::spin = nullptr;
    EXPECT_EQ(guest.owned_frames().size(), before);
}

/// One that is in use: the others stay as they were, too.
TEST_F(ExchangeTest, AllOrNone) {
    uint64_t const before = guest.owned_frames().size();
    stranger_looks();
    host::spin = [] {};
    EXPECT_EQ(exchange(), -22);
    host::spin = nullptr;
    page_at(looked_at()).references.fetch_sub(1);
    EXPECT_EQ(guest.owned_frames().size(), before);
    for (uint64_t i = 0; i < frames; ++i)
        EXPECT_EQ(page_at(Mfn{guest.argument<uint64_t>(in + i * 8)}).references.load(),
                  Page::owners_reference | 1);
    guest.domain.pages.with([](PageList& list) { EXPECT_EQ(list.claimed, 0u); });
    EXPECT_EQ(exchange(), 0);
}

/// What is impossible is said before a frame is looked at, which is not the caller's here.
TEST_F(ExchangeTest, ListsThatNoGuestCanHaveAreRefusedFirst) {
    constexpr int64_t perm = -1, fault = -14, inval = -22;
    constexpr uint64_t hypervisors = layout::direct_map;
    constexpr uint64_t list = Guest::argument_address + in;
    guest.argument<uint64_t>(in) = frame_limit().raw() + 5;
    auto const asks = [&](uint64_t from, uint64_t to, uint64_t count, uint32_t order = 0) {
        guest.argument<abi::MemoryExchange>() = {
            {from, count, order, 0, domid_self, {}}, {to, count, order, 0, domid_self, {}}, 0};
        return *guest.hypercall(Hypercall::memory_op,
                                static_cast<uint64_t>(abi::MemoryOperation::exchange),
                                Guest::argument_address);
    };
    EXPECT_EQ(asks(list, list + 8, 1), inval) << "nobody's frame";
    EXPECT_EQ(asks(hypervisors, list, 1), fault);
    EXPECT_EQ(asks(list, hypervisors, 1), fault);
    for (uint64_t const count : {uint64_t{1} << 61, uint64_t{1} << 60, ~uint64_t{0}})
        EXPECT_EQ(asks(list, list, count), fault) << count;
    EXPECT_EQ(asks(list, list, uint64_t{1} << 60, 5), inval) << "more frames than can be counted";
    EXPECT_EQ(asks(hypervisors, hypervisors, 1, 10), perm);
}

TEST_F(ExchangeTest, OneThatFailsLeavesTheListAsItWas) {
    constexpr uint64_t last_entries = page_size - 8; // one is there, the next is not
    Mfn const block = [&] {
        Mfn const first = *allocate_frames(1);
        give_frames_to(guest.domain, first, 2);
        return first;
    }();
    guest.argument<uint64_t>(in) = block.raw();
    guest.argument<uint64_t>(last_entries) = first_number;
    guest.argument<abi::MemoryExchange>() = {
        {Guest::argument_address + in, 1, 1, 0, domid_self, {}},
        {Guest::argument_address + last_entries, 2, 0, 0, domid_self, {}},
        0};
    EXPECT_EQ(*guest.hypercall(Hypercall::memory_op,
                               static_cast<uint64_t>(abi::MemoryOperation::exchange),
                               Guest::argument_address),
              -14);
    EXPECT_EQ(guest.argument<uint64_t>(last_entries), first_number);
    EXPECT_EQ(page_at(block).owner, guest.domain.id);
}

TEST_F(PageTypeTest, AFrameGivenBackWhileMappedStaysUntilItIsNot) {
    Mfn const frame = guest.new_frame();
    EXPECT_EQ(map(1, writable(frame)), 0);
    EXPECT_EQ(give_back(frame), 1);
    EXPECT_EQ(page_at(frame).state, PageState::guest);
    EXPECT_EQ(give_back(frame), 0);
    EXPECT_EQ(map(1, {}), 0);
    EXPECT_EQ(page_at(frame).state, PageState::free);
}

TEST_F(PageTypeTest, GuestMemoryAtAddressZeroIsReachedLikeAnyOther) {
    Pte const table = Pte::make(guest.l1, Guest::table_flags);
    ASSERT_EQ(update(guest.l2, 0, table.v), 0);
    guest.argument<abi::MmuUpdate>() = {guest.l2.raw() << page_shift, table.v};
    EXPECT_EQ(*guest.hypercall(Hypercall::mmu_update, 0, 1, 0, domid_self), 0);
}

TEST_F(PageTypeTest, PreservingUpdatesKeepWhatTheProcessorNoted) {
    Mfn const frame = guest.new_frame();
    EXPECT_EQ(map(1, Pte{writable(frame).v & ~(pte::accessed | pte::dirty)}), 0);
    Pte& entry = direct<Pte>(guest.l1)[table_index(address(1), 1)];
    EXPECT_NE(host::guest_memory_at(address(1), true), nullptr)
        << "no such translation on this CPU";
    entry.v |= pte::accessed | pte::dirty;
    guest.argument<abi::MmuUpdate>() = {(guest.l1.raw() << 12) + table_index(address(1), 1) * 8 + 2,
                                        writable(frame).v & ~(pte::accessed | pte::dirty)};
    EXPECT_EQ(*guest.hypercall(Hypercall::mmu_update, Guest::argument_address, 1, 0, domid_self),
              0);
    EXPECT_EQ(entry.v & (pte::accessed | pte::dirty), pte::accessed | pte::dirty);
}

/// On a processor that reads through absent entries, if the first-level cache has it.
class AbsentEntries : public PageTypeTest {
protected:
    Mfn const table = guest.new_frame();
    static constexpr uint64_t hidden = pte::writable | pte::user; // but not present

    AbsentEntries() { guest.domain.absent_entries_matter = true; }
    static Pte absent(uint64_t frame) { return {frame << page_shift | hidden}; }
    static uint64_t end_of_memory() { return frame_limit().raw(); }
};

TEST_F(AbsentEntries, MayNameWhatIsNotMemory) {
    constexpr uint64_t all_of_a_frame = (uint64_t{1} << 40) - 1;
    ASSERT_EQ(pin(table, 1), 0);
    // As Linux does: the number is inverted, so what it stands for is beyond the end.
    for (Pte const entry : {Pte{}, Pte{hidden}, absent(end_of_memory()),
                            absent(all_of_a_frame ^ guest.argument_page.raw()), Pte{1ull << 63}}) {
        EXPECT_EQ(map(1, entry), 0) << std::hex << entry.v;
        EXPECT_EQ(update(table, 5, entry.v), 0) << std::hex << entry.v;
    }
    EXPECT_EQ(unpin(table), 0);
    EXPECT_EQ(pin(table, 1), 0) << "and once more with what it has now";
    EXPECT_FALSE(guest.domain.is_shut_down());
}

TEST_F(AbsentEntries, ThatNameMemoryEndTheGuest) {
    using Way = std::function<void(Guest&, Pte)>;
    std::pair<char const*, Way> const ways[] = {
        {"update_va_mapping",
         [](Guest& g, Pte bad) {
             EXPECT_EQ(g.hypercall(Hypercall::update_va_mapping, address(1), bad.v, 0), inval);
         }},
        {"mmu_update of a higher level",
         [](Guest& g, Pte bad) {
             g.argument<abi::MmuUpdate>() = {address_of(g.l2).raw() + 8, bad.v};
             EXPECT_EQ(
                 g.hypercall(Hypercall::mmu_update, Guest::argument_address, 1, 0, domid_self),
                 inval);
         }},
        {"a table that becomes one",
         [](Guest& g, Pte bad) {
             Mfn const garbage = g.new_frame();
             direct<Pte>(garbage)[511] = bad;
             g.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(MmuExtCommand::pin_l1_table), 0,
                                            garbage.raw(), 0};
             EXPECT_EQ(g.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self),
                       inval);
         }},
        {"an instruction", [](Guest& g, Pte bad) {
             EXPECT_TRUE(g.run([&] {
                 Pte expected{};
                 EXPECT_EQ(
                     pv::compare_exchange_entry(g.domain, direct<Pte>(g.l1) + 9, 1, expected, bad)
                         .error(),
                     Errno::inval);
             }));
         }}};
    for (auto const& [name, write] : ways)
        for (uint64_t const frame : {uint64_t{1}, table.raw(), end_of_memory() - 1,
                                     (uint64_t{1} << (44 - page_shift)) + 1}) {
            SCOPED_TRACE(name);
            Guest careless;
            careless.domain.absent_entries_matter = true;
            write(careless, absent(frame));
            EXPECT_TRUE(careless.domain.is_shut_down());
        }
}

TEST_F(AbsentEntries, ForLargePagesAreTakenForThoseWhateverTheySay) {
    for (unsigned const level : {2u, 3u}) {
        {
            Guest careless;
            careless.domain.absent_entries_matter = true;
            Mfn const in = level == 2 ? careless.l2 : careless.l3;
            careless.argument<abi::MmuUpdate>() = {address_of(in).raw() + 8, pte::large};
            EXPECT_EQ(careless.hypercall(Hypercall::mmu_update, Guest::argument_address, 1, 0,
                                         domid_self),
                      inval);
            EXPECT_TRUE(careless.domain.is_shut_down()) << level;
        }
        Guest careless;
        careless.domain.absent_entries_matter = true;
        Mfn const garbage = careless.new_frame();
        direct<Pte>(garbage)[7] = {pte::large | end_of_memory() << page_shift};
        // Commands 0 to 3 pin tables of levels 1 to 4.
        careless.argument<abi::MmuExtOp>() = {level - 1, 0, garbage.raw(), 0};
        EXPECT_EQ(
            careless.hypercall(Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self),
            inval);
        EXPECT_TRUE(careless.domain.is_shut_down()) << level;
    }
    EXPECT_EQ(map(1, {pte::large}), 0) << "of level 1 the bit is another";
}

} // namespace
} // namespace hearth::test
