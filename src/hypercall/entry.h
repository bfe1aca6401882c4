// The one way in for hypercalls.
#pragma once

#include "pv/vcpu.h"

namespace hearth {

/// Number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; the result replaces rax.
void hypercall(pv::PvVcpu& vcpu, Registers& registers);

} // namespace hearth
