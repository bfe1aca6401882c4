// The frame table: one Page for each frame of RAM, and the references that keep a frame's owner and
// use stable.
//
// The invariant that everything in pv/ rests on: a frame is never at once writable by a guest and
// in use as a page table or descriptor table. A frame has one type at a time; the type may change
// only while nobody holds a type reference (see pv/page_type.h, which validates contents on the
// way).
#pragma once

#include "base/address.h"
#include "base/hint.h"
#include "base/result.h"

#include <atomic>
#include <utility>

namespace hearth {

using DomainId = uint16_t;
inline constexpr DomainId domid_first_reserved = 0x7ff0;
inline constexpr DomainId domid_self = 0x7ff0;
inline constexpr DomainId domid_io = 0x7ff1;
inline constexpr DomainId domid_xen = 0x7ff2;
inline constexpr DomainId domid_invalid = 0x7ff4;

/// What a frame is in use as. Order is ABI-free; names as in the manuals.
enum class PageType : uint8_t { none, writable, l1, l2, l3, l4, descriptors };

/// Who a frame belongs to. Zero, so that frames in holes of the memory map are not RAM.
enum class PageState : uint8_t { not_ram, free, hypervisor, guest };

/// The type word: type, flags, number of type references.
struct TypeWord {
    uint32_t v = 0;
    static constexpr uint32_t count_mask = (1u << 25) - 1;
    static constexpr uint32_t busy = 1u << 25;   // a vCPU validates or devalidates it; others wait
    static constexpr uint32_t valid = 1u << 26;  // contents validated as `type`
    static constexpr uint32_t pinned = 1u << 27; // one of the references is the guest's pin

    static constexpr TypeWord make(PageType t, uint32_t flags, uint32_t count) {
        return {static_cast<uint32_t>(t) << 28 | flags | count};
    }
    [[nodiscard]] constexpr PageType type() const { return static_cast<PageType>(v >> 28); }
    [[nodiscard]] constexpr uint32_t count() const { return v & count_mask; }
    [[nodiscard]] constexpr bool has(uint32_t flag) const { return (v & flag) != 0; }
    /// In use as `t`, and one reference more can be counted.
    [[nodiscard]] constexpr bool can_share(PageType t) const {
        return ((v ^ make(t, valid, 0).v) & ~(pinned | count_mask)) == 0 &&
               count() - 1 < count_mask - 1;
    }
};

/// What others than a frame's owner may have on their CPUs since it was given out: no translation
/// of it; some for reading; some for writing, by which they must not reach a table.
enum class SeenByOthers : uint8_t { never, for_reading, for_writing };

/// What a frame of small objects holds; see memory/objects.cpp.
struct SmallObjects {
    uint8_t in_use, first_free;
};

struct Page {
    std::atomic<uint32_t>
        references;             // 0: free to go; bit 31: the owner's own reference still stands
    std::atomic<uint32_t> type; // TypeWord
    std::atomic<uint64_t> flush_stamp; // TLB clock when it last lost its type, or became free
    uint32_t next, previous;           // frame numbers; see FrameList
    DomainId owner;
    uint8_t order; // free: of its block; hypervisor heap: its size class
    Hint<PageState> state;
    bool unlisted; // not counted against its owner's reservation
    std::atomic<SeenByOthers> seen_by_others;
    union {
        SmallObjects objects; // hypervisor heap
        /// A page table: bit i is set where an entry of its i-th sixteenth may be present.
        uint16_t filled_parts;
    };

    static constexpr uint32_t owners_reference = 1u << 31;
    static constexpr uint32_t count_mask = owners_reference - 1;
    [[nodiscard]] TypeWord type_word() const { return {type.load(std::memory_order_acquire)}; }
};
static_assert(sizeof(Page) == 32);
inline constexpr uint32_t no_frame = ~uint32_t{0};

/// The frame table entry, or null where there is no RAM.
Page* find_page(Mfn mfn);
/// For frames known to be RAM.
Page& page_at(Mfn mfn);
Mfn frame_of_entry(Page const& page);
/// One above the highest frame of RAM.
Mfn frame_limit();
bool is_ram(Mfn mfn);

/// Frames, newest first, linked through the frame table: a frame is in one list at most. Under its
/// owner's lock.
class FrameList {
    uint32_t first_ = no_frame;

public:
    [[nodiscard]] bool empty() const { return first_ == no_frame; }
    /// no_frame: none.
    [[nodiscard]] uint32_t first() const { return first_; }
    void push(Mfn mfn) {
        auto const number = static_cast<uint32_t>(mfn.raw());
        Page& page = page_at(mfn);
        page.previous = no_frame;
        page.next = first_;
        if (first_ != no_frame)
            page_at(Mfn{first_}).previous = number;
        first_ = number;
    }
    void remove(Mfn mfn) {
        Page const& page = page_at(mfn);
        if (page.previous == no_frame)
            first_ = page.next;
        else
            page_at(Mfn{page.previous}).next = page.next;
        if (page.next != no_frame)
            page_at(Mfn{page.next}).previous = page.previous;
    }
};

/// Counts a reference to a guest's frame. False when the frame is not the domain's, or has too
/// many.
inline bool take_reference(Page& page, DomainId owner);
inline void drop_reference(Mfn mfn);

/// Keeps a guest frame allocated and its owner unchanged. Move-only; releases itself.
class PageRef {
    Mfn mfn_ = invalid_mfn;
    constexpr explicit PageRef(Mfn mfn) : mfn_{mfn} {}

public:
    constexpr PageRef() = default;
    PageRef(PageRef&& other) noexcept : mfn_{std::exchange(other.mfn_, invalid_mfn)} {}
    PageRef& operator=(PageRef&& other) noexcept {
        std::swap(mfn_, other.mfn_);
        return *this;
    }
    ~PageRef() { reset(); }

    /// Fails with inval when the frame is not RAM, not the domain's, or has too many references.
    static Result<PageRef> get(Mfn mfn, DomainId owner);
    /// Takes over a reference counted elsewhere: a page-table entry's, or one left by release().
    static PageRef adopt(Mfn mfn) { return PageRef{mfn}; }
    [[nodiscard]] Mfn release() { return std::exchange(mfn_, invalid_mfn); }
    void reset() {
        if (mfn_ != invalid_mfn)
            drop_reference(std::exchange(mfn_, invalid_mfn));
    }

    [[nodiscard]] Mfn mfn() const { return mfn_; }
    [[nodiscard]] explicit operator bool() const { return mfn_ != invalid_mfn; }
};

/// Lets a privileged domain map a frame of Hearth's, for reading: DOMID_XEN's. For good.
void show_frame(Mfn mfn);

/// Called when the last reference to a guest's frame goes: domain/ takes it off its owner's books
/// and frees it.
void last_reference_gone(Mfn mfn);

inline void drop_reference(Mfn mfn) {
    uint32_t const old = page_at(mfn).references.fetch_sub(1, std::memory_order_release);
    if ((old & Page::count_mask) == 1) [[unlikely]] {
        std::atomic_thread_fence(std::memory_order_acquire);
        last_reference_gone(mfn);
    }
}

inline bool take_reference(Page& page, DomainId owner) {
    uint32_t old = page.references.load(std::memory_order_relaxed);
    do {
        constexpr uint32_t none_or_all = 1; // one more than either is no more than this
        if (((old + 1) & Page::count_mask) <= none_or_all)
            return false;
    } while (!page.references.compare_exchange_weak(old, old + 1, std::memory_order_acquire));
    // Owner and state are stable now that a reference is held; before that they were a guess.
    if (page.state == PageState::guest && page.owner == owner) [[likely]]
        return true;
    drop_reference(frame_of_entry(page));
    return false;
}

} // namespace hearth
