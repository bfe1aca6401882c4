#include "control/claims.h"

#include "memory/allocator.h"

#include <algorithm>

namespace hearth {
namespace {
constinit Guarded<uint64_t, Rank::domain> all_claims; // the sum of every domain's
}

Result<> stake_claim(Domain& domain, uint64_t pages) {
    return all_claims.with([&](uint64_t& sum) -> Result<> {
        return domain.pages.with([&](PageList& list) -> Result<> {
            uint64_t const wanted = pages > list.count ? pages - list.count : 0;
            uint64_t const others = sum - list.staked;
            if (wanted != 0 && others + wanted > free_frame_count())
                return Errno::nomem;
            if (wanted != 0 && (pages > list.maximum || list.closed))
                return Errno::nomem;
            sum = others + wanted;
            list.staked = wanted;
            return {};
        });
    });
}

void use_claim(Domain& domain, uint64_t pages) {
    all_claims.with([&](uint64_t& sum) {
        domain.pages.with([&](PageList& list) {
            uint64_t const used = std::min(list.staked, pages);
            list.staked -= used;
            sum -= used;
        });
    });
}

uint64_t claimed_pages() {
    return all_claims.with([](uint64_t& sum) { return sum; });
}

bool leaves_room_for_claims(Domain& domain, uint64_t pages) {
    return all_claims.with([&](uint64_t& sum) {
        uint64_t const own = domain.pages.with([](PageList& list) { return list.staked; });
        uint64_t const others = sum - own;
        return free_frame_count() >= others + pages;
    });
}

} // namespace hearth
