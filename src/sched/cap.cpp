#include "sched/cap.h"

#include <algorithm>

namespace hearth {

void Cap::set_allowance(uint64_t allowance, uint64_t now) {
    budget_.with([&](Budget& budget) {
        budget = {allowance, now / period, static_cast<int64_t>(allowance)};
    });
}

uint64_t Cap::draw(uint64_t now) {
    // Several threads on several CPUs draw from one budget: each a piece, so that all get some.
    constexpr uint64_t pieces = 8;
    return budget_.with([&](Budget& budget) -> uint64_t {
        auto const allowance = static_cast<int64_t>(budget.allowance);
        if (uint64_t const current = now / period; current > budget.period_number) {
            // Bounded, so that the product cannot overflow; nobody owes as much.
            auto const passed =
                static_cast<int64_t>(std::min<uint64_t>(current - budget.period_number, 1'000'000));
            budget.left = std::min(budget.left + passed * allowance, allowance);
            budget.period_number = current;
        }
        if (budget.left <= 0)
            return 0;
        int64_t const piece = std::min(budget.left, allowance / static_cast<int64_t>(pieces) + 1);
        budget.left -= piece;
        return static_cast<uint64_t>(piece);
    });
}

void Cap::settle(uint64_t drawn, uint64_t ran) {
    budget_.with([&](Budget& budget) {
        budget.left += static_cast<int64_t>(drawn) - static_cast<int64_t>(ran);
    });
}

} // namespace hearth
