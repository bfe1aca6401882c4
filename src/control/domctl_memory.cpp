#include "control/domctl.h"
#include "control/operation_body.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "memory/page.h"

namespace hearth {

namespace {
/// Whether the caller copies it while it runs. What is a table when he asks may be data when he
/// comes to read it, and toolstacks give up over a table with impossible entries.
bool moves(Domain const& d) {
    return d.dirty_log.load() && !d.is_shut_down() && d.pauses.load() == 0;
}

uint64_t kind_of(Domain const& d, Mfn frame, bool moving) {
    auto const held = PageRef::get(frame, d.id);
    if (!held)
        return abi::page_info::invalid;
    FrameUse const use = frame_use(frame);
    if (use.table_level && moving) { // it is there to be copied when the guest stands still
        note_written(d, frame);
        return abi::page_info::invalid;
    }
    return uint64_t{use.table_level} << abi::page_info::table_shift |
           (use.pinned ? abi::page_info::pinned : 0);
}
} // namespace

/// The list is answered in place: each frame number becomes what the frame is in use as.
Result<Answer> page_types(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlPageInfo>(op);
    constexpr uint64_t most = 1024;
    if (request.count > most)
        return Errno::toobig;
    GuestPointer<uint64_t> const frames{request.frames};
    bool const moving = moves(d);
    for (uint64_t i = 0; i < request.count; ++i) {
        uint64_t const frame = TRY(frames.read(i));
        TRY(frames.write(kind_of(d, Mfn{frame}, moving), i));
        preempt_point();
    }
    return Answer::none;
}

Result<Answer> write_hypercall_page(Domain& d, abi::Domctl const& op) {
    TRY(write_hypercall_page(d, body_of<abi::DomctlHypercallInit>(op).frame));
    return Answer::none;
}

Result<Answer> set_address_size(Domain&, abi::Domctl const& op) {
    if (body_of<abi::DomctlAddressSize>(op).bits != 64) // 32-bit PV guests: no
        return Errno::inval;
    return Answer::none;
}

Result<Answer> get_address_size(Domain&, abi::Domctl& op) {
    set_body(op, abi::DomctlAddressSize{64});
    return Answer::argument;
}

} // namespace hearth
