// Hypercalls by their numbers.
#pragma once

#include "abi/operations.h"
#include "abi/xen.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace guest {

using hearth::abi::Hypercall;

inline int64_t hypercall(uint64_t number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0,
                         uint64_t d = 0, uint64_t e = 0) {
    int64_t result;
    register uint64_t r10 asm("r10") = d;
    register uint64_t r8 asm("r8") = e;
    asm volatile("syscall"
                 : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8)
                 : "a"(number)
                 : "rcx", "r11", "r9", "memory");
    return result;
}
template <class... A>
int64_t hypercall(Hypercall number, A... arguments) {
    return hypercall(static_cast<uint64_t>(number), (uint64_t)(arguments)...);
}
/// One with sub-operations, and their argument.
template <class Operation>
    requires std::is_enum_v<Operation>
int64_t operation(Hypercall number, Operation what, void const* argument, uint64_t count = 1) {
    return hypercall(number, static_cast<uint64_t>(what), reinterpret_cast<uint64_t>(argument),
                     count);
}
inline int64_t vcpu_op(hearth::abi::VcpuOperation what, uint64_t vcpu, void const* argument) {
    return hypercall(Hypercall::vcpu_op, static_cast<uint64_t>(what), vcpu,
                     reinterpret_cast<uint64_t>(argument));
}

/// The ABI's errors, as a guest reads them.
inline constexpr int64_t perm = -1, noent = -2, srch = -3, e2big = -7, again = -11, nomem = -12,
                         fault = -14, busy = -16, exist = -17, inval = -22, nospc = -28,
                         nosys = -38;

inline constexpr uint16_t self = 0x7ff0, domain_0 = 0;

} // namespace guest
