// The toolstack's side of a domain's dirty log: how a guest that runs is copied to another machine.
#include "console/log.h"
#include "control/domctl.h"
#include "control/operation_body.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"

#include <algorithm>

namespace hearth {
namespace {

/// Holds the domain still meanwhile. inval: there is a log already.
Result<> begin_log(Domain& d) {
    if (d.dirty_log.load())
        return Errno::inval;
    pause_domain(d);
    Result<> const started = start_logging(d);
    unpause_domain(d);
    return started;
}

Result<> end_log(Domain& d) {
    pause_domain(d);
    stop_logging(d);
    unpause_domain(d);
    return {};
}

/// Copies the bits out, `word_of` at a time, if they are asked for.
template <class Function>
Result<> copy_bits(abi::DomctlShadowOp const& request, Function word_of) {
    GuestPointer<uint8_t> const out{request.dirty_bitmap};
    uint64_t const frames = out.is_null() ? 0 : request.page_count;
    for (uint64_t first = 0; first < frames; first += 64) {
        uint64_t const word = word_of(first / 64);
        uint8_t bytes[8];
        memcpy(bytes, &word, sizeof bytes);
        uint64_t const left = (frames - first + 7) / 8;
        TRY(out.write_many({bytes, std::min<uint64_t>(left, 8)}, first / 8));
        preempt_point_each(64, first / 64);
    }
    return {};
}

/// Copies the bits out that are asked for and forgets all. On an error all that might have been
/// among them are set.
Result<> take_bits(DirtyLog& log, abi::DomctlShadowOp const& request) {
    uint64_t taken = 0;
    auto const copied = copy_bits(request, [&](uint64_t index) {
        taken = index + 1;
        return log.take(index);
    });
    if (!copied)
        log.set_all(taken);
    for (; copied && taken < log.words(); ++taken) {
        (void)log.take(taken);
        preempt_point_each(64, taken);
    }
    return copied;
}

/// What has been written to; forgotten, if it is to be cleaned. Bits go before the mappings are
/// watched anew: a write between the two is in the frame when the caller comes to read it.
Result<Answer> report(Domain& d, abi::Domctl& op, bool clean) {
    DirtyLog* const log = d.dirty_log.load();
    if (!log)
        return Errno::inval;
    // Who saves it takes this for the last that it has written: what its vCPUs had under way when
    // it shut down is over first.
    if (d.is_shut_down()) {
        pause_domain(d);
        unpause_domain(d);
    }
    auto request = body_of<abi::DomctlShadowOp>(op);
    request.faults = log->faults.load();
    // One that is noted is counted a moment later, and may have been taken before.
    request.dirty = static_cast<uint32_t>(std::max(static_cast<int32_t>(log->noted.load()), 0));
    if (clean) {
        auto const taken = take_bits(*log, request);
        watch_writes_anew(d);
        TRY(taken);
        log->faults.fetch_sub(request.faults);
        log_debug("domain {}: {} frames written to, {} faults for that", d.id, request.dirty,
                  request.faults);
    } else {
        TRY(copy_bits(request, [&](uint64_t index) { return log->peek(index); }));
    }
    set_body(op, request);
    return Answer::argument;
}

} // namespace

Result<Answer> dirty_log_operation(Context& c, Domain& d, abi::Domctl& op) {
    auto const request = body_of<abi::DomctlShadowOp>(op);
    if (&d == &c.domain)
        return Errno::inval;
    switch (request.operation) {
    case abi::shadow_enable:
        if (request.mode != abi::shadow_mode_log_dirty)
            return Errno::inval;
        [[fallthrough]];
    case abi::shadow_enable_log_dirty:
        TRY(begin_log(d));
        return Answer::none;
    case abi::shadow_off:
        TRY(end_log(d));
        return Answer::none;
    case abi::shadow_clean:
        return report(d, op, true);
    case abi::shadow_peek:
        return report(d, op, false);
    default: // memory for shadows is Hearth's own affair
        return Errno::inval;
    }
}

} // namespace hearth
