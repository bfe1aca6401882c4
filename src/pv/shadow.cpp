#include "pv/shadow.h"

#include "cpu/cpu.h"
#include "domain/dirty_log.h"
#include "domain/guest_mode.h"
#include "event/event.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "pv/contents.h"

#include <algorithm>
#include <bit>
#include <span>

namespace hearth::pv {
namespace {

Pte load_entry(Mfn table, unsigned index) {
    return {__atomic_load_n(&direct<uint64_t>(table)[index], __ATOMIC_ACQUIRE)};
}
void store_entry(Mfn table, unsigned index, Pte entry) {
    __atomic_store_n(&direct<uint64_t>(table)[index], entry.v, __ATOMIC_RELEASE);
}

/// Takes the hypervisor's part over, and leaves the guest's empty.
void clear_root(Mfn table) {
    for (unsigned i = 0; i < entries_per_table; ++i)
        store_entry(table, i,
                    is_reserved_slot(i) ? hypervisor_slots()[i - layout::first_slot] : Pte{});
}

} // namespace

/// The guest's entries on the way to an address. Index: level.
struct Shadow::Walk {
    uint64_t address;
    Mfn tables[5];
    Pte entries[5];
    bool writable = true, executable = true;

    [[nodiscard]] unsigned index(unsigned level) const { return table_index(address, level); }
    [[nodiscard]] Pte leaf() const { return entries[1]; }

    /// False: nothing is mapped there.
    bool go(Mfn root) {
        tables[4] = root;
        for (unsigned level = 4; level >= 1; --level) {
            entries[level] = load_entry(tables[level], index(level));
            if (!entries[level].present())
                return false;
            writable = writable && entries[level].writable();
            executable = executable && !(entries[level].v & pte::no_execute);
            if (level > 1)
                tables[level - 1] = entries[level].mfn();
        }
        return true;
    }
};

Result<Shadow*> Shadow::create(Domain& domain) {
    // Some for what cannot be done without, then as many as a guest with that much memory needs.
    uint64_t const memory = domain.pages.with([](PageList& list) { return list.maximum; });
    unsigned const least = 4 * max_cpus;
    auto const capacity =
        static_cast<uint32_t>(std::bit_ceil(least + std::min<uint64_t>(memory / 32, 1u << 18)));
    Shadow* const shadow = TRY(make<Shadow>(domain, capacity));
    auto const prepared = [&]() -> Result<> {
        TRY(shadow->buckets_.limit(capacity));
        TRY(shadow->buckets_.grow_to_limit());
        TRY(shadow->tables_.limit(capacity));
        // Each CPU may hold a root, and one walk takes three tables more.
        for (unsigned i = 0; i < max_cpus + 3; ++i) {
            if (!shadow->grow())
                return Errno::nomem;
            preempt_point();
        }
        return {};
    }();
    if (prepared)
        return shadow;
    destroy(shadow);
    return prepared.error();
}

Shadow::~Shadow() {
    // No CPU may look, ahead of what it executes, through tables that are somebody else's already.
    for (uint32_t i = 0; i < used_; ++i) {
        Table const& table = tables_[i];
        if (table.guest != invalid_mfn && table.level == 4)
            evict_address_space(address_of(table.frame).raw());
        preempt_point();
    }
    for (uint32_t i = 0; i < used_; ++i) {
        Table const& table = tables_[i];
        mark_stale(page_at(table.frame), domain_.dirty());
        free_frames(table.frame, 0);
        preempt_point();
    }
    tables_.clear();
    buckets_.clear();
}

Shadow::Table* Shadow::find(Mfn guest) {
    for (uint32_t i = bucket_of(guest); i != none; i = tables_[i].next)
        if (tables_[i].guest == guest && stands(tables_[i]))
            return &tables_[i];
    return nullptr;
}

/// Null: it is none of these.
Shadow::Table* Shadow::table_of(Mfn frame) {
    Page const* const page = find_page(frame);
    uint32_t const number = page ? page->next : none;
    return number < used_ && tables_[number].frame == frame ? &tables_[number] : nullptr;
}

/// One more table with a frame of its own, which knows its number.
bool Shadow::grow() {
    if (used_ == capacity_ || (used_ == tables_.size() && !tables_.grow()))
        return false;
    auto const frame = allocate_frames(0);
    if (!frame)
        return false;
    page_at(*frame).next = used_;
    tables_[used_].number = used_;
    tables_[used_++].frame = *frame;
    return true;
}

void Shadow::unlink(Table& table) {
    uint32_t* link = &bucket_of(table.guest);
    while (*link != table.number)
        link = &tables_[*link].next;
    *link = table.next;
    table.guest = invalid_mfn;
}

/// A free table, in no bucket. Null: there is no more.
Shadow::Table* Shadow::take() {
    if (free_ != none) {
        Table& table = tables_[free_];
        free_ = table.next;
        return &table;
    }
    while (untouched_ < used_ || grow()) {
        Table& table = tables_[untouched_++];
        if (stands(table))
            continue;
        if (table.guest != invalid_mfn) {
            unlink(table);
            table.stale_since = forgotten_since_;
        }
        return &table;
    }
    return nullptr;
}

/// Null: there is no more.
Shadow::Table* Shadow::find_or_take(Mfn guest, uint8_t level) {
    if (Table* const found = find(guest))
        return found;
    Table* const table = take();
    if (!table)
        return nullptr;
    // It may have been another table's, and still be in use as such.
    flush_stale_translations(table->stale_since, domain_.dirty(), IdleCpus::now);
    table->guest = guest;
    table->level = level;
    table->generation = generation_;
    table->next = std::exchange(bucket_of(guest), table->number);
    if (level == 4)
        clear_root(table->frame);
    else
        zero_page(table->frame);
    return table;
}

void Shadow::release(Table& table) {
    unlink(table);
    table.stale_since = stale_from_now();
    if (table.number < untouched_)
        table.next = std::exchange(free_, table.number);
}

/// Back to the beginning, but for the roots that CPUs have loaded.
void Shadow::forget_all() {
    uint32_t const before = generation_++;
    free_ = none;
    untouched_ = 0;
    online_cpus().each([&](unsigned cpu) {
        Table* const root = table_of(frame_of(PhysicalAddress{address_space_loaded_on(cpu)}));
        if (!root || root->guest == invalid_mfn || root->generation != before)
            return;
        root->generation = generation_;
        clear_root(root->frame);
    });
    // After the roots: who has loaded one since cannot have seen where it led.
    forgotten_since_ = stale_from_now();
}

Shadow::Table* Shadow::root_of(Mfn guest) {
    Table* root = find_or_take(guest, 4);
    if (!root) {
        forget_all();
        root = find_or_take(guest, 4);
    }
    return root;
}

void Shadow::load(Mfn root) {
    LockGuard guard{lock_};
    load_address_space(address_of(root_of(root)->frame).raw());
}

/// Sets the bits that the processor would have set. False: the guest's tables have changed since.
bool Shadow::mark_used(Walk& walk, bool write) const {
    for (unsigned level = 4; level >= 1; --level) {
        Pte& entry = walk.entries[level];
        uint64_t const used =
            entry.v | pte::accessed | (write && level == 1 ? pte::dirty : uint64_t{0});
        if (used == entry.v)
            continue;
        uint64_t* const slot = &direct<uint64_t>(walk.tables[level])[walk.index(level)];
        if (!__atomic_compare_exchange_n(slot, &entry.v, used, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            return false;
        entry.v = used;
        note_written(domain_, walk.tables[level]);
    }
    return true;
}

/// False: there are no tables left for it.
bool Shadow::install(Walk const& walk, bool write) {
    Table const* table = find_or_take(walk.tables[4], 4);
    for (uint8_t level = 4; table && level > 1; --level) {
        Table const* const below =
            find_or_take(walk.tables[level - 1], static_cast<uint8_t>(level - 1));
        if (below)
            store_entry(table->frame, walk.index(level),
                        Pte::make(below->frame, walk.entries[level].flags()));
        table = below;
    }
    if (!table)
        return false;
    uint64_t const rights = walk.leaf().v & (write ? ~uint64_t{0} : ~pte::writable);
    store_entry(table->frame, walk.index(1), Pte{rights | pte::accessed | pte::dirty});
    return true;
}

Shadow::Fault Shadow::resolve(Mfn root, uint64_t address, bool write, bool fetch) {
    LockGuard guard{lock_};
    for (;;) {
        Walk walk{.address = address, .tables = {}, .entries = {}};
        if (!walk.go(root))
            return Fault::not_present;
        if ((write && !walk.writable) || (fetch && !walk.executable))
            return Fault::not_allowed;
        if (!mark_used(walk, write))
            continue;
        // In the log before it can be written to.
        if (write)
            note_written(domain_, walk.leaf().mfn());
        if (!install(walk, write)) {
            forget_all();
            continue;
        }
        if (DirtyLog* const log = domain_.dirty_log.load(std::memory_order_acquire))
            log->faults.fetch_add(1, std::memory_order_relaxed);
        return Fault::resolved;
    }
}

void Shadow::entry_changed(Mfn table, unsigned index) {
    LockGuard guard{lock_};
    if (Table const* const shadow = find(table))
        store_entry(shadow->frame, index, {});
}

void Shadow::table_gone(Mfn table) {
    LockGuard guard{lock_};
    Table* const shadow = find(table);
    if (!shadow)
        return;
    if (shadow->level == 4)
        evict_address_space(address_of(shadow->frame).raw());
    release(*shadow);
}

void Shadow::watch_anew() {
    for (uint32_t i = 0; i < used_; ++i) {
        {
            LockGuard guard{lock_};
            Table const& table = tables_[i];
            if (stands(table) && table.level == 1)
                for (unsigned k = 0; k < entries_per_table; ++k)
                    __atomic_and_fetch(&direct<uint64_t>(table.frame)[k], ~pte::writable,
                                       __ATOMIC_RELEASE);
        }
        preempt_point();
    }
    flush_tlb(domain_.dirty());
}

void note_entry_changed(Domain& domain, Pte const* slot) {
    Shadow* const shadow = domain.shadow.load(std::memory_order_acquire);
    if (!shadow) [[likely]]
        return;
    Mfn const table = mfn_of(slot);
    shadow->entry_changed(table,
                          static_cast<unsigned>(physical_of(slot).raw() % page_size / sizeof(Pte)));
    note_written(domain, table);
}

void note_table_gone(Domain& domain, Mfn table) {
    Shadow* const shadow = domain.shadow.load(std::memory_order_acquire);
    if (!shadow) [[likely]]
        return;
    shadow->table_gone(table);
    note_written(domain, table);
}

} // namespace hearth::pv

namespace hearth {
namespace {
/// Hearth writes to these whenever it likes.
void note_own_pages(Domain& domain) {
    for (Vcpu* const v : std::span{domain.vcpus, domain.vcpu_count})
        if (v->info_page)
            note_written(domain, v->info_page.mfn());
    note_event_pages(domain);
}
} // namespace

Result<> start_logging(Domain& domain) {
    uint64_t const frames = domain.pages.with([](PageList& list) { return list.maximum; });
    DirtyLog* const log = TRY(DirtyLog::create(frames));
    auto const shadow = pv::Shadow::create(domain);
    if (!shadow) {
        destroy(log);
        return shadow.error();
    }
    domain.dirty_log.store(log, std::memory_order_release);
    domain.shadow.store(*shadow, std::memory_order_release);
    note_own_pages(domain);
    return {};
}

void stop_logging(Domain& domain) {
    pv::Shadow* const shadow = domain.shadow.exchange(nullptr);
    DirtyLog* const log = domain.dirty_log.exchange(nullptr);
    if (!log)
        return;
    // Whoever found them before this has let go of them afterwards.
    wait_for_all_cpus();
    destroy(shadow);
    destroy(log);
}

void watch_writes_anew(Domain& domain) {
    domain.shadow.load(std::memory_order_acquire)->watch_anew();
    note_own_pages(domain);
}

} // namespace hearth
