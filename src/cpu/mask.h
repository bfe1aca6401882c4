// A set of CPUs.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

namespace hearth {

inline constexpr unsigned max_cpus = 64;

struct CpuMask {
    uint64_t bits = 0;

    static constexpr CpuMask of(unsigned cpu) { return {uint64_t{1} << (cpu % max_cpus)}; }
    static constexpr CpuMask first(unsigned n) {
        return {n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1};
    }
    [[nodiscard]] constexpr bool has(unsigned cpu) const { return cpu < 64 && (bits >> cpu & 1); }
    [[nodiscard]] constexpr bool empty() const { return bits == 0; }
    [[nodiscard]] constexpr unsigned count() const {
        return static_cast<unsigned>(std::popcount(bits));
    }
    constexpr CpuMask operator&(CpuMask o) const { return {bits & o.bits}; }
    constexpr CpuMask operator|(CpuMask o) const { return {bits | o.bits}; }
    [[nodiscard]] constexpr CpuMask without(unsigned cpu) const { return {bits & ~of(cpu).bits}; }
    bool operator==(CpuMask const&) const = default;

    /// Calls `function(cpu)` for each, lowest first.
    template <class Function>
    constexpr void each(Function&& function) const {
        for (uint64_t rest = bits; rest != 0; rest &= rest - 1)
            function(static_cast<unsigned>(std::countr_zero(rest)));
    }
};

inline constexpr CpuMask any_cpu{~uint64_t{0}};

} // namespace hearth
