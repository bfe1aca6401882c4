// A lock that its holder may keep over preemption points and sleep.
#pragma once

#include "sched/thread.h"

#include <atomic>

namespace hearth {

/// For control operations, which rarely meet: who finds it taken lets others run until it is free.
class [[clang::capability("mutex")]] Mutex {
    std::atomic<bool> taken_{false};

public:
    void lock() __attribute__((acquire_capability())) {
        while (taken_.exchange(true, std::memory_order_acquire))
            let_others_run();
    }
    void unlock() __attribute__((release_capability())) {
        taken_.store(false, std::memory_order_release);
    }
};

class [[clang::scoped_lockable]] MutexGuard {
    Mutex& mutex_;

public:
    explicit MutexGuard(Mutex& mutex) __attribute__((acquire_capability(mutex))) : mutex_{mutex} {
        mutex_.lock();
    }
    ~MutexGuard() __attribute__((release_capability())) { mutex_.unlock(); }
    MutexGuard(MutexGuard const&) = delete;
    MutexGuard& operator=(MutexGuard const&) = delete;
};

} // namespace hearth
