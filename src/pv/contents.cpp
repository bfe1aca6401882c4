#include "pv/contents.h"

#include "arch/intrinsics.h"
#include "domain/dirty_log.h"
#include "memory/direct_map.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "pv/page_type.h"
#include "pv/shadow.h"

namespace hearth::pv {
namespace {

/// Bits that a guest may set in a present entry of any level. What else there is must be zero, as
/// on Xen.
constexpr uint64_t common_bits = pte::present | pte::writable | pte::user | pte::accessed |
                                 pte::dirty | 0xe00 | pte::frame_bits | pte::no_execute;
constexpr uint64_t cache_bits = pte::write_through | pte::cache_disable | pte::pat;
constexpr uint64_t status_bits = pte::accessed | pte::dirty;

/// How memory is cached is the hardware domain's to say, and of devices that of whoever may map
/// them.
uint64_t allowed_bits(Domain const& domain, Pte entry, unsigned level) {
    if (level != 1)
        return common_bits;
    bool const caching =
        domain.hardware ||
        (domain.may_map_devices.load(std::memory_order_relaxed) && !is_ram(entry.mfn()));
    return common_bits | pte::global | (caching ? cache_bits : 0);
}
uint64_t stored_bits(Pte entry) {
    return entry.present() ? (entry.v | pte::user) & ~pte::global : entry.v;
}

Result<Pte> take_l1_entry(Domain& domain, Pte entry, DomainId frames_of) {
    if (entry.v & ~allowed_bits(domain, entry, 1))
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
    PageRef page = TRY(PageRef::get(mfn, frames_of));
    if (!own)
        page_at(mfn).mapped_by_others.store(true, std::memory_order_release);
    if (entry.writable())
        TRY(get_type(domain, mfn, PageType::writable));
    (void)page.release();
    return stored;
}

Result<> take_table(Domain& domain, Mfn mfn, unsigned level) {
    Pte* const table = direct<Pte>(mfn);
    for (unsigned i = 0; i < entries_per_table; ++i) {
        if (level == 4 && is_reserved_slot(i))
            continue;
        Pte const entry{__atomic_load_n(&table[i].v, __ATOMIC_RELAXED)};
        if (!entry.present())
            continue;
        auto taken = take_entry(domain, entry, level, domain.id);
        if (!taken) {
            while (i-- > 0)
                if (!(level == 4 && is_reserved_slot(i)))
                    release_entry(domain, table[i], level);
            return taken.error();
        }
        // Only the processor's accessed and dirty bits can change under us: nobody can write a busy
        // frame.
        if (taken->v != entry.v)
            __atomic_store_n(&table[i].v, taken->v, __ATOMIC_RELAXED);
        if (level > 1 || i % 64 == 63)
            preempt_point();
    }
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
    if (!before.present() || !now.present())
        return !before.present() && !now.present();
    if (before.mfn() != now.mfn())
        return false;
    return level > 1 || before.writable() || !now.writable();
}
/// Drops what `now` does not need of the references of `before`.
void release_rest(Domain& domain, Pte before, Pte now, unsigned level) {
    if (level == 1 && before.present() && before.writable() && !now.writable() &&
        is_ram(before.mfn()))
        put_type(domain, before.mfn());
}

bool bits_allowed(Domain const& domain, Pte entry, unsigned level) {
    return !entry.present() || !(entry.v & ~allowed_bits(domain, entry, level));
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
        return Errno::perm;
    return {};
}

} // namespace

Result<Pte> take_entry(Domain& domain, Pte entry, unsigned level, DomainId frames_of) {
    if (!entry.present())
        return entry;
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
    for (unsigned i = 0; i < entries_per_table; ++i) {
        if (level == 4 && is_reserved_slot(i)) {
            table[i] = {};
            continue;
        }
        release_entry(domain, {__atomic_load_n(&table[i].v, __ATOMIC_RELAXED)}, level);
        if (level > 1 ||
            i % 16 == 15) // each may have been a frame's last use, which is scrubbed then
            preempt_point();
    }
}

Result<> update_entry(Domain& domain, Pte* slot, unsigned level, Pte value, EntryUpdate how,
                      DomainId frames_of) {
    TRY(check_slot(slot, level));
    Pte old{__atomic_load_n(&slot->v, __ATOMIC_RELAXED)};
    bool const keep = how == EntryUpdate::preserve_accessed_dirty;
    auto const wanted = [&](Pte stored) {
        return keep && stored.present() ? stored.v | (old.v & status_bits) : stored.v;
    };
    // The common case: other bits of the same mapping.
    while (needs_no_more(old, value, level) && bits_allowed(domain, value, level))
        if (__atomic_compare_exchange_n(&slot->v, &old.v, wanted(Pte{stored_bits(value)}), true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            note_entry_changed(domain, slot);
            release_rest(domain, old, value, level);
            return {};
        }
    Pte const stored = TRY(take_entry(domain, value, level, frames_of));
    while (!__atomic_compare_exchange_n(&slot->v, &old.v, wanted(stored), true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
        ;
    note_entry_changed(domain, slot);
    release_entry(domain, old, level);
    return {};
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
    note_entry_changed(domain, slot);
    if (keeps)
        release_rest(domain, before, stored, level);
    else
        release_entry(domain, before, level);
    return true;
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
