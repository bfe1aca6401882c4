// Spin locks that own their data and know their rank.
//
// Interrupts are off in the hypervisor, so a lock needs no interrupt-safe variant; a CPU that spins
// serves TLB flush requests, so the holder may wait for other CPUs to flush.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace hearth {

/// Order of acquisition: a CPU may only take a lock of a higher rank than those it holds. See
/// docs/locks.md.
enum class Rank : uint8_t {
    domain_list = 1,
    domain = 2,
    grant = 3,
    event = 4,
    irq = 5,
    address_space = 6,
    page_list = 7,
    timer = 8,
    scheduler = 9,
    budget = 10,
    mapping = 11,
    heap = 12,
    allocator = 13,
    flush = 14,
    console = 15,
    pci = 16,
};

/// What a CPU does while it waits for another: owned by memory/, which serves TLB flushes
/// meanwhile.
void wait_politely();
/// A lock's rank as one bit of what a CPU holds.
using RankBit = uint32_t;
constexpr RankBit bit_of(Rank rank) { return RankBit{1} << static_cast<unsigned>(rank); }
void note_lock_taken(RankBit rank);
void note_second_lock_taken(RankBit rank);
void note_lock_released(RankBit rank);
void check_no_lock_held();

#ifdef NDEBUG
inline constexpr bool check_lock_ranks = false;
#else
inline constexpr bool check_lock_ranks = true;
#endif

/// One byte: the rank is its type's.
template <Rank rank>
class [[clang::capability("mutex")]] SpinLock {
    std::atomic<bool> taken_{false};

public:
    constexpr SpinLock() = default;
    SpinLock(SpinLock const&) = delete;
    SpinLock& operator=(SpinLock const&) = delete;

    void lock() __attribute__((acquire_capability())) {
        if constexpr (check_lock_ranks)
            note_lock_taken(bit_of(rank));
        while (taken_.exchange(true, std::memory_order_acquire))
            while (taken_.load(std::memory_order_relaxed))
                wait_politely();
    }
    /// For a second lock of the rank that the CPU already holds, where another order rules (such as
    /// domain numbers).
    void lock_second() __attribute__((acquire_capability())) {
        if constexpr (check_lock_ranks)
            note_second_lock_taken(bit_of(rank));
        while (taken_.exchange(true, std::memory_order_acquire))
            wait_politely();
    }
    void unlock() __attribute__((release_capability())) {
        taken_.store(false, std::memory_order_release);
        if constexpr (check_lock_ranks)
            note_lock_released(bit_of(rank));
    }
};

template <Rank rank>
class [[clang::scoped_lockable]] LockGuard {
    SpinLock<rank>& lock_;

public:
    explicit LockGuard(SpinLock<rank>& lock) __attribute__((acquire_capability(lock)))
        : lock_{lock} {
        lock_.lock();
    }
    ~LockGuard() __attribute__((release_capability())) { lock_.unlock(); }
    LockGuard(LockGuard const&) = delete;
    LockGuard& operator=(LockGuard const&) = delete;
};

/// Data that is reachable under its lock only: `guarded.with([](auto& data) { ... })`.
template <class T, Rank rank>
class Guarded {
    SpinLock<rank> lock_;
    T data_{};

public:
    constexpr Guarded() = default;
    template <class Function>
    decltype(auto) with(Function&& function) {
        LockGuard guard{lock_};
        return std::forward<Function>(function)(data_);
    }
};

} // namespace hearth
