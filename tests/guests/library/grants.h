// Grant tables, of both versions, for test guests. A guest grants to itself as to any other.
#pragma once

#include "abi/grant_table.h"
#include "library/hypercall.h"

namespace guest {

using hearth::abi::GrantOperation;
using hearth::abi::GrantStatus;

template <class T>
int64_t grant_op(GrantOperation what, T* argument, uint64_t count = 1) {
    return operation(Hypercall::grant_table_op, what, argument, count);
}

/// What a grant operation says of its argument.
constexpr int64_t operator+(GrantStatus status) { return static_cast<int16_t>(status); }

/// The table's frames, at least one; maps the first, and with version 2 the status frame.
void set_up_grants();
int64_t set_grant_version(uint32_t version);
int64_t setup_table(uint32_t frames, uint64_t* list);
hearth::abi::GrantEntryV1 volatile& grant_v1(uint32_t reference);
hearth::abi::GrantEntryV2 volatile& grant_v2(uint32_t reference);
uint16_t volatile& grant_status(uint32_t reference);
uint64_t grant_frame();

/// A page for oneself in version 1.
void grant_to(uint32_t reference, uint16_t domain, uint64_t mfn, uint16_t more_flags = 0);
void take_back(uint32_t reference);
/// The flags that say that it is in use.
uint16_t uses_of(uint32_t reference);

/// The argument comes back with status and handle.
hearth::abi::GrantMap map_grant(uint64_t host_address, uint32_t flags, uint32_t reference,
                                uint16_t domain = domain_0);
int64_t unmap_grant(uint64_t host_address, uint32_t handle, uint64_t device_address = 0);
int64_t copy_grant(hearth::abi::GrantCopy const& copy);

} // namespace guest
