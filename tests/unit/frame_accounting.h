// What must hold of a guest's frames after every operation, computed anew from the tables
// themselves.
#pragma once

#include "fake_machine.h"

#include <map>
#include <set>
#include <string>

namespace hearth::test {

/// What holds references to a frame besides page tables, as far as the test caused it.
struct HeldElsewhere {
    // Frame number: references that Hearth itself keeps.
    std::map<uint64_t, unsigned> writable;
    std::map<uint64_t, unsigned> read_only;
    // Frames that Hearth shares with a domain, besides its shared info.
    std::vector<Mfn> shared;
};

class FrameAccounting {
    struct Expected {
        uint32_t references = 0;
        uint32_t types[7]{};
    };
    std::map<uint64_t, Expected> expected_;
    std::string problem_;
    bool exact_ = true;

    template <class... A>
    void fail(char const* text, A... a) {
        if (!problem_.empty())
            return;
        char line[200];
        snprintf(line, sizeof line, text, a...);
        problem_ = line;
    }
    void hold(Mfn mfn, PageType type) {
        Expected& e = expected_[mfn.raw()];
        ++e.references;
        ++e.types[static_cast<unsigned>(type)];
    }

    void count_entries(Mfn table, unsigned level) {
        for (unsigned i = 0; i < entries_per_table; ++i) {
            Pte const entry = direct<Pte>(table)[i];
            if (level == 4 && pv::is_page_table(PageType::l4) && i >= layout::first_slot &&
                i < layout::first_slot + layout::slot_count) {
                if (entry.v != hypervisor_slots()[i - layout::first_slot].v)
                    fail("slot %u of L4 %lx is %lx, not the hypervisor's", i, table.raw(), entry.v);
                continue;
            }
            if (!entry.present())
                continue;
            if (!(page_at(table).filled_parts >> i / (entries_per_table / 16) & 1))
                fail("entry %u of L%u %lx is in no part that is noted as filled", i, level,
                     table.raw());
            if (!(entry.v & pte::user) || (entry.v & pte::global))
                fail("entry %u of L%u %lx: %lx is not a guest's", i, level, table.raw(), entry.v);
            if (level > 1) {
                if (entry.large())
                    fail("a large page: entry %u of L%u %lx", i, level, table.raw());
                hold(entry.mfn(), pv::table_type(level - 1));
            } else if (is_ram(entry.mfn())) {
                hold(entry.mfn(), entry.writable() ? PageType::writable : PageType::none);
            }
        }
    }

    void count_guest(Domain& domain, std::vector<Mfn> const& frames) {
        uint64_t listed = 0;
        for (Mfn const mfn : frames) {
            TypeWord const word = page_at(mfn).type_word();
            listed += !page_at(mfn).unlisted;
            if (word.has(TypeWord::pinned))
                hold(mfn, word.type());
            if (word.count() && pv::is_page_table(word.type()))
                count_entries(mfn, pv::level_of(word.type()));
        }
        for (unsigned i = 0; i < domain.vcpu_count; ++i)
            count_vcpu(pv::pv_vcpu(*domain.vcpus[i]));
        uint64_t const on_list = domain.pages.with([](PageList& list) { return list.count; });
        if (on_list != listed)
            fail("%lu frames on the books, %lu owned", on_list, listed);
    }
    void count_vcpu(pv::PvVcpu const& v) {
        for (Mfn const root : {v.kernel_table, v.user_table})
            if (root != invalid_mfn)
                hold(root, PageType::l4);
        for (unsigned i = 0; i < pv::gdt_guest_frames; ++i)
            count_window(v, v.gdt[i], i * page_size);
        for (unsigned i = 0; i < pv::ldt_frames; ++i)
            count_window(v, v.ldt[i], pv::ldt_offset + i * page_size);
        if (v.info_page)
            hold(v.info_page.mfn(), PageType::writable);
    }
    void count_window(pv::PvVcpu const& v, Mfn frame, uint64_t offset) {
        Pte const mapped = hypervisor_translation(v.window + offset);
        if (frame == invalid_mfn) {
            // Nothing, or in a GDT what has no descriptor, as at its end where no guest's frame is.
            bool const in_gdt = offset < pv::ldt_offset;
            Pte const empty = hypervisor_translation(v.window + pv::ldt_offset - page_size);
            if (in_gdt ? mapped.v != empty.v || empty.writable() : mapped.present())
                fail("window page %lx still maps %lx", offset, mapped.mfn().raw());
            return;
        }
        hold(frame, PageType::descriptors);
        if (mapped.mfn() != frame)
            fail("window page %lx maps %lx, not %lx", offset, mapped.mfn().raw(), frame.raw());
    }

    /// Shared frames of the dead are nobody's but those who have them mapped.
    static bool is_left_behind(Mfn mfn) {
        Page const& page = page_at(mfn);
        Domain const* const owner =
            page.state == PageState::guest && page.unlisted ? find_domain(page.owner) : nullptr;
        return owner && owner->dying.load();
    }
    void check_frame(Mfn mfn, bool shared) {
        Page const& page = page_at(mfn);
        Expected& e = expected_[mfn.raw()];
        TypeWord const word = page.type_word();
        uint32_t const references = page.references.load();
        if (shared) // with Hearth, which holds it as data for good
            hold(mfn, PageType::writable);
        else if ((references & Page::owners_reference) != 0)
            ++e.references;
        uint32_t const counted = references & Page::count_mask;
        if (exact_ ? counted != e.references : counted < e.references)
            fail("frame %lx has %u references, should be %u", mfn.raw(),
                 references & Page::count_mask, e.references);
        unsigned kinds = 0;
        for (unsigned t = 1; t < 7; ++t) {
            kinds += e.types[t] != 0;
            if (e.types[t] != 0 &&
                (static_cast<unsigned>(word.type()) != t ||
                 (exact_ ? word.count() != e.types[t] : word.count() < e.types[t])))
                fail("frame %lx: type %u count %u, should be type %u count %u", mfn.raw(),
                     static_cast<unsigned>(word.type()), word.count(), t, e.types[t]);
        }
        if (kinds > 1)
            fail("frame %lx is two things at once", mfn.raw());
        if (exact_ && kinds == 0 && word.count() != 0)
            fail("frame %lx: type %u count %u, should be none", mfn.raw(),
                 static_cast<unsigned>(word.type()), word.count());
        if (word.has(TypeWord::busy))
            fail("frame %lx is still busy", mfn.raw());
        if (word.count() == 0 && word.has(TypeWord::pinned))
            fail("frame %lx is pinned as nothing", mfn.raw());
    }

public:
    /// `exact`: nothing but page tables, descriptor tables, roots and pins refers to the guest's
    /// frames. Otherwise there may be more references than those, but never fewer.
    explicit FrameAccounting(bool exact = true) : exact_{exact} {}

    /// Empty if all is well, else what is wrong first.
    std::string check(Guest const& guest, HeldElsewhere const& elsewhere = {}) {
        return check(std::vector<Guest const*>{&guest}, elsewhere);
    }
    /// Of guests that may map each other's frames, and nobody else theirs.
    std::string check(std::vector<Guest const*> const& guests,
                      HeldElsewhere const& elsewhere = {}) {
        std::vector<Domain*> domains;
        for (Guest const* const guest : guests)
            domains.push_back(&guest->domain);
        return check(domains, elsewhere);
    }
    std::string check(std::vector<Domain*> const& domains, HeldElsewhere const& elsewhere) {
        expected_.clear();
        problem_.clear();
        std::vector<Mfn> all;
        for (Domain* const domain : domains) {
            std::vector<Mfn> const frames = owned_frames(*domain);
            count_guest(*domain, frames);
            all.insert(all.end(), frames.begin(), frames.end());
        }
        for (auto const& [frame, count] : elsewhere.writable)
            for (unsigned i = 0; i < count; ++i)
                hold(Mfn{frame}, PageType::writable);
        for (auto const& [frame, count] : elsewhere.read_only)
            for (unsigned i = 0; i < count; ++i)
                hold(Mfn{frame}, PageType::none);
        all.insert(all.end(), elsewhere.shared.begin(), elsewhere.shared.end());
        for (Mfn const mfn : all)
            check_frame(mfn, page_at(mfn).unlisted);
        std::set<Mfn> const ours{all.begin(), all.end()};
        for (auto const& [frame, e] : expected_)
            if (e.references != 0 && !ours.contains(Mfn{frame}) &&
                page_at(Mfn{frame}).owner != domid_xen) {
                if (is_left_behind(Mfn{frame}))
                    check_frame(Mfn{frame}, false);
                else
                    fail("frame %lx is referred to but nobody's", frame);
            }
        return problem_;
    }
};

/// What each CPU may still hold in its TLB and paging-structure caches: everything that it could
/// have walked since it last loaded CR3, under the tag that is loaded. None of that may be in use
/// as something else. What other tags have kept counts once they are loaded again.
class TlbModel {
    struct Cached {
        uint64_t loads = 0;
        std::set<Mfn> tables[5];
        std::set<Mfn> writable;
        std::set<Mfn> reachable;
    };
    static constexpr unsigned tags = 8;
    Cached cached_[machine_cpus][tags];

    static void collect(Cached& c, Mfn table, unsigned level) {
        if (!is_ram(table) || !c.tables[level].insert(table).second ||
            page_at(table).state == PageState::free)
            return;
        for (unsigned i = 0; i < entries_per_table; ++i) {
            Pte const entry = direct<Pte>(table)[i];
            bool const reserved = level == 4 && i >= layout::first_slot &&
                                  i < layout::first_slot + layout::slot_count;
            if (!entry.present() || reserved)
                continue;
            if (level > 1)
                collect(c, entry.mfn(), level - 1);
            else if (is_ram(entry.mfn()))
                (entry.writable() ? c.writable : c.reachable).insert(entry.mfn());
        }
    }

    static bool drops_before_use(unsigned cpu) {
        return cpu_block(cpu).space.use.load() == SpaceUse::nobody_and_stale;
    }
    [[nodiscard]] bool is_shadow(Mfn mfn) const {
        return shadows && page_at(mfn).state == PageState::hypervisor;
    }

public:
    /// Tables may also be Hearth's own, in place of a guest's.
    bool shadows = false;
    /// The frames to which a CPU may still have a translation.
    [[nodiscard]] std::set<Mfn> reachable(unsigned cpu) const {
        if (drops_before_use(cpu))
            return {};
        Cached const& c = cached_[cpu][host::cpu_state(cpu).tag];
        std::set<Mfn> all = c.reachable;
        all.insert(c.writable.begin(), c.writable.end());
        return all;
    }
    std::string check(Domain const& domain) {
        return check([&](DomainId owner) { return owner == domain.id; });
    }
    /// Where the tables may be several domains'.
    std::string check(std::function<bool(DomainId)> const& is_ours) {
        char line[160];
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
            host::CpuState const& state = host::cpu_state(cpu);
            Cached& c = cached_[cpu][state.tag];
            if (state.tag_loads[state.tag] != c.loads)
                c = {state.tag_loads[state.tag], {}, {}, {}};
            // Tables are walked afresh each time: the sets only grow until the next load.
            Cached now;
            collect(now, frame_of(PhysicalAddress{state.cr3}), 4);
            for (unsigned level = 1; level <= 4; ++level)
                c.tables[level].merge(now.tables[level]);
            c.writable.merge(now.writable);
            c.reachable.merge(now.reachable);
            for (unsigned level = 1; level <= 4; ++level)
                for (Mfn const mfn : c.tables[level]) {
                    TypeWord const word = page_at(mfn).type_word();
                    bool const stays =
                        page_at(mfn).state == PageState::guest && is_ours(page_at(mfn).owner);
                    if (!stays && page_at(mfn).state == PageState::free)
                        continue; // flushed before anyone else gets it
                    if (is_shadow(mfn))
                        continue;
                    if (!stays || (word.count() && word.type() != pv::table_type(level))) {
                        snprintf(line, sizeof line,
                                 "CPU %u may use frame %lx as L%u table, which is type %u now", cpu,
                                 mfn.raw(), level, static_cast<unsigned>(word.type()));
                        return line;
                    }
                }
            // Data is dropped before somebody runs there who could write to it.
            for (Mfn const mfn : drops_before_use(cpu) ? std::set<Mfn>{} : c.writable) {
                TypeWord const word = page_at(mfn).type_word();
                bool const free = page_at(mfn).state == PageState::free;
                if (!free && word.count() && word.type() != PageType::writable) {
                    snprintf(line, sizeof line,
                             "CPU %u may write to frame %lx, which is type %u now", cpu, mfn.raw(),
                             static_cast<unsigned>(word.type()));
                    return line;
                }
            }
            Mfn const root = frame_of(PhysicalAddress{state.cr3});
            if (is_ram(root) && !is_shadow(root) &&
                !(page_at(root).type_word().count() &&
                  page_at(root).type_word().type() == PageType::l4)) {
                snprintf(line, sizeof line, "CPU %u has frame %lx in CR3, which is no L4 now", cpu,
                         root.raw());
                return line;
            }
        }
        return {};
    }
};

} // namespace hearth::test
