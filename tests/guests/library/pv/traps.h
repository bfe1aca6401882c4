// Traps of a PV guest: those that a test expects, and how it goes on after them.
#pragma once

#include <cstdint>
#include <type_traits>

namespace guest {

/// What the stubs in start.S push, above what the hypervisor did.
struct TrapFrame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;

    [[nodiscard]] bool from_user() const { return (cs & 3) == 3; }
};

/// Vectors that no processor has: the callbacks.
inline constexpr uint64_t by_syscall = 0x100, by_syscall32 = 0x101, by_sysenter = 0x102,
                          by_failsafe = 0x110;
inline constexpr uint64_t no_trap = ~uint64_t{0};

struct Fault {
    uint64_t vector = no_trap, error = 0, address = 0, rip = 0, rflags = 0, cs = 0;
    explicit operator bool() const { return vector != no_trap; }
};

/// At the start of each vCPU's stack, which is aligned to its size.
struct VcpuBlock {
    uint64_t recover;    // stack of the innermost attempt; 0: none
    uint64_t user_stack; // of the kernel while it waits for user mode to end; 0: it does not
    Fault fault;         // the last that was caught
    TrapFrame user_frame;
    /// Sees each trap first; true: handled, go on from the frame.
    bool (*hook)(TrapFrame&);
    uint64_t id;
};
inline constexpr uint64_t stack_size = 0x10000;
/// Parts of it, from its start: what the kernel runs on when user mode is left, user mode, and the
/// rest is the kernel's.
inline constexpr uint64_t entry_stack_end = 0x6000, user_stack_end = 0x9000;

inline VcpuBlock& this_vcpu() {
    uint64_t stack;
    asm volatile("mov %%rsp, %0" : "=r"(stack));
    return *reinterpret_cast<VcpuBlock*>(stack & ~(stack_size - 1));
}

extern "C" bool attempt_call(void (*function)(void*), void* argument, uint64_t* recover);
/// The flags that the last trap handler began with.
extern "C" uint64_t volatile handler_flags;
/// ds, es, fs, gs, as the last failsafe callback was given them.
extern "C" uint64_t volatile failsafe_selectors[4];

/// Runs the function; the trap that ended it, or none.
template <class F>
Fault attempt(F&& function) {
    VcpuBlock& block = this_vcpu();
    auto const call = [](void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(); };
    if (attempt_call(call, &function, &block.recover))
        return {};
    return block.fault;
}
/// Whether it ran to its end.
template <class F>
bool survives(F&& function) {
    return !attempt(function);
}
/// Whether the memory can be read, or written to.
bool readable(void const* address);
bool writable_at(void* address, uint64_t value);

/// Handlers for all exceptions and 0x80, those of 3, 4 and 0x80 for user mode too; the
/// callbacks; the stack for those who come from user mode. `event`: the callback for events, if not
/// the library's, which goes back to where it came from.
void set_handlers(uint64_t event = 0);
void set_trap(uint8_t vector, uint8_t flags, uint64_t address);
uint64_t trap_stub(unsigned vector);

} // namespace guest
