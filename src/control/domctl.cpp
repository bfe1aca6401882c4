// What the toolstack does with domains. (public/domctl.h)
#include "control/domctl.h"

#include "control/control.h"
#include "control/operation_body.h"
#include "domain/guest_memory.h"

namespace hearth {
namespace {

using abi::DomctlOperation;

Result<Answer> operate(Context& c, Domain& d, abi::Domctl& op) {
    switch (static_cast<DomctlOperation>(op.command)) {
    case DomctlOperation::destroydomain:
        return destroy_domain(c, d);
    case DomctlOperation::pausedomain:
        return pause_by_toolstack(c, d);
    case DomctlOperation::unpausedomain:
        return unpause_by_toolstack(c, d);
    case DomctlOperation::resumedomain:
        return resume_domain(d);
    case DomctlOperation::max_vcpus:
        return create_vcpus(d, op);
    case DomctlOperation::max_mem:
        return set_max_memory(d, op);
    case DomctlOperation::setdomainhandle:
        return set_handle(d, op);
    case DomctlOperation::settimeoffset:
        return set_time_offset(d, op);
    case DomctlOperation::settscinfo:
        return set_tsc_info(d, op);
    case DomctlOperation::gettscinfo:
        return get_tsc_info(d, op);
    case DomctlOperation::setdebugging:
        return set_debugging(d, op);
    case DomctlOperation::set_virq_handler:
        return set_virq_handler(d, op);
    case DomctlOperation::subscribe:
        return subscribe(d, op);
    case DomctlOperation::setnodeaffinity:
        return node_affinity(d, op, true);
    case DomctlOperation::getnodeaffinity:
        return node_affinity(d, op, false);

    case DomctlOperation::setvcpucontext:
        return set_vcpu_context(c, d, op);
    case DomctlOperation::getvcpucontext:
        return get_vcpu_context(c, d, op);
    case DomctlOperation::getvcpuinfo:
        return get_vcpu_info(d, op);
    case DomctlOperation::setvcpuaffinity:
        return set_vcpu_affinity(d, op);
    case DomctlOperation::getvcpuaffinity:
        return get_vcpu_affinity(d, op);
    case DomctlOperation::scheduler_op:
        return scheduler_parameters(d, op);
    case DomctlOperation::sendtrigger:
        return send_trigger(d, op);
    case DomctlOperation::set_ext_vcpucontext:
        return set_extended_context(c, d, op);
    case DomctlOperation::get_ext_vcpucontext:
        return get_extended_context(c, d, op);
    case DomctlOperation::setvcpuextstate:
        return set_extended_state(c, d, op);
    case DomctlOperation::getvcpuextstate:
        return get_extended_state(c, d, op);
    case DomctlOperation::set_vcpu_msrs:
        return set_vcpu_msrs(d, op);
    case DomctlOperation::get_vcpu_msrs:
        return get_vcpu_msrs(d, op);

    case DomctlOperation::getpageframeinfo3:
        return page_types(d, op);
    case DomctlOperation::hypercall_init:
        return write_hypercall_page(d, op);
    case DomctlOperation::set_address_size:
        return set_address_size(d, op);
    case DomctlOperation::get_address_size:
        return get_address_size(d, op);

    case DomctlOperation::get_cpu_policy:
        return get_cpu_policy(d, op);
    case DomctlOperation::set_cpu_policy:
        return set_cpu_policy(d, op);

    case DomctlOperation::shadow_op:
        return dirty_log_operation(c, d, op);
    // There is no IOMMU to keep a device's DMA to its domain's memory.
    case DomctlOperation::assign_device:
    case DomctlOperation::test_assign_device:
    case DomctlOperation::deassign_device:
    case DomctlOperation::get_device_group:
        return Errno::nodev;
    default:
        return Errno::nosys;
    }
}

/// Of the first domain from the number that is asked for; the toolstack finds all of them so.
Result<Answer> get_info(abi::Domctl& op) {
    for (DomainId id = op.domain; id < max_domains; ++id)
        if (auto const d = DomainRef::find(id)) {
            op.domain = id;
            set_body(op, describe_domain(**d));
            return Answer::argument;
        }
    return Errno::srch;
}

Result<Answer> dispatch(Context& c, abi::Domctl& op) {
    switch (static_cast<DomctlOperation>(op.command)) {
    case DomctlOperation::createdomain:
        TRY(create_domain(op));
        return Answer::argument;
    case DomctlOperation::getdomaininfo:
        return get_info(op);
    default:
        DomainRef const d = TRY(target_domain(c, op.domain));
        MutexGuard guard{d->control};
        if (d->dying.load() && op.command != static_cast<uint32_t>(DomctlOperation::destroydomain))
            return Errno::srch;
        return operate(c, *d, op);
    }
}

} // namespace

Result<int64_t> do_domctl(Context& c, uint64_t argument) {
    GuestPointer<abi::Domctl> const pointer{argument};
    abi::Domctl op = TRY(pointer.read());
    if (op.version != abi::domctl_interface_version)
        return Errno::access;
    if (TRY(dispatch(c, op)) == Answer::argument)
        TRY(pointer.write(op));
    return 0;
}

} // namespace hearth
