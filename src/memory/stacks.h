// Stacks for threads: 16 KiB each, with an unmapped guard below, so that an overflow is a double
// fault and not a mystery.
#pragma once

#include "base/result.h"

#include <cstdint>

namespace hearth {

/// The lowest address of a fresh stack, aligned to its size. nomem.
Result<uint64_t> allocate_stack();
/// Its thread must never run again.
void free_stack(uint64_t bottom);

} // namespace hearth
