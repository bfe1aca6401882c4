// What the toolstack does with domains. (public/domctl.h)
#include "control/domctl.h"

#include "control/control.h"
#include "control/operation_body.h"
#include "domain/guest_memory.h"

#include <type_traits>

namespace hearth {
namespace {

using abi::DomctlOperation;

/// An operation on a domain and the function that does it, which takes of (caller, domain,
/// argument) what it needs.
template <DomctlOperation operation, auto function>
struct Row {
    static constexpr auto number = static_cast<uint32_t>(operation);
    static Result<Answer> call(Context& c, Domain& d, abi::Domctl& op) {
        using Function = decltype(function);
        if constexpr (std::is_invocable_v<Function, Context&, Domain&, abi::Domctl&>)
            return function(c, d, op);
        else if constexpr (std::is_invocable_v<Function, Domain&, abi::Domctl&>)
            return function(d, op);
        else if constexpr (std::is_invocable_v<Function, Context&, Domain&>)
            return function(c, d);
        else
            return function(d);
    }
};

/// One that nobody does to himself.
template <DomctlOperation operation, auto function>
struct OnOthers : Row<operation, function> {
    static Result<Answer> call(Context& c, Domain& d, abi::Domctl& op) {
        if (&d == &c.domain)
            return Errno::inval;
        return Row<operation, function>::call(c, d, op);
    }
};

/// An operation that no PV domain has, and how the toolstack knows it.
template <DomctlOperation operation, Errno error>
struct Refused {
    static constexpr auto number = static_cast<uint32_t>(operation);
    static Result<Answer> call(Context&, Domain&, abi::Domctl&) { return error; }
};

template <class... Rows>
struct Table {
    /// nosys for a number that is not in the table.
    static Result<Answer> call(Context& c, Domain& d, abi::Domctl& op) {
        Result<Answer> result = Errno::nosys;
        (void)((op.command == Rows::number && (result = Rows::call(c, d, op), true)) || ...);
        return result;
    }
};

using OnDomains = Table<
    // Lifetime.
    Row<DomctlOperation::destroydomain, destroy_by_toolstack>,
    OnOthers<DomctlOperation::pausedomain, pause_by_toolstack>,
    OnOthers<DomctlOperation::unpausedomain, unpause_by_toolstack>,
    OnOthers<DomctlOperation::resumedomain, resume_domain>,
    Row<DomctlOperation::max_vcpus, create_vcpus>, Row<DomctlOperation::max_mem, set_max_memory>,
    Row<DomctlOperation::setdomainhandle, set_handle>,
    Row<DomctlOperation::settimeoffset, set_time_offset>,
    OnOthers<DomctlOperation::settscinfo, set_tsc_info>,
    OnOthers<DomctlOperation::gettscinfo, get_tsc_info>,
    OnOthers<DomctlOperation::setdebugging, set_debugging>,
    Row<DomctlOperation::set_virq_handler, set_virq_handler>,
    Row<DomctlOperation::subscribe, subscribe>,
    Row<DomctlOperation::setnodeaffinity, set_node_affinity>,
    Row<DomctlOperation::getnodeaffinity, get_node_affinity>,
    // vCPUs.
    OnOthers<DomctlOperation::setvcpucontext, set_vcpu_context>,
    OnOthers<DomctlOperation::getvcpucontext, get_vcpu_context>,
    Row<DomctlOperation::getvcpuinfo, get_vcpu_info>,
    Row<DomctlOperation::setvcpuaffinity, set_vcpu_affinity>,
    Row<DomctlOperation::getvcpuaffinity, get_vcpu_affinity>,
    Row<DomctlOperation::scheduler_op, scheduler_parameters>,
    Row<DomctlOperation::sendtrigger, send_trigger>,
    Row<DomctlOperation::set_ext_vcpucontext, set_extended_context>,
    Row<DomctlOperation::get_ext_vcpucontext, get_extended_context>,
    Row<DomctlOperation::setvcpuextstate, set_extended_state>,
    Row<DomctlOperation::getvcpuextstate, get_extended_state>,
    Row<DomctlOperation::set_vcpu_msrs, set_vcpu_msrs>,
    Row<DomctlOperation::get_vcpu_msrs, get_vcpu_msrs>,
    // Memory.
    Row<DomctlOperation::getpageframeinfo3, page_types>,
    Row<DomctlOperation::hypercall_init, write_hypercall_page>,
    Row<DomctlOperation::set_address_size, set_address_size>,
    Row<DomctlOperation::get_address_size, get_address_size>,
    // What it sees of the processor.
    Row<DomctlOperation::get_cpu_policy, get_cpu_policy>,
    Row<DomctlOperation::set_cpu_policy, set_cpu_policy>,
    Row<DomctlOperation::shadow_op, dirty_log_operation>,
    // What it may use of the machine.
    Row<DomctlOperation::ioport_permission, permit_io_ports>,
    Row<DomctlOperation::iomem_permission, permit_device_memory>,
    Row<DomctlOperation::irq_permission, permit_interrupt>,
    Row<DomctlOperation::set_target, set_target>,
    // There is no IOMMU to keep a device's DMA to its domain's memory.
    Refused<DomctlOperation::assign_device, Errno::opnotsupp>,
    Refused<DomctlOperation::test_assign_device, Errno::opnotsupp>,
    Refused<DomctlOperation::deassign_device, Errno::opnotsupp>,
    Refused<DomctlOperation::get_device_group, Errno::opnotsupp>,
    // For hardware-virtualised guests.
    Refused<DomctlOperation::gethvmcontext, Errno::inval>,
    Refused<DomctlOperation::sethvmcontext, Errno::inval>,
    Refused<DomctlOperation::gethvmcontext_partial, Errno::inval>,
    Refused<DomctlOperation::bind_pt_irq, Errno::inval>,
    Refused<DomctlOperation::unbind_pt_irq, Errno::inval>,
    Refused<DomctlOperation::memory_mapping, Errno::inval>,
    Refused<DomctlOperation::ioport_mapping, Errno::opnotsupp>,
    Refused<DomctlOperation::debug_op, Errno::inval>,
    Refused<DomctlOperation::set_broken_page_p2m, Errno::inval>,
    Refused<DomctlOperation::monitor_op, Errno::opnotsupp>,
    Refused<DomctlOperation::soft_reset, Errno::inval>,
    Refused<DomctlOperation::vmtrace_op, Errno::inval>,
    Refused<DomctlOperation::get_paging_mempool_size, Errno::opnotsupp>,
    Refused<DomctlOperation::set_paging_mempool_size, Errno::opnotsupp>,
    // What no processor or machine here is known to have.
    Refused<DomctlOperation::psr_cmt_op, Errno::nodev>,
    Refused<DomctlOperation::psr_alloc, Errno::nodev>,
    Refused<DomctlOperation::setvnumainfo, Errno::opnotsupp>>;

/// Of the first domain from the number that is asked for; the toolstack finds all of them so.
Result<Answer> get_info(abi::Domctl& op) {
    if (op.domain >= domid_first_reserved)
        return Errno::inval;
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
        DomainRef const d = TRY(DomainRef::find(op.domain)); // oneself, too, goes by a number here
        bool const ends = op.command == static_cast<uint32_t>(DomctlOperation::destroydomain);
        // Before `control` is had: who has it may be waiting for a vCPU that works off a long list.
        if (ends && may_destroy(c, *d))
            d->doomed.store(true);
        MutexGuard guard{d->control};
        if (d->dying.load() && !ends)
            return Errno::srch;
        return OnDomains::call(c, *d, op);
    }
}

} // namespace

Result<int64_t> do_domctl(Context& c, uint64_t argument) {
    GuestPointer<abi::Domctl> const pointer{argument};
    abi::Domctl op = TRY(pointer.read());
    if (op.version != abi::domctl_interface_version)
        return Errno::access;
    Answer const answer = TRY(dispatch(c, op));
    if (answer != Answer::none)
        TRY(pointer.write(op));
    if (answer == Answer::argument_and_inval)
        return Errno::inval;
    if (answer == Answer::argument_and_nobufs)
        return Errno::nobufs;
    return 0;
}

} // namespace hearth
