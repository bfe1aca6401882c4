#include "pv/contents.h"

#include "arch/intrinsics.h"
#include "base/atomic.h"
#include "domain/dirty_log.h"
#include "memory/direct_map.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "pv/page_type.h"
#include "pv/shadow.h"

#include <algorithm>
#include <bit>

namespace hearth::pv {
namespace {

/// Bits that a guest may set in a present entry of any level. What else there is must be zero, as
/// on Xen.
constexpr uint64_t common_bits = pte::present | pte::writable | pte::user | pte::accessed |
                                 pte::dirty | pte::available | pte::frame_bits | pte::no_execute;
constexpr uint64_t cache_bits = pte::write_through | pte::cache_disable | pte::pat;
constexpr uint64_t status_bits = pte::accessed | pte::dirty;

/// How memory is cached is the hardware domain's to say, and of devices that of whoever may map
/// them.
[[gnu::noinline]] bool may_say_caching(Domain const& domain, Pte entry) {
    return domain.hardware ||
           (domain.may_map_devices.load(std::memory_order_relaxed) && !is_ram(entry.mfn()));
}
/// Whether a present entry has no bits but what the guest may set.
[[gnu::always_inline]] inline bool has_allowed_bits(Domain const& domain, Pte entry,
                                                    unsigned level) {
    uint64_t const others = entry.v & ~(common_bits | (level == 1 ? pte::global : 0));
    if (others == 0) [[likely]]
        return true;
    return level == 1 && !(others & ~cache_bits) && may_say_caching(domain, entry);
}
constinit uint64_t end_of_memory = 0; // as the firmware tells; frames

/// What a processor with L1TF takes for the address of memory: a load by way of the entry gives
/// what the first-level cache has there, present or not. It compares up to 44 bits or more, and
/// takes an entry for a large page by its bit, at whatever address. Frame 0 is nobody's. (Intel,
/// "L1 Terminal Fault")
bool names_memory(Pte absent, unsigned level) {
    if (level > 1 && absent.large())
        return true;
    constexpr uint64_t compared = (uint64_t{1} << 44) - 1;
    uint64_t const frame = (absent.v & pte::frame_bits & compared) >> page_shift;
    return frame != 0 && frame < std::max(frame_limit().raw(), end_of_memory);
}
[[gnu::always_inline]] inline bool absent_allowed(Domain const& domain, Pte entry, unsigned level) {
    return entry.v == 0 || !domain.absent_entries_matter || !names_memory(entry, level);
}
/// Nobody who knows of L1TF writes such an entry, and who does not cannot be told.
[[gnu::noinline]] Result<Pte> refuse_absent(Domain& domain) {
    crash_domain(domain, "an absent entry of its page tables names memory, which this processor may"
                         " read all the same (L1TF)");
    return Errno::inval;
}
uint64_t stored_bits(Pte entry) {
    return entry.present() ? (entry.v | pte::user) & ~pte::global : entry.v;
}

/// busy: a frame of another's, or in use as what it cannot be here.
Result<Pte> take_l1_entry(Domain& domain, Pte entry, DomainId frames_of) {
    if (!has_allowed_bits(domain, entry, 1))
        return Errno::inval;
    Pte const stored{stored_bits(entry)};
    Mfn const mfn = entry.mfn();
    bool const own = frames_of == domain.id;
    if (!is_ram(mfn)) {
        if (!own && frames_of != domid_io)
            return Errno::inval;
        if (!may_map_device(domain, mfn))
            return Errno::perm;
        return stored;
    }
    auto page = PageRef::get(mfn, frames_of);
    if (!page)
        return Errno::busy;
    if (!own)
        raise_to(page_at(mfn).seen_by_others, SeenByOthers::for_reading);
    if (entry.writable()) {
        if (!get_type(domain, mfn, PageType::writable))
            return Errno::busy;
        if (!own) // not before: who makes a table of it may just be forgetting that it was so
            raise_to(page_at(mfn).seen_by_others, SeenByOthers::for_writing);
    }
    (void)page->release();
    return stored;
}

// Most of a table is empty, so which parts of it are not is kept beside it.
constexpr unsigned parts_per_table = 16, entries_per_part = entries_per_table / parts_per_table;
constexpr uint16_t all_parts = 0xffff;

[[gnu::cold, gnu::noinline]] void note_filled(Page& page, unsigned part) {
    __atomic_fetch_or(&page.filled_parts, static_cast<uint16_t>(1u << part), __ATOMIC_RELAXED);
}
/// Of an entry that was absent, in a table that is held.
[[gnu::always_inline]] inline void note_present(Pte const* slot) {
    auto const address = physical_of(slot);
    auto const part =
        static_cast<unsigned>(address.raw() % page_size / sizeof(Pte)) / entries_per_part;
    Page& page = page_at(frame_of(address));
    if (!(__atomic_load_n(&page.filled_parts, __ATOMIC_RELAXED) >> part & 1)) [[unlikely]]
        note_filled(page, part);
}

/// Whether any of some entries is present, of a table that nobody writes to but the processor its
/// accessed and dirty bits.
template <unsigned count>
bool any_present(Pte const* entries) {
    uint64_t any = 0;
#pragma clang loop unroll(full)
    for (unsigned i = 0; i < count; ++i)
        any |= entries[i].v;
    return any & pte::present;
}
/// Which ones are, of a part. Most parts are empty, and most of those that are not.
[[gnu::noinline]] uint32_t find_present(Pte const* part) {
    constexpr unsigned at_once = 8;
    uint32_t found = 0;
    for (unsigned first = 0; first < entries_per_part; first += at_once)
        if (any_present<at_once>(part + first))
            for (unsigned i = first; i < first + at_once; ++i)
                found |= static_cast<uint32_t>(part[i].v & pte::present) << i;
    return found;
}
/// Calls a function with the index of each entry that is present in some parts of a busy table,
/// until it returns an error. It may reschedule.
template <class Function>
Result<> for_each_present(Pte const* table, uint32_t parts, Function&& function) {
    for (; parts != 0; parts &= parts - 1) {
        unsigned const first = static_cast<unsigned>(std::countr_zero(parts)) * entries_per_part;
        if (!any_present<entries_per_part>(table + first))
            continue;
        uint32_t found = find_present(table + first);
        for (; found != 0; found &= found - 1)
            TRY(function(first + static_cast<unsigned>(std::countr_zero(found))));
    }
    return {};
}

/// An entry that is released may have been a frame's last use, and that is scrubbed then.
constexpr unsigned scrubbed_at_once = 16;
/// Entries of level 1 have a preemption point after so many, others, with tables below them, each.
void between_entries(unsigned level, unsigned done, unsigned at_once) {
    if (level > 1 || done % at_once == 0)
        preempt_point();
}

Result<> check_absent(Domain& domain, Pte const* table, unsigned level) {
    for (unsigned i = 0; i < entries_per_table; ++i) {
        Pte const entry{__atomic_load_n(&table[i].v, __ATOMIC_RELAXED)};
        if (!entry.present() && !absent_allowed(domain, entry, level) &&
            !(level == 4 && is_reserved_slot(i)))
            TRY(refuse_absent(domain));
    }
    return {};
}

Result<> take_table(Domain& domain, Mfn mfn, unsigned level) {
    Pte* const table = direct<Pte>(mfn);
    if (domain.absent_entries_matter)
        TRY(check_absent(domain, table, level));
    uint32_t filled = 0;
    unsigned done = 0, reached = 0;
    auto const taken = for_each_present(table, all_parts, [&](unsigned i) -> Result<> {
        reached = i;
        if (level == 4 && is_reserved_slot(i))
            return {};
        Pte const entry{__atomic_load_n(&table[i].v, __ATOMIC_RELAXED)};
        Pte const stored = TRY(take_entry(domain, entry, level, domain.id));
        // Only the processor's accessed and dirty bits can change under us: nobody can write a busy
        // frame.
        if (stored.v != entry.v)
            __atomic_store_n(&table[i].v, stored.v, __ATOMIC_RELAXED);
        filled |= 1u << i / entries_per_part;
        between_entries(level, ++done, 64);
        return {};
    });
    if (!taken) {
        while (reached-- > 0)
            if (!(level == 4 && is_reserved_slot(reached))) {
                release_entry(domain, table[reached], level);
                between_entries(level, reached, scrubbed_at_once);
            }
        return taken;
    }
    __atomic_store_n(&page_at(mfn).filled_parts, static_cast<uint16_t>(filled), __ATOMIC_RELAXED);
    if (level == 4)
        for (unsigned i = 0; i < layout::slot_count; ++i)
            table[layout::first_slot + i] = hypervisor_slots()[i];
    note_written(domain, mfn);
    return {};
}

Result<> take_descriptors(Mfn mfn) {
    auto* const descriptors = direct<uint64_t>(mfn);
    for (unsigned i = 0; i < page_size / 8; ++i) {
        uint64_t const checked = TRY(check_descriptor(descriptors[i]));
        if (checked != descriptors[i])
            descriptors[i] = checked;
    }
    return {};
}

/// True if `now` needs no references but those of `before`: same frame, same rights or fewer.
bool needs_no_more(Pte before, Pte now, unsigned level) {
    uint64_t const differs = (before.v ^ now.v) & (pte::frame_bits | pte::present);
    uint64_t const gained = level == 1 ? now.v & ~before.v & pte::writable : 0;
    return (differs | gained) == 0 || (!before.present() && !now.present());
}
/// Drops what `now` does not need of the references of `before`.
void release_rest(Domain& domain, Pte before, Pte now, unsigned level) {
    if (level == 1 && before.present() && before.writable() && !now.writable() &&
        is_ram(before.mfn()))
        put_type(domain, before.mfn());
}

bool bits_allowed(Domain const& domain, Pte entry, unsigned level) {
    return entry.present() ? has_allowed_bits(domain, entry, level)
                           : absent_allowed(domain, entry, level);
}

/// Replaces an L1 entry that maps the frame with just these rights; `by` brings its references.
Result<> replace_mapping(Domain& domain, Pte* slot, Mfn mfn, bool writable, Pte by) {
    Pte old{__atomic_load_n(&slot->v, __ATOMIC_ACQUIRE)};
    do {
        if (!old.present() || old.mfn() != mfn || old.writable() != writable)
            return Errno::inval;
    } while (!__atomic_compare_exchange_n(&slot->v, &old.v, by.v, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    note_entry_changed(domain, slot);
    release_entry(domain, old, 1);
    return {};
}

Result<> check_slot(Pte const* slot, unsigned level) {
    unsigned const index = static_cast<unsigned>(physical_of(slot).raw() % page_size / sizeof(Pte));
    if (level == 4 && is_reserved_slot(index))
        return Errno::inval;
    return {};
}

} // namespace

void note_end_of_memory(PhysicalAddress end) {
    // Beyond that a processor might compare fewer bits than an entry needs to say so.
    constexpr uint64_t most = uint64_t{1} << 43;
    end_of_memory = std::min(end.raw(), most) >> page_shift;
}

Result<Pte> take_entry(Domain& domain, Pte entry, unsigned level, DomainId frames_of) {
    if (!entry.present())
        return absent_allowed(domain, entry, level) ? Result<Pte>{entry} : refuse_absent(domain);
    if (level == 1)
        return take_l1_entry(domain, entry, frames_of);
    if (entry.v & ~common_bits || frames_of != domain.id)
        return Errno::inval;
    TRY(get_page_and_type(domain, entry.mfn(), table_type(level - 1)));
    return Pte{entry.v | pte::user};
}

void release_entry(Domain& domain, Pte entry, unsigned level) {
    if (!entry.present())
        return;
    if (level > 1)
        return put_page_and_type(domain, entry.mfn());
    if (!is_ram(entry.mfn()))
        return;
    if (entry.writable())
        put_type(domain, entry.mfn());
    PageRef::adopt(entry.mfn()).reset();
}

Result<> take_contents(Domain& domain, Mfn mfn, PageType type) {
    switch (type) {
    case PageType::none:
    case PageType::writable:
        return {};
    case PageType::descriptors:
        return take_descriptors(mfn);
    default:
        return take_table(domain, mfn, level_of(type));
    }
}

void release_contents(Domain& domain, Mfn mfn, PageType type) {
    if (!is_page_table(type))
        return;
    unsigned const level = level_of(type);
    note_table_gone(domain, mfn);
    if (level == 4)
        evict_address_space(address_of(mfn).raw());
    Pte* const table = direct<Pte>(mfn);
    if (level == 4)
        for (unsigned i = 0; i < layout::slot_count; ++i)
            table[layout::first_slot + i] = {};
    unsigned done = 0;
    uint16_t const filled = __atomic_load_n(&page_at(mfn).filled_parts, __ATOMIC_RELAXED);
    (void)for_each_present(table, filled, [&](unsigned i) -> Result<> {
        release_entry(domain, {__atomic_load_n(&table[i].v, __ATOMIC_RELAXED)}, level);
        between_entries(level, ++done, scrubbed_at_once);
        return {};
    });
}

namespace {
/// What becomes of a checked value in a slot that says `old`.
Pte merged(Pte old, Pte value, EntryUpdate how) {
    bool const keep = how == EntryUpdate::preserve_accessed_dirty && value.present();
    return {keep ? value.v | (old.v & status_bits) : value.v};
}

/// After an entry got fewer rights, or bits of no consequence.
[[gnu::noinline]] Result<> settle_change(Domain& domain, Pte const* slot, Pte before, Pte now,
                                         unsigned level) {
    note_entry_changed(domain, slot);
    release_rest(domain, before, now, level);
    return {};
}

[[gnu::always_inline]] inline Result<> replace_entry(Domain& domain, Pte* slot, unsigned level,
                                                     Pte value, EntryUpdate how,
                                                     DomainId frames_of) {
    Pte const stored = TRY(take_entry(domain, value, level, frames_of));
    Pte old{__atomic_load_n(&slot->v, __ATOMIC_RELAXED)};
    while (!__atomic_compare_exchange_n(&slot->v, &old.v, merged(old, stored, how).v, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
    note_entry_changed(domain, slot);
    if (old.present())
        release_entry(domain, old, level);
    else if (stored.present())
        note_present(slot);
    return {};
}
[[gnu::noinline]] Result<> replace_leaf(Domain& domain, Pte* slot, Pte value, EntryUpdate how,
                                        DomainId frames_of) {
    return replace_entry(domain, slot, 1, value, how, frames_of);
}
} // namespace

namespace {
/// However often the processor sets bits of the entry meanwhile.
[[gnu::noinline]] Result<> change_or_replace(Domain& domain, Pte* slot, unsigned level, Pte value,
                                             EntryUpdate how, DomainId frames_of) {
    Pte old{__atomic_load_n(&slot->v, __ATOMIC_RELAXED)};
    while (needs_no_more(old, value, level) && bits_allowed(domain, value, level))
        if (__atomic_compare_exchange_n(&slot->v, &old.v, merged(old, {stored_bits(value)}, how).v,
                                        false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return settle_change(domain, slot, old, value, level);
    return replace_entry(domain, slot, level, value, how, frames_of);
}
} // namespace

Result<> update_leaf(Domain& domain, Pte* slot, Pte value, EntryUpdate how, DomainId frames_of) {
    Pte old{__atomic_load_n(&slot->v, __ATOMIC_RELAXED)};
    if (!needs_no_more(old, value, 1) || !bits_allowed(domain, value, 1))
        return replace_leaf(domain, slot, value, how, frames_of);
    // The common case: other bits of the same mapping.
    if (!__atomic_compare_exchange_n(&slot->v, &old.v, merged(old, {stored_bits(value)}, how).v,
                                     false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) [[unlikely]]
        return change_or_replace(domain, slot, 1, value, how, frames_of);
    bool const lost_right = old.v & ~value.v & pte::writable;
    if (lost_right || domain.shadow.load(std::memory_order_acquire)) [[unlikely]]
        return settle_change(domain, slot, old, value, 1);
    return {};
}

Result<> update_entry(Domain& domain, Pte* slot, unsigned level, Pte value, EntryUpdate how,
                      DomainId frames_of) {
    if (level == 1)
        return update_leaf(domain, slot, value, how, frames_of);
    TRY(check_slot(slot, level));
    return change_or_replace(domain, slot, level, value, how, frames_of);
}

Result<bool> compare_exchange_entry(Domain& domain, Pte* slot, unsigned level, Pte& expected,
                                    Pte value) {
    TRY(check_slot(slot, level));
    // The slot holds the references of `expected` whenever the exchange succeeds.
    bool const keeps = needs_no_more(expected, value, level) && bits_allowed(domain, value, level);
    Pte const stored =
        keeps ? Pte{stored_bits(value)} : TRY(take_entry(domain, value, level, domain.id));
    Pte const before = expected;
    if (!__atomic_compare_exchange_n(&slot->v, &expected.v, stored.v, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        if (!keeps)
            release_entry(domain, stored, level);
        return false;
    }
    if (stored.present() && !before.present())
        note_present(slot);
    note_entry_changed(domain, slot);
    if (keeps)
        release_rest(domain, before, stored, level);
    else
        release_entry(domain, before, level);
    return true;
}

Result<Pte> exchange_entry(Domain& domain, Pte* slot, unsigned level, Pte value) {
    Pte former{__atomic_load_n(&slot->v, __ATOMIC_ACQUIRE)};
    while (!TRY(compare_exchange_entry(domain, slot, level, former, value)))
        ;
    return former;
}

Result<> clear_mapping(Domain& domain, Pte* slot, Mfn mfn, bool writable) {
    return replace_mapping(domain, slot, mfn, writable, {});
}

Result<> move_mapping(Domain& domain, Pte* from, Pte* to, Mfn mfn, bool writable) {
    Pte const moved{__atomic_exchange_n(&from->v, 0, __ATOMIC_ACQ_REL)};
    note_entry_changed(domain, from);
    auto const done = replace_mapping(domain, to, mfn, writable, moved);
    Pte empty{};
    if (!done && !__atomic_compare_exchange_n(&from->v, &empty.v, moved.v, false, __ATOMIC_ACQ_REL,
                                              __ATOMIC_RELAXED))
        release_entry(domain, moved, 1); // another CPU of the domain's has put something else there
    return done;
}

Result<uint64_t> check_descriptor(uint64_t d) {
    constexpr uint64_t present = bit(47), code_or_data = bit(44), privilege = uint64_t{3} << 45;
    if (!(d & present))
        return d;
    // Gates, LDTs and TSSs would lead the processor where Hearth does not look. (Intel SDM vol.
    // 3A, 3.4.5)
    if (!(d & code_or_data))
        return Errno::inval;
    return d | privilege;
}

} // namespace hearth::pv
