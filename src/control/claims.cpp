#include "control/claims.h"

#include <algorithm>

namespace hearth {
namespace {
constinit Guarded<uint64_t, Rank::domain> all_claims; // the sum of every domain's
} // namespace

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

namespace {
void use_claim(uint64_t& sum, Domain& domain, uint64_t pages) {
    domain.pages.with([&](PageList& list) {
        uint64_t const used = std::min(list.staked, pages);
        list.staked -= used;
        sum -= used;
    });
}
} // namespace

void forget_claim(Domain& domain) {
    all_claims.with([&](uint64_t& sum) { use_claim(sum, domain, ~uint64_t{0}); });
}

uint64_t claimed_pages() {
    return all_claims.with([](uint64_t& sum) { return sum; });
}

Result<Mfn> allocate_beside_claims(Domain& domain, unsigned order, Mfn end) {
    uint64_t const pages = uint64_t{1} << order;
    // In one: two who ask at once must not be told that the same frames are left.
    return all_claims.with([&](uint64_t& sum) -> Result<Mfn> {
        uint64_t const own = domain.pages.with([](PageList& list) { return list.staked; });
        uint64_t const others = sum - own;
        if (others != 0 && others + pages > free_frame_count())
            return Errno::nomem;
        Mfn const first = TRY(allocate_frames(order, end));
        use_claim(sum, domain, pages);
        return first;
    });
}

} // namespace hearth
