// Shadow page tables: what the processor walks for a guest whose writes are to be noted.
//
// A shadow has the guest's mappings with fewer rights: what has not been touched is not there, and
// what has not been written to is read-only. So each first use faults, here the guest's own tables
// are looked up, get the accessed and dirty bits that the processor would have set, and the write
// goes into the log. The guest sees nothing of it.
//
// It rests on the guest's tables never changing behind Hearth's back (pv/page_type.h): whoever
// changes an entry takes the shadow's away (entry_changed) before the old entry's references go,
// and a frame that ceases to be a table loses its shadow (table_gone). So a shadow never has more
// than the guest's tables, and what was true of TLBs without shadows is so with them.
//
// A domain has one while its dirty log is on, and pays one test of a pointer while it is off.
#pragma once

#include "arch/paging_bits.h"
#include "base/lock.h"
#include "domain/domain.h"
#include "domain/frame_array.h"
#include "memory/allocator.h"

namespace hearth::pv {

class Shadow {
    static constexpr uint32_t none = ~uint32_t{0};
    /// A frame that stands for one of the guest's tables.
    struct Table {
        Mfn guest = invalid_mfn; // invalid: free
        Mfn frame = invalid_mfn;
        uint64_t stale_since = 0; // of the TLB clock, when it was freed last
        uint32_t number = none;
        uint32_t next = none; // in its bucket, or the free list
        uint8_t level = 0;
        uint32_t generation = 0; // forgotten, unless it is the present one
    };
    struct Bucket {
        uint32_t first = none;
    };
    struct Walk;

    SpinLock<Rank::address_space> lock_;
    Domain& domain_;
    FrameArray<Table> tables_;
    FrameArray<Bucket> buckets_;
    uint32_t capacity_; // a power of two
    uint32_t used_ = 0; // tables that have a frame
    // Free are those of a list, and from `untouched_` on all but roots that were loaded when
    // everything was forgotten: so forgetting takes the same time however many there are.
    uint32_t free_ = none;
    uint32_t untouched_ = 0;
    uint32_t generation_ = 0;
    uint64_t forgotten_since_ = 0; // of the TLB clock

    Shadow(Domain& domain, uint32_t capacity) : domain_{domain}, capacity_{capacity} {}
    template <class T, class... A>
    friend Result<T*> hearth::make(A&&... arguments);
    template <class T>
    friend class hearth::FrameArray;

    uint32_t& bucket_of(Mfn guest) { return buckets_[guest.raw() & (capacity_ - 1)].first; }
    [[nodiscard]] bool stands(Table const& table) const {
        return table.guest != invalid_mfn && table.generation == generation_;
    }
    Table* find(Mfn guest);
    Table* table_of(Mfn frame);
    Table* take();
    void unlink(Table& table);
    Table* find_or_take(Mfn guest, uint8_t level);
    Table* root_of(Mfn guest);
    bool grow();
    void release(Table& table);
    void forget_all();
    bool install(Walk const& walk, bool write);
    bool mark_used(Walk& walk, bool write) const;

public:
    /// May reschedule. nomem.
    static Result<Shadow*> create(Domain& domain);
    /// No vCPU of the domain's runs, and nobody else is looking at it. May reschedule.
    ~Shadow();
    Shadow(Shadow const&) = delete;
    Shadow& operator=(Shadow const&) = delete;

    /// Makes the guest's address space the processor's.
    void load(Mfn root);

    enum class Fault : uint8_t { resolved, not_present, not_allowed };
    /// A fault in the guest's address space: over and done with, or the guest's own, and then why.
    Fault resolve(Mfn root, uint64_t address, bool write, bool fetch);

    /// The guest's table has a new entry there.
    void entry_changed(Mfn table, unsigned index);
    /// The frame ceases to be a table.
    void table_gone(Mfn table);
    /// Makes every mapping read-only, so that the next write of each faults. May reschedule.
    void watch_anew();
};

/// An entry of the domain's tables has changed; before the old one's references go.
void note_entry_changed(Domain& domain, Pte const* slot);
/// The frame ceases to be a table, and what it refers to is still there.
void note_table_gone(Domain& domain, Mfn table);

} // namespace hearth::pv
