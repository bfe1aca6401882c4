// Which CPU this is.
#include "arch/x86/asm.h"
#include "cpu/cpu.h"

namespace hearth {

Cpu& this_cpu() {
    // SAFETY: bind_stack() wrote the pointer at the end of every stack that Hearth ever runs on.
    uint64_t stack;
    asm("mov %%rsp, %0" : "=r"(stack));
    return **reinterpret_cast<Cpu**>((stack & ~uint64_t{STACK_SIZE - 1}) + STACK_SIZE -
                                     STACK_CPU_OFFSET);
}

void bind_stack(uint64_t stack_end, Cpu& cpu) {
    *reinterpret_cast<Cpu**>(stack_end - STACK_CPU_OFFSET) = &cpu;
}

} // namespace hearth
