// Noting what a guest writes to: by shadow page tables, for a toolstack that copies it as it runs.
#include "random_guest.h"

#include "abi/domctl.h"
#include "abi/event_channel.h"
#include "abi/operations.h"
#include "domain/guest_page.h"

#include <gtest/gtest.h>

#include <csignal>
#include <sys/mman.h>

namespace hearth::test {
namespace {

constexpr int64_t inval = -22, fault = -14;

/// A guest with some pages of data beside its argument page, and its log on.
class DirtyLogs : public testing::Test {
protected:
    static constexpr unsigned pages = 6;
    Guest guest;
    Mfn data[pages];
    FrameAccounting accounting;

    explicit DirtyLogs(unsigned vcpus = 1) : guest{vcpus} {
        for (unsigned i = 0; i < pages; ++i) {
            data[i] = guest.new_frame();
            set_m2p(data[i], 100 + i);
            map(i, Pte::make(data[i], pte::present | pte::user | pte::writable));
        }
        set_m2p(guest.argument_page, 99);
        set_m2p(guest.l1, 90);
    }
    static uint64_t address(unsigned page) {
        return Guest::argument_address + (page + 1) * page_size;
    }
    Pte& entry(unsigned page) { return direct<Pte>(guest.l1)[table_index(address(page), 1)]; }
    DirtyLog& log() { return *guest.domain.dirty_log.load(); }

    void map(unsigned page, Pte value) {
        ASSERT_EQ(guest.hypercall(abi::Hypercall::update_va_mapping, address(page), value.v,
                                  abi::uvmf_invlpg),
                  0);
    }
    void start() {
        Worker::run([this] {
            pause_domain(guest.domain);
            Guest::must(start_logging(guest.domain));
            unpause_domain(guest.domain);
        });
    }
    void stop() {
        Worker::run([this] {
            pause_domain(guest.domain);
            stop_logging(guest.domain);
            unpause_domain(guest.domain);
        });
    }
    /// What was written to, forgotten by that: a bit for each data page.
    unsigned clean() {
        unsigned noted = 0;
        Worker::run([&] {
            uint64_t const word = log().take(1);
            for (unsigned i = 0; i < pages; ++i)
                noted |= (word >> (100 + i - 64) & 1) << i;
            watch_writes_anew(guest.domain);
        });
        return noted;
    }
    bool read(unsigned page) {
        bool done = false;
        uint8_t byte;
        guest.run([&] { done = bool(copy_from_guest(&byte, GuestAddress{address(page)}, 1)); });
        return done;
    }
    bool write(unsigned page, uint8_t byte = 1) {
        bool done = false;
        guest.run([&] { done = bool(copy_to_guest(GuestAddress{address(page)}, &byte, 1)); });
        if (guest.domain.shadow.load())
            EXPECT_EQ(shadow_has_no_more(guest.vcpu()), "");
        return done;
    }
    void mmuext(abi::MmuExtCommand command, Mfn first, Mfn second = {}) {
        guest.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(command), 0, first.raw(),
                                           second.raw()};
        ASSERT_EQ(
            guest.hypercall(abi::Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self),
            0);
    }
    /// An L1 table in the guest's L2, for the addresses from `index` * 2 MiB on.
    void hang(unsigned index, uint64_t value) {
        guest.argument<abi::MmuUpdate>() = {(guest.l2.raw() << page_shift) + index * 8, value};
        ASSERT_EQ(
            guest.hypercall(abi::Hypercall::mmu_update, Guest::argument_address, 1, 0, domid_self),
            0);
    }
    bool write_at(unsigned index, unsigned page) {
        bool done = false;
        uint8_t const byte = 5;
        guest.run([&] {
            done = bool(copy_to_guest(GuestAddress{index * 0x200000 + page * page_size}, &byte, 1));
        });
        return done;
    }
    void TearDown() override {
        if (!guest.domain.dirty_log.load())
            EXPECT_EQ(accounting.check({&guest}), "");
    }
};

TEST_F(DirtyLogs, TheFirstWriteOfEachRoundIsNoted) {
    start();
    EXPECT_TRUE(write(1));
    EXPECT_TRUE(write(3));
    EXPECT_TRUE(read(2));
    EXPECT_EQ(clean(), 0b001010u);
    EXPECT_EQ(clean(), 0u);
    uint32_t const faults = log().faults.load();
    EXPECT_TRUE(write(3));
    EXPECT_TRUE(write(3));
    EXPECT_EQ(log().faults.load(), faults + 1) << "only the first one costs";
    EXPECT_EQ(clean(), 0b001000u);
    stop();
    EXPECT_TRUE(write(4));
}

TEST_F(DirtyLogs, TheGuestsTablesSayWhatTheProcessorWouldHaveNoted) {
    start();
    EXPECT_TRUE(read(0));
    EXPECT_EQ(entry(0).v & (pte::accessed | pte::dirty), pte::accessed);
    EXPECT_TRUE(write(0));
    EXPECT_EQ(entry(0).v & (pte::accessed | pte::dirty), pte::accessed | pte::dirty);
    EXPECT_EQ(entry(1).v & (pte::accessed | pte::dirty), 0u);
    EXPECT_TRUE(log().has(90)) << "the table itself has changed by that";
    // A guest that clears the bits finds them set again.
    map(0, Pte::make(data[0], pte::present | pte::user | pte::writable));
    EXPECT_EQ(entry(0).v & (pte::accessed | pte::dirty), 0u);
    EXPECT_TRUE(write(0));
    EXPECT_EQ(entry(0).v & (pte::accessed | pte::dirty), pte::accessed | pte::dirty);
    stop();
}

TEST_F(DirtyLogs, WhatTheGuestTakesAwayIsGone) {
    start();
    EXPECT_TRUE(write(0));
    map(0, Pte::make(data[0], pte::present | pte::user));
    EXPECT_FALSE(write(0));
    EXPECT_TRUE(read(0));
    map(0, {});
    EXPECT_FALSE(read(0));
    EXPECT_EQ(clean(), 1u);
    map(0, Pte::make(data[5], pte::present | pte::user | pte::writable));
    EXPECT_TRUE(write(0, 77));
    EXPECT_EQ(*direct<uint8_t>(data[5]), 77);
    EXPECT_EQ(clean(), 0b100000u);
    stop();
}

TEST_F(DirtyLogs, AFaultOfTheGuestsOwnSaysWhy) {
    map(1, Pte::make(data[1], pte::present | pte::user));
    map(2, {});
    start();
    guest.run([&] {
        pv::PvVcpu& v = guest.vcpu();
        constexpr uint32_t user = 4;
        // The shadow has nothing there yet, whatever the guest has.
        auto written = pv::resolve_fault(v, address(1), pv::page_fault::write | user);
        EXPECT_FALSE(written.resolved);
        EXPECT_EQ(written.error_code, pv::page_fault::present | pv::page_fault::write | user);
        auto const read_there = pv::resolve_fault(v, address(1), user);
        EXPECT_TRUE(read_there.resolved);
        auto const absent = pv::resolve_fault(v, address(2), pv::page_fault::present | user);
        EXPECT_FALSE(absent.resolved);
        EXPECT_EQ(absent.error_code, user);
    });
    stop();
}

TEST_F(DirtyLogs, WhatHearthWritesForAnybodyIsNoted) {
    start();
    Worker::run([&] {
        auto const held = hold_writable_page(guest.domain, data[2].raw());
        if (!held)
            abort();
        release_writable_page(guest.domain, *held);
    });
    mmuext(abi::MmuExtCommand::clear_page, data[3], {});
    mmuext(abi::MmuExtCommand::copy_page, data[4], data[5]);
    EXPECT_EQ(clean(), 0b011100u);
    // What another frame of the guest's is called from now on is not what it was.
    guest.argument<abi::MmuUpdate>() = {data[0].raw() << page_shift | abi::mmu_machphys_update,
                                        101};
    EXPECT_EQ(
        guest.hypercall(abi::Hypercall::mmu_update, Guest::argument_address, 1, 0, domid_self), 0);
    EXPECT_EQ(clean(), 0b000010u);
    stop();
}

TEST_F(DirtyLogs, PagesThatHearthWritesToAtAnyTimeAreInEachRound) {
    auto const ask = [&](abi::Hypercall number, auto command, auto const& argument) {
        guest.argument<std::decay_t<decltype(argument)>>() = argument;
        bool const of_vcpu = number == abi::Hypercall::vcpu_op;
        ASSERT_EQ(guest.hypercall(number, static_cast<uint64_t>(command),
                                  of_vcpu ? 0 : Guest::argument_address, Guest::argument_address),
                  0);
    };
    auto const initialise = [&](Mfn control) {
        ask(abi::Hypercall::event_channel_op, abi::EventOperation::init_control,
            abi::InitControl{control.raw(), 0, 0, 0, {}});
    };
    auto const expand = [&](Mfn words) {
        ask(abi::Hypercall::event_channel_op, abi::EventOperation::expand_array,
            abi::ExpandArray{words.raw()});
    };
    initialise(data[0]);
    expand(data[1]);
    start();
    EXPECT_EQ(clean(), 0b000011u) << "those that were there before the log";
    EXPECT_EQ(clean(), 0b000011u);
    ask(abi::Hypercall::vcpu_op, abi::VcpuOperation::register_vcpu_info,
        abi::RegisterVcpuInfo{data[2].raw(), 0, 0});
    expand(data[3]);
    EXPECT_EQ(clean(), 0b001111u);
    EXPECT_EQ(clean(), 0b001111u);
    guest.argument<abi::EventReset>() = {domid_self};
    ASSERT_EQ(guest.hypercall(abi::Hypercall::event_channel_op,
                              static_cast<uint64_t>(abi::EventOperation::reset),
                              Guest::argument_address),
              0);
    initialise(data[4]);
    EXPECT_EQ(clean(), 0b011111u);
    EXPECT_EQ(clean(), 0b010100u);
}

TEST_F(DirtyLogs, TablesThatGoTakeTheirShadowsWithThem) {
    Mfn const table = guest.new_frame();
    direct<Pte>(table)[0] = Pte::make(data[0], Guest::table_flags);
    start();
    hang(7, Pte::make(table, Guest::table_flags).v);
    EXPECT_TRUE(write_at(7, 0));
    hang(7, 0);
    EXPECT_FALSE(write_at(7, 0));
    // The frame is data now, and then a table with other contents.
    map(1, Pte::make(table, pte::present | pte::user | pte::writable));
    direct<Pte>(table)[0] = {};
    direct<Pte>(table)[1] = Pte::make(data[1], Guest::table_flags);
    map(1, {});
    hang(7, Pte::make(table, Guest::table_flags).v);
    EXPECT_TRUE(write_at(7, 1));
    EXPECT_FALSE(write_at(7, 0));
    stop();
}

TEST_F(DirtyLogs, ThereIsRoomAgainWhenTablesRunOut) {
    auto const switch_spaces = [&] {
        for (unsigned i = 0; i < 300; ++i) {
            Mfn const root = guest.new_frame();
            direct<Pte>(root)[0] = Pte::make(guest.l3, Guest::table_flags);
            mmuext(abi::MmuExtCommand::pin_l4_table, root);
            mmuext(abi::MmuExtCommand::new_baseptr, root);
            ASSERT_TRUE(write(0));
        }
    };
    // A shadow of this size has 512 tables.
    start();
    switch_spaces();
    for (unsigned i = 8; i < 400; ++i) {
        Mfn const table = guest.new_frame();
        direct<Pte>(table)[0] = Pte::make(data[0], Guest::table_flags);
        hang(i, Pte::make(table, Guest::table_flags).v);
    }
    for (unsigned i = 8; i < 400; ++i)
        ASSERT_TRUE(write_at(i, 0)) << i;
    switch_spaces();
    switch_spaces();
    stop();
}

/// By the ticks of the TLB clock, of which each table that is freed by itself takes one.
TEST_F(DirtyLogs, RunningOutOfTablesTakesNoLongerWithMoreOfThem) {
    start();
    uint64_t most = 0;
    for (unsigned i = 8; i < 500; ++i) {
        Mfn const root = guest.new_frame(), table = guest.new_frame();
        direct<Pte>(root)[0] = Pte::make(guest.l3, Guest::table_flags);
        direct<Pte>(table)[0] = Pte::make(data[0], Guest::table_flags);
        mmuext(abi::MmuExtCommand::pin_l4_table, root);
        mmuext(abi::MmuExtCommand::new_baseptr, root);
        hang(i, Pte::make(table, Guest::table_flags).v);
        uint64_t const before = stale_from_now();
        ASSERT_TRUE(write_at(i, 0)) << i;
        most = std::max(most, stale_from_now() - before);
    }
    EXPECT_LT(most, 8u);
    stop();
}

/// A CPU whose idle vCPU has a shadow of its own for a root, into which nobody writes but who makes
/// all shadows anew.
class CpuWithARoot : public DirtyLogs {
protected:
    static constexpr unsigned other = 1;
    static inline void* root = nullptr;
    static inline bool reloaded = false;

    CpuWithARoot() : DirtyLogs{2} {
        set_affinity(guest.vcpu(0), CpuMask::of(0));
        set_affinity(guest.vcpu(other), CpuMask::of(other));
        guest.bring_up(other);
        start();
        EXPECT_TRUE(guest.run([] {}, other));
        guest.vcpu(other).info->upcall_pending = 0;
        EXPECT_FALSE(guest.hypercall(abi::Hypercall::sched_op,
                                     static_cast<uint64_t>(abi::SchedOperation::block), 0, 0, 0, 0,
                                     0, other));
        root = direct<void>(PhysicalAddress{host::cpu_state(other).cr3});
        EXPECT_EQ(page_at(mfn_of(root)).state, PageState::hypervisor);
    }

    Mfn new_top() {
        Mfn const top = guest.new_frame();
        direct<Pte>(top)[0] = Pte::make(guest.l3, Guest::table_flags);
        mmuext(abi::MmuExtCommand::pin_l4_table, top);
        return top;
    }
    /// Just before the first store into the root the CPU loads it afresh, as any flush makes it.
    static void reload(int, siginfo_t*, void*) {
        mprotect(root, page_size, PROT_READ | PROT_WRITE);
        cpu_block(other).space.clock.store(stale_from_now() + 1);
        reloaded = true;
    }
    template <class Function>
    static void reload_before_the_root_is_written_to(Function function) {
        struct sigaction action{}, before{};
        action.sa_sigaction = reload;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, &before);
        mprotect(root, page_size, PROT_READ);
        function();
        mprotect(root, page_size, PROT_READ | PROT_WRITE);
        sigaction(SIGSEGV, &before, nullptr);
    }
};

TEST_F(CpuWithARoot, IsFlushedThoughItLoadedTheRootWhileShadowsWereForgotten) {
    uint64_t drops = 0;
    reloaded = false;
    mmuext(abi::MmuExtCommand::new_baseptr, new_top());
    for (unsigned i = 8; i < 500 && !reloaded; ++i) {
        Mfn const top = new_top(), table = guest.new_frame();
        direct<Pte>(table)[0] = Pte::make(data[0], Guest::table_flags);
        drops = host::cpu_state(other).cr3_loads;
        reload_before_the_root_is_written_to([&] {
            mmuext(abi::MmuExtCommand::new_baseptr, top);
            hang(i, Pte::make(table, Guest::table_flags).v);
            ASSERT_TRUE(write_at(i, 0)) << i;
        });
    }
    ASSERT_TRUE(reloaded);
    EXPECT_GT(host::cpu_state(other).cr3_loads, drops) << "tables that it may walk are others' now";
    stop();
}

TEST_F(DirtyLogs, AGuestMayEndWithItsLogOn) {
    start();
    EXPECT_TRUE(write(1));
}

void run_logged(uint64_t seed, bool isolated) {
    RandomGuest guest{seed, 1};
    if (isolated)
        guest.isolate();
    guest.log_writes();
    for (unsigned i = 0; i < 700 && !guest.dead(); ++i) {
        std::string problem = guest.step();
        if (problem.empty() && !guest.dead())
            problem = guest.touch();
        ASSERT_EQ(problem, "") << "seed " << seed << ", operation " << i << ": "
                               << guest.last_operation();
        if (i % 50 == 49)
            Worker::run([&] {
                (void)guest.guest().domain.dirty_log.load()->take(0);
                watch_writes_anew(guest.guest().domain);
            });
    }
}

TEST(DirtyLogModel, TheShadowNeverHasMoreThanTheGuest) {
    boot_machine();
    for (uint64_t seed = 1; seed <= 8 && !testing::Test::HasFatalFailure(); ++seed)
        run_logged(seed, false);
}

TEST(DirtyLogModel, NorHasWhatTheGuestIsShownOfIt) {
    boot_machine();
    for (uint64_t seed = 1; seed <= 4 && !testing::Test::HasFatalFailure(); ++seed)
        run_logged(seed, true);
}

/// The toolstack's side.
class DirtyLogControl : public testing::Test {
protected:
    Guest control{1, ~0u, true};
    Guest guest;

    template <class Request>
    int64_t operate(Request& request, DomainId whom,
                    abi::DomctlOperation what = abi::DomctlOperation::shadow_op) {
        abi::Domctl op{static_cast<uint32_t>(what), abi::domctl_interface_version, whom, {}, {}};
        memcpy(op.body, &request, sizeof request);
        control.argument<abi::Domctl>() = op;
        auto const result = control.hypercall(abi::Hypercall::domctl, Guest::argument_address);
        memcpy(&request, control.argument<abi::Domctl>().body, sizeof request);
        return result.value_or(-1000);
    }
    int64_t operate(uint32_t operation, uint32_t mode = 0) {
        abi::DomctlShadowOp request{.operation = operation,
                                    .mode = mode,
                                    .megabytes = 0,
                                    .padding = 0,
                                    .dirty_bitmap = 0,
                                    .page_count = 0,
                                    .faults = 0,
                                    .dirty = 0};
        return operate(request, guest.domain.id);
    }
    void log_writes_to_frame_70() {
        set_m2p(guest.argument_page, 70);
        ASSERT_EQ(operate(abi::shadow_enable_log_dirty), 0);
    }
    void write() {
        EXPECT_EQ(guest.hypercall(abi::Hypercall::xen_version, 1, Guest::argument_address), 0);
    }
    void TearDown() override { control.domain.hardware = false; }
};

TEST_F(DirtyLogControl, OnceOnAndOff) {
    EXPECT_EQ(operate(abi::shadow_clean), inval);
    EXPECT_EQ(operate(abi::shadow_peek), inval);
    EXPECT_EQ(operate(abi::shadow_enable), inval) << "shadows alone";
    EXPECT_EQ(operate(abi::shadow_off), 0);
    EXPECT_EQ(operate(abi::shadow_enable_log_dirty), 0);
    EXPECT_EQ(operate(abi::shadow_enable_log_dirty), inval);
    EXPECT_EQ(operate(abi::shadow_off), 0);
    EXPECT_EQ(operate(abi::shadow_enable, abi::shadow_mode_log_dirty), 0);
    EXPECT_EQ(operate(30), inval);
    EXPECT_EQ(operate(77), inval);
    abi::DomctlShadowOp request{};
    request.operation = abi::shadow_enable_log_dirty;
    EXPECT_EQ(operate(request, control.domain.id), inval) << "its own";
}

TEST_F(DirtyLogControl, ThePagesAreReportedOnce) {
    log_writes_to_frame_70();
    write();
    abi::DomctlShadowOp request{};
    request.dirty_bitmap = Guest::argument_address + 0x800;
    request.page_count = 75; // ten bytes, and not one more
    request.operation = abi::shadow_peek;
    auto* const bits = &control.argument<uint8_t>(0x800);
    for (unsigned round = 0; round < 2; ++round) {
        memset(bits, 0xaa, 16);
        ASSERT_EQ(operate(request, guest.domain.id), 0);
        EXPECT_EQ(request.page_count, 75u);
        EXPECT_EQ(request.dirty, 1u);
        EXPECT_EQ(bits[8], 1u << 6);
        EXPECT_EQ(bits[10], 0xaa);
        request.operation = abi::shadow_clean;
    }
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_EQ(request.dirty, 0u);
    EXPECT_EQ(bits[8], 0u);
    request.dirty_bitmap = 0x7000;
    EXPECT_EQ(operate(request, guest.domain.id), fault);
    request.dirty_bitmap = 0;
    EXPECT_EQ(operate(request, guest.domain.id), 0);
    // Frames beyond the guest's memory are never said to be clean.
    request.dirty_bitmap = Guest::argument_address + 0x800;
    request.page_count = 4096 + 64;
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_EQ(bits[511], 0);
    EXPECT_EQ(bits[512], 0xff);
}

/// So a toolstack begins.
TEST_F(DirtyLogControl, TablesAreToldOfWhenTheGuestStandsStill) {
    log_writes_to_frame_70();
    set_m2p(guest.l1, 71);
    abi::DomctlPageInfo request{2, Guest::argument_address + 0x400};
    auto const kinds = [&] {
        control.argument<uint64_t>(0x400) = guest.l1.raw();
        control.argument<uint64_t>(0x408) = guest.argument_page.raw();
        EXPECT_EQ(operate(request, guest.domain.id, abi::DomctlOperation::getpageframeinfo3), 0);
        return std::pair{control.argument<uint64_t>(0x400), control.argument<uint64_t>(0x408)};
    };
    auto const& noted = *guest.domain.dirty_log.load();
    constexpr uint64_t invalid = 0xfu << 28, l1 = 1u << 28;
    EXPECT_FALSE(noted.has(71));
    EXPECT_EQ(kinds(), std::pair(invalid, uint64_t{0}));
    EXPECT_TRUE(noted.has(71)) << "it has to be asked for again";
    EXPECT_FALSE(noted.has(70)) << "nobody wrote to it";
    // Stopped by the toolstack, or by itself.
    guest.domain.pauses.fetch_add(1);
    EXPECT_EQ(kinds(), std::pair(l1, uint64_t{0}));
    guest.domain.pauses.fetch_sub(1);
    EXPECT_EQ(kinds().first, invalid);
    guest.domain.shutdown.store(static_cast<uint32_t>(abi::ShutdownReason::suspend));
    EXPECT_EQ(kinds(), std::pair(l1, uint64_t{0}));
    guest.domain.shutdown.store(not_shut_down);
    ASSERT_EQ(operate(abi::shadow_off), 0);
    EXPECT_EQ(kinds(), std::pair(l1, uint64_t{0})) << "nobody copies it while it runs";
}

TEST_F(DirtyLogControl, ACleanWithoutABufferForgetsAll) {
    log_writes_to_frame_70();
    write();
    abi::DomctlShadowOp request{};
    request.operation = abi::shadow_clean;
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_EQ(request.dirty, 1u);
    request.operation = abi::shadow_peek;
    request.dirty_bitmap = Guest::argument_address + 0x800;
    request.page_count = 128;
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_EQ(request.dirty, 0u);
    EXPECT_EQ(control.argument<uint8_t>(0x808), 0u);
    write();
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_EQ(request.dirty, 1u);
    EXPECT_EQ(control.argument<uint8_t>(0x808), 1u << 6);
}

TEST_F(DirtyLogControl, ACleanThatFailsForgetsNothing) {
    log_writes_to_frame_70();
    write();
    abi::DomctlShadowOp request{};
    request.operation = abi::shadow_peek;
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    uint32_t const faults = request.faults;
    EXPECT_NE(faults, 0u);
    // The bits of the first 128 frames fit, the others' would be where nothing is.
    request.operation = abi::shadow_clean;
    request.dirty_bitmap = Guest::argument_address + page_size - 16;
    request.page_count = 256;
    EXPECT_EQ(operate(request, guest.domain.id), fault);
    request.operation = abi::shadow_peek;
    request.dirty_bitmap = Guest::argument_address + 0x800;
    request.page_count = 256;
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_TRUE(control.argument<uint8_t>(0x808) & 1u << 6);
    EXPECT_EQ(request.dirty, 3 * 64u) << "all that it had come to";
    EXPECT_EQ(request.faults, faults);
    // Its next write is seen.
    write();
    ASSERT_EQ(operate(request, guest.domain.id), 0);
    EXPECT_GT(request.faults, faults);
}

} // namespace
} // namespace hearth::test
