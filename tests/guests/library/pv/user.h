// User mode of a PV guest: ring 3 like the kernel, with a top-level table of its own.
#pragma once

#include "library/pv/traps.h"

namespace guest {

extern "C" char user_done[], user_start[];

/// What start.S returns to user mode with.
struct UserEntry {
    uint64_t rip, rsp, flags, cs, ss, rbx, rdi;
};
/// Comes back when somebody jumps to user_left on the stack that was saved.
extern "C" void enter_user(UserEntry const* entry, uint64_t* saved_stack);

/// How user mode ended: by a trap or a callback.
struct UserExit : Fault {
    TrapFrame frame;
    /// The function ran to its end.
    [[nodiscard]] bool done() const {
        return vector == 6 && rip == reinterpret_cast<uint64_t>(user_done);
    }
};

/// The user's root: it shares the kernel's image, and nothing else, so a function of ours runs
/// there. Told to the hypervisor for this vCPU.
void use_user_table();

UserExit enter_user_at(UserEntry const& entry);
/// From the place where a function of ours begins.
UserEntry user_entry_for(void (*call)(void*), void* argument);

/// Runs a function in user mode until it ends or traps.
template <class F>
UserExit run_user(F&& function, uint64_t flags = 0x202) {
    UserEntry start = user_entry_for(
        [](void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(); }, &function);
    start.flags = flags;
    return enter_user_at(start);
}

} // namespace guest
