// What several CPUs do to one word.
#pragma once

#include <atomic>

namespace hearth {

/// Moves a value up, unless it is as far already.
template <class T>
void raise_to(std::atomic<T>& value, T least) {
    T old = value.load(std::memory_order_relaxed);
    while (old < least && !value.compare_exchange_weak(old, least, std::memory_order_release,
                                                       std::memory_order_relaxed)) {
    }
}

} // namespace hearth
