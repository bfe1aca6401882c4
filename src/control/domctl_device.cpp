#include "control/control.h"
#include "control/domctl.h"
#include "control/operation_body.h"

namespace hearth {

Result<Answer> permit_io_ports(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlIoportPermission>(op);
    TRY(permit_ports(d, request.first_port, request.port_count, request.allow != 0));
    return Answer::none;
}

Result<Answer> permit_device_memory(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlIomemPermission>(op);
    TRY(permit_device_frames(d, request.first_frame, request.frame_count, request.allow != 0));
    return Answer::none;
}

Result<Answer> permit_interrupt(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlIrqPermission>(op);
    TRY(permit_mapped_pirq(d, request.pirq, request.allow != 0));
    return Answer::none;
}

Result<Answer> set_target(Context& c, Domain& d, abi::Domctl const& op) {
    DomainRef const target = TRY(target_domain(c, body_of<abi::DomctlSetTarget>(op).target));
    return &*target == &d ? Errno::inval : Errno::opnotsupp;
}

} // namespace hearth
