// Stacks and switching between them.
#pragma once

#include <cstdint>

namespace hearth {

class Thread;

/// Called first thing on a new thread's stack; owned by sched/.
void thread_first_activation();

namespace arch {

inline constexpr uint64_t stack_size = 0x4000;
inline constexpr uint64_t stack_reserved = 16;

extern "C" void switch_stacks(uint64_t* save, uint64_t load);
/// A stack that switch_stacks() can switch to, where `function(argument)` then runs; returns its
/// pointer. One register frame is left free at the top, and above it `thread` is noted.
uint64_t prepare_stack(uint64_t stack_end, Thread& thread, void (*function)(void*), void* argument);

} // namespace arch
} // namespace hearth
