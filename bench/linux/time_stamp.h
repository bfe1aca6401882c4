// The machine's time, the same for every guest: under QEMU's -icount one tick is one executed
// instruction and one nanosecond.
#pragma once
#include <stdint.h>

enum { SECOND = 1000000000 };

static inline uint64_t now(void) {
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}
