// What guests are shown where they must not see Hearth: the CPU's copies of their top-level tables,
// and when these are made anew.
#include "fake_machine.h"

#include "arch/descriptors.h"
#include "arch/x86/airlock.h"
#include "memory/guest_view.h"

#include <gtest/gtest.h>

#include <set>

extern "C" {
struct Opened {
    uint64_t cr3;
    hearth::arch::ExitFrame* stack;
};
Opened open_airlock(hearth::Registers const& r);
void guest_exception(hearth::Thread& vcpu, hearth::Registers& frame);
}

namespace hearth::test {
namespace {

constexpr uint64_t low = 0x1234'5000, high = 0xffff'ffff'8000'0000;

Pte& entry(Mfn table, uint64_t address, unsigned level = 4) {
    return direct<Pte>(table)[table_index(address, level)];
}

class GuestViews : public testing::Test {
protected:
    Mfn kernel, user;

    void SetUp() override {
        boot_machine();
        ASSERT_TRUE(isolate_guests());
        for (unsigned cpu = 1; cpu < machine_cpus; ++cpu)
            ASSERT_TRUE(prepare_guest_view(cpu));
        for (Mfn* const table : {&kernel, &user}) {
            *table = *allocate_zeroed_frame();
            for (unsigned i = 0; i < layout::slot_count; ++i)
                direct<Pte>(*table)[layout::first_slot + i] = hypervisor_slots()[i];
            entry(*table, low) = Pte::make(*table + 1, 7);
        }
        load_kernel();
    }
    void TearDown() override { load_address_space(idle_cr3()); }

    void load_kernel() { load_address_space(address_of(kernel).raw(), SpaceTag::guest_kernel); }
    void enter_kernel() { switch_address_space(address_of(kernel).raw(), SpaceTag::guest_kernel); }
    void enter_user() { switch_address_space(address_of(user).raw(), SpaceTag::guest_user); }

    /// The top-level table that the guest runs on when it is let run now.
    static Mfn shown() { return frame_of(PhysicalAddress{cr3_for_guest() & pte::frame_bits}); }
    static Pte shown_at(uint64_t address) { return entry(shown(), address); }
};

/// Every page of Hearth's part that is mapped below the table, M2P aside.
std::set<uint64_t> pages_of_hearth(Mfn root) {
    std::set<uint64_t> found;
    for (unsigned i = 1; i < layout::slot_count; ++i) {
        uint64_t const slot = layout::slot(layout::first_slot + i);
        if (!entry(root, slot).present() || slot == layout::descriptor_windows)
            continue;
        for (uint64_t a = slot; a < slot + 1_GiB; a += page_size) {
            Pte at = entry(root, a);
            for (unsigned level = 3; level >= 1 && at.present(); --level)
                at = entry(at.mfn(), a, level);
            if (at.present())
                found.insert(a);
        }
    }
    return found;
}

TEST_F(GuestViews, HaveNothingOfHearthsButWhatAnEntryNeeds) {
    uint64_t const airlock = arch::parts_for_entry(0).back().start;
    ASSERT_TRUE(map_hypervisor_page(layout::image, Mfn{0x50}, mapping::code));
    GuestView view;
    ASSERT_TRUE(view.create(0));
    for (unsigned const mode : {GuestView::for_kernel, GuestView::for_user}) {
        Mfn const root = view.root(mode);
        EXPECT_EQ(pages_of_hearth(root), (std::set{layout::image, airlock}));
        EXPECT_EQ(entry(root, layout::machine_to_physical), hypervisor_slots()[0]);
        for (uint64_t const hidden : {layout::machine_to_physical_writable, layout::frame_table,
                                      layout::stacks, layout::direct_map})
            EXPECT_FALSE(entry(root, hidden).present());
    }
    EXPECT_TRUE(hypervisor_translation(airlock).writable());
}

TEST_F(GuestViews, EachCpuHasItsOwn) {
    EXPECT_NE(guest_view(0).root(GuestView::for_kernel), guest_view(1).root(GuestView::for_kernel));
    EXPECT_EQ(pages_of_hearth(guest_view(1).root(GuestView::for_user))
                  .count(arch::parts_for_entry(0).back().start),
              0u);
}

TEST_F(GuestViews, OneWindowIsShownAtATime) {
    constexpr uint64_t first = layout::descriptor_windows, second = first + 2_MiB,
                       far = first + 3_GiB;
    GuestView& view = guest_view(0);
    auto const table = [&](uint64_t address) {
        Pte at = entry(view.root(GuestView::for_user), address);
        for (unsigned level = 3; level >= 2 && at.present(); --level)
            at = entry(at.mfn(), address, level);
        return at.present() ? at.mfn() : invalid_mfn;
    };
    for (uint64_t const window : {first, second, far, first}) {
        view.show_window(window);
        for (uint64_t const other : {first, second, far})
            EXPECT_EQ(table(other), other == window ? hypervisor_l1_table(other) : invalid_mfn);
    }
}

TEST_F(GuestViews, TheGuestRunsOnACopyWithItsOwnPartOnly) {
    entry(kernel, high) = Pte::make(user, 7);
    EXPECT_NE(shown(), kernel);
    EXPECT_EQ(shown_at(low), entry(kernel, low));
    EXPECT_EQ(shown_at(high), entry(kernel, high));
    EXPECT_FALSE(shown_at(layout::direct_map).present());
    EXPECT_EQ(cr3_for_hearth(), address_of(kernel).raw());
    enter_user();
    EXPECT_EQ(shown_at(low), entry(user, low));
    EXPECT_FALSE(shown_at(high).present());
    EXPECT_EQ(cr3_for_hearth(), address_of(user).raw());
}

TEST_F(GuestViews, ACopyIsKeptForEachMode) {
    (void)shown();
    enter_user();
    (void)shown();
    Pte const old = entry(kernel, low);
    entry(kernel, low) = {};
    for (unsigned i = 0; i < 2; ++i) {
        enter_kernel();
        EXPECT_EQ(shown_at(low), old) << "not made for each way back";
        enter_user();
        EXPECT_EQ(shown_at(low), entry(user, low));
    }
}

TEST_F(GuestViews, WhateverDropsTranslationsDropsTheCopies) {
    auto const changes_show_after = [&](auto const& drop) {
        (void)shown();
        entry(kernel, low).v ^= pte::writable;
        drop();
        return shown_at(low) == entry(kernel, low);
    };
    EXPECT_FALSE(changes_show_after([] {}));
    EXPECT_TRUE(changes_show_after([] { flush_local_tlb(); }));
    EXPECT_TRUE(changes_show_after([] { flush_local_page(low); }));
    EXPECT_TRUE(changes_show_after([&] { load_kernel(); }));
    EXPECT_TRUE(changes_show_after([] {
        flush_stale_translations(stale_from_now(), CpuMask::of(host::current_cpu()),
                                 IdleCpus::later);
    }));
    // Of the mode that is not loaded, too.
    enter_user();
    EXPECT_TRUE(changes_show_after([&] {
        flush_local_tlb();
        enter_kernel();
    }));
    enter_user();
    EXPECT_TRUE(changes_show_after([&] {
        flush_local_page(low);
        enter_kernel();
    }));
}

/// Without tags every load of CR3 drops translations, but not the copies that are kept.
TEST_F(GuestViews, OnlyAFullFlushMovesTheClock) {
    uint64_t const stamp = stale_from_now();
    (void)shown();
    enter_user();
    enter_kernel();
    Pte const old = entry(kernel, low);
    entry(kernel, low) = {};
    EXPECT_EQ(shown_at(low), old);
    flush_stale_translations(stamp, CpuMask::of(host::current_cpu()), IdleCpus::later);
    EXPECT_FALSE(shown_at(low).present());
}

TEST_F(GuestViews, AFaultFindsWhatIsNew) {
    (void)shown();
    EXPECT_FALSE(renew_guest_view(high)) << "nothing is there";
    entry(kernel, high) = Pte::make(user, 7);
    EXPECT_FALSE(renew_guest_view(low)) << "elsewhere";
    EXPECT_TRUE(renew_guest_view(high));
    EXPECT_EQ(shown_at(high), entry(kernel, high));
    EXPECT_FALSE(renew_guest_view(high)) << "the guest's own fault";
    entry(shown(), high).v |= pte::accessed;
    EXPECT_FALSE(renew_guest_view(high)) << "the processor's";
}

TEST_F(GuestViews, ViewsHaveTagsOfTheirOwn) {
    use_space_tags(true);
    load_kernel();
    constexpr uint64_t kernel_view = 3, user_view = 4;
    auto const root = [](unsigned mode) { return address_of(guest_view(0).root(mode)).raw(); };
    EXPECT_EQ(cr3_for_guest(), root(GuestView::for_kernel) | kernel_view) << "a new copy";
    EXPECT_EQ(cr3_for_guest(), root(GuestView::for_kernel) | kernel_view | arch::cr3::no_flush);
    EXPECT_EQ(cr3_for_hearth(), address_of(kernel).raw() | 1 | arch::cr3::no_flush);
    enter_user();
    EXPECT_EQ(cr3_for_guest(), root(GuestView::for_user) | user_view);
    EXPECT_EQ(cr3_for_hearth(), address_of(user).raw() | 2 | arch::cr3::no_flush);
    flush_local_page(low);
    EXPECT_EQ(cr3_for_guest(), root(GuestView::for_user) | user_view);
    enter_kernel();
    EXPECT_EQ(cr3_for_guest(), root(GuestView::for_kernel) | kernel_view);
    // Shadow page tables have no tag. What Hearth left with that one is dropped.
    load_address_space(address_of(kernel).raw());
    EXPECT_EQ(cr3_for_guest(), root(GuestView::for_kernel) | kernel_view);
    EXPECT_EQ(cr3_for_hearth(), address_of(kernel).raw());
}

TEST_F(GuestViews, TheAirlockHasWhatTheGuestLeavesWith) {
    Registers r{};
    r.rdx = 1;
    r.rdi = 2;
    r.rip = 3;
    r.cs = 4;
    r.rflags = 5;
    r.rsp = 6;
    r.ss = 7;
    Opened const opened = open_airlock(r);
    arch::Airlock const& airlock = airlocks[0];
    EXPECT_EQ(opened.cr3, cr3_for_guest());
    auto const* const words = reinterpret_cast<uint64_t const*>(opened.stack);
    for (unsigned i = 0; i < 7; ++i)
        EXPECT_EQ(words[i], i + 1u);
    EXPECT_EQ(words + 7, &airlock.entry.stack) << "where the next entry arrives, too";
    EXPECT_EQ(airlock.entry.cr3, address_of(kernel).raw());
}

TEST_F(GuestViews, AGuestIsNotToldOfFaultsThatItsCopyCaused) {
    Guest guest;
    pv::PvVcpu& v = guest.vcpu();
    handle_all_traps(v, 0x7000);
    guest.run([&] {
        pv::load_active_space(v);
        (void)cr3_for_guest();
        Registers& r = v.registers();
        auto const fault = [&](uint64_t address) {
            r = {};
            r.rip = 0x5000;
            r.cs = 0xe033;
            r.rsp = Guest::argument_address + page_size;
            r.vector = static_cast<uint32_t>(Vector::page_fault);
            host::cpu_state(v.cpu()).cr2 = address;
            guest_exception(v, r);
            return r.rip == 0x7000;
        };
        EXPECT_TRUE(fault(high));
        entry(guest.l4, high) = Pte::make(guest.l3, Guest::table_flags);
        EXPECT_FALSE(fault(high));
        (void)cr3_for_guest();
        EXPECT_TRUE(fault(high));
        entry(guest.l4, high) = {};
    });
}

} // namespace
} // namespace hearth::test
