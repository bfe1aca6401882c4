// Grants under random operations of domains that mean each other no good, with everything recounted
// after each one: references, what the granter is told, and what any CPU may still reach.
#include "grant_guest.h"

#include "abi/operations.h"

#include <algorithm>
#include <memory>
#include <random>

namespace hearth::test {
namespace {

namespace gtf = abi::grant;
namespace map_flag = abi::grant_map;

class GrantModel {
    static constexpr unsigned guest_count = 3, references = 10, first_reference = 8, places = 6;

    struct Handle {
        unsigned mapper, granter, reference;
        uint32_t number, flags;
        uint64_t where;
        Mfn frame;
        [[nodiscard]] bool writes() const { return !(flags & map_flag::readonly); }
    };

    std::mt19937_64 random_;
    std::vector<std::unique_ptr<GrantGuest>> guests_;
    std::vector<Mfn> pool_;
    std::vector<Handle> handles_;
    FrameAccounting accounting_;
    TlbModel tlb_;
    char const* name_ = "";

    uint64_t below(uint64_t n) { return random_() % n; }
    bool one_in(uint64_t n) { return below(n) == 0; }
    GrantGuest& guest(unsigned n) { return *guests_[n]; }
    /// One a CPU, so that each gets its turn.
    static unsigned vcpus_of(unsigned n) { return n == 0 ? machine_cpus - guest_count + 1 : 1; }
    unsigned any() { return static_cast<unsigned>(below(guest_count)); }
    unsigned any_reference() { return first_reference + static_cast<unsigned>(below(references)); }
    Mfn own_frame(unsigned n) { return one_in(8) ? any_frame() : pool_[n * 5 + below(5)]; }
    Mfn any_frame() {
        Mfn const special[] = {guest(0).l1, guest(1).l2, guest(2).argument_page, Mfn{0x30},
                               Mfn{below(0x200)}};
        return one_in(12) ? special[below(std::size(special))] : pool_[below(pool_.size())];
    }
    uint64_t any_place(GrantGuest& who, bool by_entry) {
        unsigned const n = 1 + static_cast<unsigned>(below(places));
        if (one_in(20))
            return random_();
        return by_entry ? who.machine_address_of_entry(n) : GrantGuest::address(n);
    }

    void write_entry() {
        name_ = "an entry changes";
        unsigned const n = any();
        GrantGuest& who = guest(n);
        unsigned const reference = any_reference();
        uint16_t const flags =
            one_in(8) ? static_cast<uint16_t>(random_())
                      : static_cast<uint16_t>(gtf::permit_access | (one_in(3) ? gtf::readonly : 0));
        DomainId const to = guest(any()).domain.id;
        if (who.version() == 2)
            who.v2(reference) = {flags, one_in(9) ? domid_self : to,
                                 static_cast<uint16_t>(random_()), static_cast<uint16_t>(random_()),
                                 own_frame(n).raw()};
        else
            who.v1(reference) = {flags, to, static_cast<uint32_t>(own_frame(n).raw())};
    }
    void map() {
        name_ = "map";
        unsigned mapper = any();
        unsigned const granter = any(), reference = any_reference();
        DomainId const to = guest(granter).version() == 2 ? guest(granter).v2(reference).domain
                                                          : guest(granter).v1(reference).domain;
        for (unsigned i = 0; i < guest_count && !one_in(5); ++i)
            mapper = guest(i).domain.id == to ? i : mapper;
        uint32_t flags = one_in(10) ? static_cast<uint32_t>(random_())
                                    : static_cast<uint32_t>(1 + below(3)) |
                                          (one_in(2) ? map_flag::readonly : 0) |
                                          (one_in(3) ? map_flag::contains_pte : 0);
        uint64_t const where = any_place(guest(mapper), flags & map_flag::contains_pte);
        auto const done = guest(mapper).map(guest(granter), reference, where, flags,
                                            static_cast<unsigned>(below(vcpus_of(mapper))));
        if (done.status == GrantStatus::okay)
            handles_.push_back({mapper, granter, reference, done.handle, flags, where,
                                Mfn{done.device_address >> page_shift}});
    }
    void unmap() {
        name_ = "unmap";
        if (handles_.empty() || one_in(12)) {
            // Nobody's handle, or somebody else's.
            unsigned const mapper = any();
            auto const number = static_cast<uint32_t>(below(40));
            for (Handle const& h : handles_)
                if (h.mapper == mapper && h.number == number)
                    return;
            EXPECT_EQ(guest(mapper).unmap(number, GrantGuest::address(1)), GrantStatus::bad_handle);
            return;
        }
        size_t const at = below(handles_.size());
        Handle& h = handles_[at];
        uint64_t const host = one_in(6)   ? any_place(guest(h.mapper), one_in(2))
                              : one_in(5) ? 0
                                          : h.where;
        uint64_t const device = one_in(3) ? 0 : address_of(h.frame).raw() + (one_in(9) ? 1 : 0);
        GrantStatus status;
        if (one_in(5)) {
            name_ = "unmap and replace";
            abi::GrantUnmapAndReplace request{
                host, one_in(4) ? 0 : any_place(guest(h.mapper), false), h.number, {}, 0};
            status = guest(h.mapper).status_of(GrantOperation::unmap_and_replace, request);
            note(at, status, host, 0);
        } else {
            status = guest(h.mapper).unmap(h.number, host, device,
                                           static_cast<unsigned>(below(vcpus_of(h.mapper))));
            note(at, status, host, device);
        }
    }
    void note(size_t at, GrantStatus status, uint64_t host, uint64_t device) {
        Handle& h = handles_[at];
        if (status != GrantStatus::okay)
            return;
        h.flags &= ~((host ? map_flag::host : 0) | (device ? map_flag::device : 0));
        if (!(h.flags & (map_flag::host | map_flag::device)))
            handles_.erase(handles_.begin() + static_cast<ptrdiff_t>(at));
    }
    void copy() {
        name_ = "copy";
        auto const side = [&](bool grant) -> abi::GrantCopySide {
            auto const offset = static_cast<uint16_t>(below(4200));
            if (grant)
                return {any_reference(), guest(any()).domain.id, offset, 0};
            return {any_frame().raw(), domid_self, offset, 0};
        };
        auto const flags = static_cast<uint16_t>(below(4));
        abi::GrantCopySide const source = side(flags & 1), destination = side(flags & 2);
        // What may be written to holds no tables, so nothing that matters is overwritten here.
        if (!(flags & 2))
            for (auto const& g : guests_)
                if (destination.reference_or_frame == g->argument_page.raw())
                    return;
        (void)guest(any()).copy(source, destination, static_cast<uint16_t>(below(64)), flags);
    }
    void change_mapping() {
        name_ = "update_va_mapping";
        GrantGuest& who = guest(any());
        auto const n = 1 + static_cast<unsigned>(below(places));
        Pte const now = who.entry_at(n);
        Pte const choices[] = {{},
                               Pte{now.v & ~pte::writable},
                               Pte{now.v | pte::writable},
                               Pte::make(any_frame(), Guest::table_flags),
                               Pte::make(any_frame(), Guest::table_flags & ~pte::writable)};
        (void)who.map_own(n, choices[below(std::size(choices))]);
    }
    void retype() {
        name_ = "pin and unpin";
        GrantGuest& who = guest(any());
        Mfn const frame = any_frame();
        if (is_ram(frame) && page_at(frame).state == PageState::guest &&
            page_at(frame).type_word().count() == 0)
            zero_page(frame); // so that it may become a table
        who.argument<abi::MmuExtOp>() = {one_in(2) ? 0u : 4u, 0, frame.raw(), 0};
        (void)who.hypercall(abi::Hypercall::mmuext_op, Guest::argument_address, 1, 0, domid_self);
    }
    void change_table() {
        GrantGuest& who = guest(any());
        if (one_in(2)) {
            name_ = "swap";
            abi::GrantSwap request{any_reference(), any_reference(), {}, 0};
            (void)who.status_of(GrantOperation::swap_grant_ref, request);
        } else {
            name_ = "set_version";
            int64_t const result = who.set_version(1 + static_cast<uint32_t>(below(2)));
            EXPECT_TRUE(result == 0 || result == -16) << result;
        }
    }

    /// What the granter is told, where nobody but Hearth writes it.
    std::string check_flags() {
        for (unsigned g = 0; g < guest_count; ++g) {
            if (guest(g).version() != 2)
                continue;
            for (unsigned reference = first_reference; reference < first_reference + references;
                 ++reference) {
                uint16_t wanted = 0;
                for (Handle const& h : handles_)
                    if (h.granter == g && h.reference == reference)
                        wanted |= gtf::reading | (h.writes() ? gtf::writing : 0);
                if (guest(g).use_of(reference) != wanted)
                    return "reference " + std::to_string(reference) + " shows use " +
                           std::to_string(guest(g).use_of(reference)) + ", should be " +
                           std::to_string(wanted);
            }
        }
        return {};
    }
    /// No CPU may reach a frame that its domain neither owns nor has a handle for.
    std::string check_reach() {
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
            Mfn const root = frame_of(PhysicalAddress{host::cpu_state(cpu).cr3});
            if (!is_ram(root))
                continue;
            DomainId const whose = page_at(root).owner;
            for (Mfn const frame : tlb_.reachable(cpu)) {
                bool fine = page_at(frame).owner == whose;
                for (Handle const& h : handles_)
                    fine = fine || (h.frame == frame && guest(h.mapper).domain.id == whose);
                if (!fine)
                    return "CPU " + std::to_string(cpu) + " may still reach a frame of another's";
            }
        }
        return {};
    }

public:
    explicit GrantModel(uint64_t seed) : random_{seed} {
        for (unsigned i = 0; i < guest_count; ++i) {
            guests_.push_back(std::make_unique<GrantGuest>(vcpus_of(i), 1 + i % 2));
            for (unsigned k = 0; k < 5; ++k)
                pool_.push_back(guests_[i]->new_frame());
        }
    }
    [[nodiscard]] char const* name() const { return name_; }
    [[nodiscard]] size_t open_handles() const { return handles_.size(); }

    void step() {
        switch (below(16)) {
        case 0:
        case 1:
            return write_entry();
        case 2:
        case 3:
        case 4:
        case 5:
            return map();
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
            return unmap();
        case 11:
            return copy();
        case 12:
            return change_mapping();
        case 13:
            return retype();
        case 14:
            return one_in(4) ? change_table() : map();
        default:
            return write_entry();
        }
    }
    std::string check() {
        HeldElsewhere elsewhere;
        for (Handle const& h : handles_) {
            ++elsewhere.read_only[h.frame.raw()];
            if (h.writes() && h.flags & map_flag::device)
                ++elsewhere.writable[h.frame.raw()];
        }
        std::vector<Guest const*> all;
        for (auto const& g : guests_)
            all.push_back(g.get());
        std::string problem = accounting_.check(all, elsewhere);
        if (problem.empty())
            problem = tlb_.check([&](DomainId owner) {
                return std::ranges::any_of(guests_,
                                           [&](auto const& g) { return g->domain.id == owner; });
            });
        if (problem.empty())
            problem = check_reach();
        if (problem.empty())
            problem = check_flags();
        return problem;
    }
    /// One domain after the other ends; what it had mapped is free again.
    std::string finish() {
        for (unsigned i = 0; i < guest_count; ++i) {
            for (unsigned n = 1; n <= places; ++n)
                EXPECT_EQ(guest(i).map_own(n, {}), 0);
            guest(i).end();
            std::erase_if(handles_, [&](Handle const& h) { return h.mapper == i; });
        }
        std::vector<Guest const*> all;
        for (auto const& g : guests_)
            all.push_back(g.get());
        return accounting_.check(all);
    }
};

TEST(GrantModels, NothingIsLostAndNothingStays) {
    uint64_t const seeds = getenv("HEARTH_RUNS") ? strtoull(getenv("HEARTH_RUNS"), nullptr, 0) : 6;
    size_t most = 0;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        GrantModel model{seed};
        for (unsigned i = 0; i < 1500; ++i) {
            model.step();
            ASSERT_EQ(model.check(), "")
                << "seed " << seed << ", operation " << i << ": " << model.name();
            most = std::max(most, model.open_handles());
        }
        ASSERT_EQ(model.finish(), "") << "seed " << seed;
    }
    EXPECT_GT(most, 8u) << "hardly anything was ever mapped";
}

} // namespace
} // namespace hearth::test
