// Further vCPUs of a PV guest, to race with.
#pragma once

#include "abi/xen.h"

#include <cstdint>
#include <type_traits>

namespace guest {

inline constexpr unsigned most_vcpus = 4;

/// How many there are, at most four; the first is the one that the guest starts on.
unsigned vcpu_count();

/// The state for a new one that begins in the kernel, on its own stack, in our address space.
void fill_context(hearth::abi::VcpuGuestContext& context, unsigned vcpu);

/// Runs the function there, while this one goes on. It is down before and after.
void start_on(unsigned vcpu, void (*function)(void*), void* argument);
void join(unsigned vcpu);

/// One runs `mine` here for so long, again and again, and the others `theirs` at the same time.
template <class A, class B>
void race(uint64_t milliseconds, A&& mine, B&& theirs);

bool race_goes_on();
void begin_race(uint64_t milliseconds);

template <class A, class B>
void race(uint64_t milliseconds, A&& mine, B&& theirs) {
    begin_race(milliseconds);
    for (unsigned n = 1; n < vcpu_count(); ++n)
        start_on(
            n,
            [](void* f) {
                do
                    (*static_cast<std::remove_reference_t<B>*>(f))();
                while (race_goes_on());
            },
            const_cast<void*>(static_cast<void const*>(&theirs)));
    do
        mine();
    while (race_goes_on());
    for (unsigned n = 1; n < vcpu_count(); ++n)
        join(n);
}

} // namespace guest
