#include "memory/allocator.h"

#include "arch/intrinsics.h"
#include "base/lock.h"
#include "memory/direct_map.h"
#include "memory/page.h"
#include "memory/tlb.h"

#include <bit>

namespace hearth {
namespace {

constexpr Mfn zone_border{4_GiB >> page_shift};

/// Free blocks of one zone, a list for each order, linked through the frame table.
class FreeLists {
    uint32_t heads_[max_order + 1];
    uint64_t free_ = 0;

public:
    constexpr FreeLists() {
        for (auto& head : heads_)
            head = no_frame;
    }
    [[nodiscard]] uint64_t free_frames() const { return free_; }

    void insert(Mfn mfn, unsigned order) {
        Page& page = page_at(mfn);
        page.state = PageState::free;
        page.order = static_cast<uint8_t>(order);
        page.previous = no_frame;
        page.next = heads_[order];
        if (page.next != no_frame)
            page_at(Mfn{page.next}).previous = static_cast<uint32_t>(mfn.raw());
        heads_[order] = static_cast<uint32_t>(mfn.raw());
        free_ += uint64_t{1} << order;
    }

    void remove(Mfn mfn, unsigned order) {
        Page& page = page_at(mfn);
        if (page.previous == no_frame)
            heads_[order] = page.next;
        else
            page_at(Mfn{page.previous}).next = page.next;
        if (page.next != no_frame)
            page_at(Mfn{page.next}).previous = page.previous;
        free_ -= uint64_t{1} << order;
    }

    [[nodiscard]] Mfn take(unsigned order) {
        for (unsigned o = order; o <= max_order; ++o) {
            if (heads_[o] == no_frame)
                continue;
            Mfn const block{heads_[o]};
            remove(block, o);
            while (o > order) {
                --o;
                insert(block + (uint64_t{1} << o), o);
                page_at(block + (uint64_t{1} << o))
                    .flush_stamp.store(page_at(block).flush_stamp.load(std::memory_order_relaxed),
                                       std::memory_order_relaxed);
            }
            return block;
        }
        return invalid_mfn;
    }

    /// Joins the block with its free buddies and files the result.
    void give(Mfn mfn, unsigned order, Mfn zone_start, Mfn zone_end) {
        uint64_t stamp = page_at(mfn).flush_stamp.load(std::memory_order_relaxed);
        while (order < max_order) {
            Mfn const buddy{mfn.raw() ^ (uint64_t{1} << order)};
            if (buddy < zone_start || buddy >= zone_end)
                break;
            Page* page = find_page(buddy);
            if (!page || page->state != PageState::free || page->order != order ||
                !is_block_head(buddy, order))
                break;
            remove(buddy, order);
            uint64_t const other = page->flush_stamp.load(std::memory_order_relaxed);
            stamp = stamp > other ? stamp : other;
            page->state = PageState::hypervisor;
            mfn = Mfn{mfn.raw() & ~(uint64_t{1} << order)};
            ++order;
        }
        page_at(mfn).flush_stamp.store(stamp, std::memory_order_relaxed);
        insert(mfn, order);
    }

private:
    static bool is_block_head(Mfn mfn, unsigned order) {
        return is_aligned(mfn.raw(), uint64_t{1} << order);
    }
};

struct Buddies {
    FreeLists below;
    FreeLists above;
    uint64_t total = 0;
};
constinit Guarded<Buddies, Rank::allocator> buddies;

void give_back(Buddies& b, Mfn mfn, unsigned order) {
    if (mfn < zone_border)
        b.below.give(mfn, order, Mfn{0}, zone_border);
    else
        b.above.give(mfn, order, zone_border, frame_limit());
}

} // namespace

Result<Mfn> allocate_frames(unsigned order, Zone zone) {
    if (order > max_order || arch::allocation_fails())
        return Errno::nomem;
    Mfn const mfn = buddies.with([&](Buddies& b) {
        Mfn found = zone == Zone::any ? b.above.take(order) : invalid_mfn;
        if (found == invalid_mfn)
            found = b.below.take(order);
        if (found != invalid_mfn)
            for (uint64_t i = 0; i < uint64_t{1} << order; ++i)
                page_at(found + i).state = PageState::hypervisor;
        return found;
    });
    if (mfn == invalid_mfn)
        return Errno::nomem;
    // Whoever owned it may still have it in a TLB.
    flush_stale_translations(page_at(mfn).flush_stamp.load(std::memory_order_relaxed), all_cpus());
    arch::memory_given(direct<void>(mfn), page_size << order);
    return mfn;
}

Result<Mfn> allocate_zeroed_frame() {
    Mfn const mfn = TRY(allocate_frames(0));
    zero_page(mfn);
    return mfn;
}

void free_frames(Mfn mfn, unsigned order) {
    arch::memory_freed(direct<void>(mfn), page_size << order);
    buddies.with([&](Buddies& b) {
        for (uint64_t i = 0; i < uint64_t{1} << order; ++i) {
            Page& page = page_at(mfn + i);
            page.state = PageState::hypervisor;
            page.type.store(0, std::memory_order_relaxed);
            page.owner = domid_invalid;
        }
        give_back(b, mfn, order);
    });
}

void donate_frames(Mfn start, Mfn end) {
    buddies.with([&](Buddies& b) {
        b.total += end - start;
        while (start < end) {
            unsigned order =
                start.raw() ? static_cast<unsigned>(std::countr_zero(start.raw())) : max_order;
            order = order > max_order ? max_order : order;
            while ((uint64_t{1} << order) > end - start)
                --order;
            give_back(b, start, order);
            start += uint64_t{1} << order;
        }
    });
}

uint64_t free_frame_count() {
    return buddies.with([](Buddies& b) { return b.below.free_frames() + b.above.free_frames(); });
}
uint64_t total_frame_count() {
    return buddies.with([](Buddies& b) { return b.total; });
}

void zero_page(Mfn mfn) { arch::fill_quads(direct<void>(mfn), 0, page_size / 8); }

// --- Small objects
// -----------------------------------------------------------------------------------------------

namespace {

constexpr unsigned smallest_class = 5; // 32 bytes
constexpr unsigned largest_class = 11; // 2 KiB
constexpr uint8_t whole_frames =
    0x80; // in Page::order: a block of frames, its order in the low bits

struct FreeObject {
    FreeObject* next;
};
struct ObjectLists {
    FreeObject* heads[largest_class + 1]{};
    uint64_t in_use = 0;
    uint64_t frames = 0;
};
constinit Guarded<ObjectLists, Rank::heap> objects;

unsigned size_class(size_t size) {
    unsigned const needed = static_cast<unsigned>(std::bit_width(size - 1));
    return needed < smallest_class ? smallest_class : needed;
}

FreeObject* free_object(void* place, unsigned size_class, FreeObject* next) {
    auto* const object = new (place) FreeObject{next};
    arch::memory_freed(object + 1, (size_t{1} << size_class) - sizeof *object);
    return object;
}

Result<> refill(unsigned size_class) {
    Mfn const mfn = TRY(allocate_frames(0));
    page_at(mfn).order = static_cast<uint8_t>(size_class);
    char* const base = direct<char>(mfn);
    objects.with([&](ObjectLists& lists) {
        ++lists.frames;
        for (size_t at = 0; at < page_size; at += size_t{1} << size_class)
            lists.heads[size_class] = free_object(base + at, size_class, lists.heads[size_class]);
    });
    return {};
}

} // namespace

Result<void*> allocate_bytes(size_t size) {
    if (arch::allocation_fails())
        return Errno::nomem;
    unsigned const wanted = size_class(size ? size : 1);
    if (wanted > largest_class) {
        unsigned const order = wanted <= page_shift ? 0 : wanted - page_shift;
        Mfn const mfn = TRY(allocate_frames(order));
        page_at(mfn).order = static_cast<uint8_t>(whole_frames | order);
        for (uint64_t i = 0; i < uint64_t{1} << order; ++i)
            zero_page(mfn + i);
        return direct<void>(mfn);
    }
    for (;;) {
        FreeObject* const object = objects.with([&](ObjectLists& lists) {
            FreeObject* const head = lists.heads[wanted];
            if (head) {
                lists.heads[wanted] = head->next;
                ++lists.in_use;
            }
            return head;
        });
        if (object) {
            arch::memory_given(object, size_t{1} << wanted);
            arch::fill_quads(object, 0, (size_t{1} << wanted) / 8);
            return static_cast<void*>(object);
        }
        TRY(refill(wanted));
    }
}

void free_bytes(void* pointer) {
    if (!pointer)
        return;
    Mfn const mfn = mfn_of(pointer);
    uint8_t const kind = page_at(mfn).order;
    if (kind & whole_frames)
        return free_frames(mfn, kind & 0x7f);
    objects.with([&](ObjectLists& lists) {
        lists.heads[kind] = free_object(pointer, kind, lists.heads[kind]);
        --lists.in_use;
    });
}

uint64_t object_count() {
    return objects.with([](ObjectLists& lists) { return lists.in_use; });
}
uint64_t object_frame_count() {
    return objects.with([](ObjectLists& lists) { return lists.frames; });
}

} // namespace hearth
