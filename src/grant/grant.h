// Grant tables: how a domain lets others at its memory.
#pragma once

#include "domain/domain.h"

namespace hearth {

/// At start-up: what a domain may have at most, and has where nobody says less.
void limit_grants(uint32_t frames, uint32_t maptrack_frames);

/// Gives a new domain its table. Negative limits are the default ones; `max_version` is what it may
/// choose, 1 or 2. inval, nomem.
Result<> grants_create(Domain& domain, int32_t max_frames = -1, int32_t max_maptrack_frames = -1,
                       unsigned max_version = 2);
/// Of a domain whose vCPUs have left the hypervisor for good: gives up its table. What others have
/// mapped of its frames stays until they unmap it. May reschedule.
void grants_close(Domain& domain);
/// Then, when its page tables are gone: gives up all that it has mapped of others'. May reschedule.
void grants_release(Domain& domain);
/// When nothing refers to the domain any more.
void grants_destroy(Domain& domain);

Result<int64_t> do_grant_table_op(Context& context, uint32_t command, uint64_t argument,
                                  uint32_t count);

/// Frames of a domain's table for a toolstack to map.
enum class GrantFrames : uint32_t { shared = 0, status = 1 };
uint32_t most_grant_frames_of(Domain& domain, GrantFrames kind);
/// Grows the table where needed. inval: beyond its limit, or it has none of that kind; nomem; busy.
/// May reschedule.
Result<Mfn> grant_frame(Domain& domain, GrantFrames kind, uint32_t index);

/// For the debug keys; `between` may let others run.
void print_grants(Domain& domain, void (*between)());

} // namespace hearth
