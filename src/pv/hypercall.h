// The one way in for hypercalls; hypercall/ provides it.
#pragma once

#include "pv/vcpu.h"

namespace hearth::pv {

/// Number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; the result is for rax.
uint64_t hypercall(PvVcpu& vcpu, Registers const& registers);

} // namespace hearth::pv
