#include "arch/context.h"

#include "arch/registers.h"
#include "arch/x86/asm.h"

extern "C" {
extern char thread_start[];
void thread_started() { hearth::thread_first_activation(); }
}

namespace hearth::arch {

static_assert(stack_size == STACK_SIZE && stack_reserved == STACK_RESERVED);

uint64_t prepare_stack(uint64_t stack_end, Thread& thread, void (*function)(void*),
                       void* argument) {
    *reinterpret_cast<Thread**>(stack_end - STACK_THREAD_OFFSET) = &thread;
    auto* top = reinterpret_cast<uint64_t*>(stack_end - stack_reserved - sizeof(Registers));
    // As switch_stacks() pops them: r15 r14 r13 r12 rbp rbx, then the return address.
    *--top = reinterpret_cast<uint64_t>(thread_start);
    *--top = reinterpret_cast<uint64_t>(function); // rbx
    *--top = 0;                                    // rbp
    *--top = reinterpret_cast<uint64_t>(argument); // r12
    *--top = 0;
    *--top = 0;
    *--top = 0;
    return reinterpret_cast<uint64_t>(top);
}

} // namespace hearth::arch
