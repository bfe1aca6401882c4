// A CPU's airlock: the page of Hearth's that its guests have mapped, through which entries and
// exits go on processors with Meltdown. airlock.S uses it.
#pragma once

#include "arch/registers.h"
#include "arch/x86/asm.h"
#include "base/address.h"

#include <cstddef>
#include <cstdint>

namespace hearth::arch {

/// A stack just large enough for one entry, and where that goes on.
struct Landing {
    uint64_t room[30];
    uint64_t stack;
    uint64_t cr3;
};

/// What the way out reads, at the end of the first landing.
struct [[gnu::packed]] ExitFrame {
    uint64_t rdx, rdi, rip, cs, rflags, rsp, ss;
};

struct alignas(page_size) Airlock {
    Landing entry; // from the guest's own code
    Landing nmi, double_fault, machine_check, debug;
    uint64_t guest_rsp; // while `syscall` builds a frame

    ExitFrame& exit_frame() { return *(reinterpret_cast<ExitFrame*>(&entry.stack) - 1); }
};
static_assert(sizeof(Airlock) == page_size && PAGE_SIZE == page_size);
static_assert(offsetof(Landing, stack) == AIRLOCK_LANDING);
static_assert(offsetof(Airlock, entry.stack) == AIRLOCK_STACK);
static_assert(offsetof(Airlock, entry.cr3) == AIRLOCK_CR3);
static_assert(offsetof(Airlock, guest_rsp) == AIRLOCK_GUEST_RSP);
static_assert(RFLAGS_TF == rflags::tf);

} // namespace hearth::arch

extern "C" hearth::arch::Airlock airlocks[]; // mapped where they are in use
