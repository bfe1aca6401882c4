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

/// Free blocks of one zone, a list for each order.
class FreeLists {
    FrameList lists_[max_order + 1];
    uint64_t free_ = 0;

public:
    [[nodiscard]] uint64_t free_frames() const { return free_; }

    void insert(Mfn mfn, unsigned order) {
        Page& page = page_at(mfn);
        page.state = PageState::free;
        page.order = static_cast<uint8_t>(order);
        lists_[order].push(mfn);
        free_ += uint64_t{1} << order;
    }

    void remove(Mfn mfn, unsigned order) {
        lists_[order].remove(mfn);
        free_ -= uint64_t{1} << order;
    }

    /// The lowest part of a block; of the first blocks of each size at which it ends in time.
    [[nodiscard]] Mfn take(unsigned order, Mfn end) {
        for (unsigned o = order; o <= max_order; ++o) {
            Mfn const block = first_block(o, order, end);
            if (block == invalid_mfn)
                continue;
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
    [[nodiscard]] Mfn first_block(unsigned o, unsigned order, Mfn end) const {
        unsigned left_to_look_at = 64;
        for (uint32_t block = lists_[o].first(); block != no_frame && left_to_look_at != 0;
             block = page_at(Mfn{block}).next, --left_to_look_at)
            if (Mfn{block} + (uint64_t{1} << order) <= end)
                return Mfn{block};
        return invalid_mfn;
    }
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

Result<Mfn> allocate_frames(unsigned order, Mfn end) {
    if (order > max_order || arch::allocation_fails())
        return Errno::nomem;
    uint64_t stale_since = 0;
    Mfn const mfn = buddies.with([&](Buddies& b) {
        Mfn found = end > zone_border ? b.above.take(order, end) : invalid_mfn;
        if (found == invalid_mfn)
            found = b.below.take(order, end);
        if (found != invalid_mfn)
            stale_since = page_at(found).flush_stamp.load(std::memory_order_relaxed);
        for (uint64_t i = 0; found != invalid_mfn && i < uint64_t{1} << order; ++i) {
            page_at(found + i).state = PageState::hypervisor;
            page_at(found + i).flush_stamp.store(0, std::memory_order_relaxed);
        }
        return found;
    });
    if (mfn == invalid_mfn)
        return Errno::nomem;
    // Whoever owned it may still have it in a TLB.
    flush_stale_frames(stale_since);
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

} // namespace hearth
