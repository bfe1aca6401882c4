// A word that is written under a lock and also read without one, where a stale value does no harm.
#pragma once

#include <atomic>

namespace hearth {

template <class T>
class Hint {
    std::atomic<T> value_{};

public:
    constexpr Hint() = default;
    constexpr Hint(T value) : value_{value} {}
    Hint(Hint const&) = delete;
    Hint& operator=(Hint const&) = delete;
    T operator=(T value) {
        value_.store(value, std::memory_order_release);
        return value;
    }
    operator T() const { return value_.load(std::memory_order_acquire); }
    T operator->() const { return *this; }
};

} // namespace hearth
