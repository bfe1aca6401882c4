// A guest that does what an attacker would: any memory-management operation on any frame, with any
// value.
#pragma once

#include "frame_accounting.h"

#include "shadow_check.h"

#include "abi/operations.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "memory/guest_view.h"
#include "pv/contents.h"

#include <random>

namespace hearth::test {

class RandomGuest {
public:
    RandomGuest(uint64_t seed, unsigned vcpus, unsigned frames = 64)
        : guest_{vcpus}, random_{seed} {
        for (unsigned i = 0; i < frames; ++i)
            pool_.push_back(guest_.new_frame());
        foreign_ = *allocate_zeroed_frame();
        for (size_t i = 0; i < pool_.size(); ++i)
            set_m2p(pool_[i], i);
    }
    /// From now on through shadow page tables.
    void log_writes() {
        tlb_.shadows = true;
        Worker::run([this] {
            pause_domain(guest_.domain);
            Guest::must(start_logging(guest_.domain));
            unpause_domain(guest_.domain);
        });
        (void)guest_.run([] {}); // back on a CPU, with them
    }
    /// From now on in views that show nothing of Hearth; for all guests.
    void isolate() {
        tlb_.shadows = true;
        if (guests_are_isolated())
            return;
        Guest::must(isolate_guests());
        for (unsigned cpu = 1; cpu < machine_cpus; ++cpu)
            Guest::must(prepare_guest_view(cpu));
    }
    std::string touch() {
        std::string problem;
        for (unsigned i = 0; i < 4 && problem.empty(); ++i) {
            uint64_t const address = below(2) ? Guest::argument_address + below(9) * page_size
                                              : (1 + below(8)) * page_size;
            uint64_t word = 0;
            bool const write = one_in(2);
            guest_.run([&] {
                if (copy_from_guest(&word, GuestAddress{address}, 8) && write)
                    (void)copy_to_guest(GuestAddress{address}, &word, 8);
            });
            problem = check();
        }
        return problem;
    }
    ~RandomGuest() { free_frames(foreign_, 0); }

    Guest& guest() { return guest_; }
    [[nodiscard]] bool dead() const { return guest_.domain.is_shut_down(); }
    [[nodiscard]] char const* last_operation() const { return text_; }
    std::string check() {
        std::string problem = accounting_.check(guest_);
        if (problem.empty())
            problem = tlb_.check(guest_.domain);
        if (problem.empty() && guest_.domain.shadow.load())
            problem = shadow_has_no_more(guest_.vcpu());
        return problem;
    }
    void print_statistics() const {
        for (auto const& [name, counts] : statistics_)
            printf("%-28s %6u done %6u refused\n", name, counts.first, counts.second);
    }

    /// One operation; empty if everything still adds up.
    std::string step() {
        remember();
        changes_on_failure_ = false;
        int64_t const result = operate();
        auto& counts = statistics_[name_];
        ++(result >= 0 ? counts.first : counts.second);
        snprintf(text_, sizeof text_, "%s(%lx, %lx, %lx) = %ld", name_, a_, b_, c_, result);
        if (result < 0 && !changes_on_failure_)
            if (auto problem = changed(); !problem.empty())
                return problem;
        std::string problem = check();
        if (problem.empty())
            problem = check_view();
        if (problem.empty())
            problem = visit_user_mode();
        if (problem.empty())
            keep_alive();
        if (problem.empty() && owned_too_much_)
            problem = "the guest has more memory than before";
        return problem;
    }

private:
    Guest guest_;
    std::mt19937_64 random_;
    std::vector<Mfn> pool_;
    Mfn foreign_;
    FrameAccounting accounting_;
    TlbModel tlb_;
    std::map<uint64_t, std::pair<uint32_t, uint32_t>> before_;
    std::map<char const*, std::pair<unsigned, unsigned>> statistics_;
    bool changes_on_failure_ = false;
    bool owned_too_much_ = false;
    char const* name_ = "";
    uint64_t a_ = 0, b_ = 0, c_ = 0;
    char text_[200]{};

    /// What it may reach while it runs, where that is not what Hearth has mapped.
    std::string check_view() {
        if (dead() || !guests_are_isolated())
            return {};
        guest_.run([] { arch::write_cr3(cr3_for_guest()); });
        std::string const problem = tlb_.check(guest_.domain);
        guest_.run([] { arch::write_cr3(cr3_for_hearth()); });
        return problem.empty() ? problem : "in its view: " + problem;
    }

    /// There and back, as a process's system call would: what is kept of either mode must be right.
    std::string visit_user_mode() {
        if (dead() || guest_.vcpu().user_table == invalid_mfn || one_in(3))
            return {};
        guest_.run([this] { pv::enter_mode(guest_.vcpu(), !guest_.vcpu().kernel_mode); });
        std::string problem = check();
        if (problem.empty())
            problem = check_view();
        guest_.run([this] { pv::enter_mode(guest_.vcpu(), !guest_.vcpu().kernel_mode); });
        return problem.empty() ? check() : "in user mode: " + problem;
    }

    uint64_t below(uint64_t n) { return random_() % n; }
    bool one_in(uint64_t n) { return below(n) == 0; }

    Mfn any_frame() {
        switch (below(40)) {
        case 0:
            return foreign_;
        case 1:
            return Mfn{below(0x200)};
        case 2:
            return Mfn{random_()};
        case 3:
            return guest_.domain.shared_info_frame;
        case 4:
            return below(2) ? guest_.l1 : guest_.l2;
        default:
            return pool_[below(pool_.size())];
        }
    }
    unsigned any_index() {
        constexpr unsigned interesting[] = {0, 1, 2, 3, 255, 256, 261, 271, 272, 511};
        return interesting[below(std::size(interesting))];
    }
    /// A frame that is in use as the type right now, if luck has it.
    Mfn frame_of_type(PageType type) {
        for (unsigned tries = 0; tries < 40; ++tries)
            if (Mfn const mfn = pool_[below(pool_.size())]; page_at(mfn).type_word().type() == type)
                return mfn;
        return any_frame();
    }
    Mfn pinned_frame() {
        for (unsigned tries = 0; tries < 40; ++tries)
            if (Mfn const mfn = pool_[below(pool_.size())];
                page_at(mfn).type_word().has(TypeWord::pinned))
                return mfn;
        return any_frame();
    }
    Pte any_entry(unsigned level) {
        if (one_in(5))
            return Pte{one_in(2) ? 0 : random_() & ~uint64_t{1}};
        Mfn target =
            level > 1 && !one_in(4) ? frame_of_type(pv::table_type(level - 1)) : any_frame();
        uint64_t flags = pte::present | pte::user | (one_in(2) ? pte::writable : 0) |
                         (one_in(4) ? pte::dirty : 0) | (one_in(4) ? pte::accessed : 0) |
                         (one_in(8) ? pte::no_execute : 0);
        if (one_in(30))
            flags |= bit(static_cast<unsigned>(below(12)));
        if (one_in(60))
            flags |= bit(static_cast<unsigned>(52 + below(12)));
        return Pte{(target.raw() << page_shift | flags)};
    }

    int64_t call(abi::Hypercall number, uint64_t a1 = 0, uint64_t a2 = 0, uint64_t a3 = 0,
                 uint64_t a4 = 0) {
        auto const result = guest_.hypercall(number, a1, a2, a3, a4);
        return result ? *result : 0;
    }
    int64_t mmuext(abi::MmuExtCommand command, uint64_t a1, uint64_t a2 = 0) {
        a_ = a1;
        b_ = a2;
        guest_.argument<abi::MmuExtOp>() = {static_cast<uint32_t>(command), 0, a1, a2};
        return call(abi::Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self);
    }

    int64_t operate() {
        switch (below(28)) {
        case 0:
        case 1:
        case 2:
            return do_pin();
        case 3:
            name_ = "unpin";
            return mmuext(abi::MmuExtCommand::unpin_table, any_frame().raw());
        case 4:
            name_ = "new_baseptr";
            return mmuext(abi::MmuExtCommand::new_baseptr, frame_of_type(PageType::l4).raw());
        case 5:
            name_ = "new_user_baseptr";
            return mmuext(abi::MmuExtCommand::new_user_baseptr,
                          one_in(4) ? 0 : frame_of_type(PageType::l4).raw());
        case 6:
            return do_clear_or_copy();
        case 7:
            return do_set_gdt();
        case 8:
            return do_update_descriptor();
        case 9:
        case 10:
            return do_update_va_mapping();
        case 11:
            return do_memory();
        case 12:
            return do_ldt();
        case 13:
            return do_compare_exchange();
        case 14:
        case 15:
            return do_clear_or_copy();
        case 16:
            name_ = "unpin";
            return mmuext(abi::MmuExtCommand::unpin_table, pinned_frame().raw());
        default:
            return do_mmu_update();
        }
    }
    int64_t do_pin() {
        unsigned const level = 1 + static_cast<unsigned>(below(4));
        constexpr char const* names[] = {"pin L1", "pin L2", "pin L3", "pin L4"};
        name_ = names[level - 1];
        Mfn const frame = one_in(3) ? any_frame() : pool_[below(pool_.size())];
        return mmuext(static_cast<abi::MmuExtCommand>(level - 1), frame.raw());
    }
    int64_t do_mmu_update() {
        // Where: mostly a table, and then mostly an entry of its level.
        unsigned const level = 1 + static_cast<unsigned>(below(4));
        Mfn const table = one_in(3) ? any_frame() : frame_of_type(pv::table_type(level));
        uint64_t const command = one_in(10) ? below(4) : one_in(3) ? 2 : 0;
        constexpr char const* names[] = {"mmu_update", "machphys_update", "mmu_update preserving",
                                         "mmu_update 3"};
        name_ = names[command];
        a_ = (table.raw() << page_shift) + any_index() * 8 + command + (one_in(50) ? 4 : 0);
        b_ = any_entry(level).v;
        guest_.argument<abi::MmuUpdate>() = {a_, b_};
        return call(abi::Hypercall::mmu_update, Guest::argument_address, 1, 0, domid_self);
    }
    int64_t do_update_va_mapping() {
        name_ = "update_va_mapping";
        // Most often beside the argument page, in the guest's own L1.
        a_ = one_in(3) ? uint64_t{any_index()} << 39 | uint64_t{any_index()} << 12
                       : Guest::argument_address + (1 + below(8)) * page_size;
        if (a_ >> 47 & 1)
            a_ |= 0xffff000000000000;
        b_ = any_entry(1).v;
        c_ = below(4) | (one_in(3) ? 4 : 0);
        return call(abi::Hypercall::update_va_mapping, a_, b_, c_);
    }
    int64_t do_clear_or_copy() {
        bool const copy = one_in(2);
        name_ = copy ? "copy_page" : "clear_page";
        return mmuext(copy ? abi::MmuExtCommand::copy_page : abi::MmuExtCommand::clear_page,
                      any_frame().raw(), any_frame().raw());
    }
    int64_t do_set_gdt() {
        name_ = "set_gdt";
        a_ = below(16);
        for (unsigned i = 0; i < a_; ++i)
            guest_.argument<uint64_t>(i * 8) = any_frame().raw();
        return call(abi::Hypercall::set_gdt, Guest::argument_address, a_ * 512);
    }
    int64_t do_update_descriptor() {
        name_ = "update_descriptor";
        Mfn const frame = one_in(2) ? frame_of_type(PageType::descriptors) : any_frame();
        a_ = (frame.raw() << page_shift) + any_index() * 8 + (one_in(20) ? 3 : 0);
        b_ = one_in(2) ? 0x00affb000000ffff : random_();
        return call(abi::Hypercall::update_descriptor, a_, b_);
    }
    int64_t do_ldt() {
        if (one_in(3)) {
            name_ = "set_ldt";
            return mmuext(abi::MmuExtCommand::set_ldt,
                          Guest::argument_address + below(4) * page_size, below(3) * 4096);
        }
        name_ = "LDT fault";
        a_ = pv::ldt_offset + below(17) * page_size;
        bool mapped = false;
        guest_.run([&] { mapped = pv::map_ldt_page(guest_.vcpu(), a_); });
        return mapped ? 0 : -1;
    }
    int64_t do_memory() {
        using abi::MemoryOperation;
        changes_on_failure_ = true; // done in part is done
        if (one_in(2)) {
            name_ = "populate and decrease";
            auto& request = guest_.argument<abi::MemoryReservation>();
            request = {Guest::argument_address + 0x100, 1, 0, 0, domid_self, {}};
            guest_.argument<uint64_t>(0x100) = 7;
            // Another frame comes for the one that goes, so that the pool stays as large as it is.
            int64_t const got = call(abi::Hypercall::memory_op,
                                     static_cast<uint64_t>(MemoryOperation::populate_physmap),
                                     Guest::argument_address);
            if (got != 1)
                return got;
            Mfn const fresh{guest_.argument<uint64_t>(0x100)};
            size_t const at = below(pool_.size());
            Mfn const old = std::exchange(pool_[at], fresh);
            a_ = old.raw();
            guest_.argument<uint64_t>(0x100) = old.raw();
            return call(abi::Hypercall::memory_op,
                        static_cast<uint64_t>(MemoryOperation::decrease_reservation),
                        Guest::argument_address);
        }
        name_ = "exchange";
        size_t const at = below(pool_.size());
        a_ = pool_[at].raw();
        guest_.argument<uint64_t>(0x100) = a_;
        guest_.argument<uint64_t>(0x200) = 9;
        guest_.argument<abi::MemoryExchange>() = {
            {Guest::argument_address + 0x100, 1, 0, 0, domid_self, {}},
            {Guest::argument_address + 0x200, 1, 0, 32, domid_self, {}},
            0};
        uint64_t const owned = guest_.owned_frames().size();
        int64_t const result =
            call(abi::Hypercall::memory_op, static_cast<uint64_t>(MemoryOperation::exchange),
                 Guest::argument_address);
        if (result == 0)
            pool_[at] = Mfn{guest_.argument<uint64_t>(0x200)};
        if (guest_.owned_frames().size() > owned)
            owned_too_much_ = true;
        return result;
    }
    int64_t do_compare_exchange() {
        name_ = "compare-exchange";
        Mfn const table = frame_of_type(PageType::l1);
        if (!is_ram(table) || page_at(table).state != PageState::guest)
            return -1;
        Pte* const slot = &direct<Pte>(table)[any_index()];
        Pte const value = any_entry(1);
        Pte expected = one_in(4) ? Pte{random_()} : *slot;
        a_ = table.raw();
        b_ = value.v;
        int64_t result = -1;
        guest_.run([&] {
            auto const held = pv::TypeRef::get(guest_.domain, table, PageType::l1);
            if (!held)
                return;
            auto const done = pv::compare_exchange_entry(guest_.domain, slot, 1, expected, value);
            result = done && *done ? 0 : -1;
        });
        return result;
    }

    /// Back to an address space in which the argument page can be reached.
    void keep_alive() {
        if (dead())
            return;
        bool reachable = false;
        guest_.run([&] {
            uint64_t word = 0; // through shadow page tables, which begin empty
            (void)copy_from_guest(&word, GuestAddress{Guest::argument_address}, 8);
            (void)copy_to_guest(GuestAddress{Guest::argument_address}, &word, 8);
            reachable = host::guest_memory_at(Guest::argument_address, true) ==
                        static_cast<void*>(direct<char>(guest_.argument_page));
            if (!reachable)
                (void)pv::set_kernel_table(guest_.vcpu(), guest_.l4);
        });
    }

    void remember() {
        before_.clear();
        for (Mfn const mfn : pool_)
            before_[mfn.raw()] = {page_at(mfn).references.load(), significant(mfn)};
    }
    static uint32_t significant(Mfn mfn) {
        TypeWord const word = page_at(mfn).type_word();
        return word.count() ? word.v : 0;
    }
    std::string changed() {
        for (auto const& [frame, old] : before_)
            if (page_at(Mfn{frame}).references.load() != old.first ||
                significant(Mfn{frame}) != old.second) {
                char line[120];
                snprintf(line, sizeof line,
                         "refused, but frame %lx changed: references %x to %x, type %x to %x",
                         frame, old.first, page_at(Mfn{frame}).references.load(), old.second,
                         significant(Mfn{frame}));
                return line;
            }
        return {};
    }
};

} // namespace hearth::test
