#include "abi/sysctl.h"

#include "abi/domctl.h"
#include "arch/intrinsics.h"
#include "console/console.h"
#include "control/claims.h"
#include "control/control.h"
#include "control/cpu_policy.h"
#include "control/cpu_pool.h"
#include "control/debug_keys.h"
#include "control/domctl.h"
#include "control/operation_body.h"
#include "cpu/cpu.h"
#include "domain/guest_memory.h"
#include "memory/allocator.h"
#include "memory/page.h"
#include "time/clock.h"

#include <algorithm>
#include <cstring>

namespace hearth {
namespace {

using abi::SysctlOperation;

Result<> read_console(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlReadConsole>(op);
    uint32_t index = request.index;
    bool incremental = request.incremental != 0;
    uint32_t done = 0;
    while (done < request.count) {
        char text[256];
        size_t const room = std::min<size_t>(sizeof text, request.count - done);
        size_t const got = console_ring_read({text, room}, index, incremental);
        if (got == 0)
            break;
        TRY(copy_to_guest(GuestAddress{request.buffer + done}, text, got));
        done += static_cast<uint32_t>(got);
        incremental = true; // go on from where this piece ended
        preempt_point();
    }
    if (request.clear)
        console_ring_clear();
    request.index = index;
    request.count = done;
    set_body(op, request);
    return {};
}

void describe_machine(abi::Sysctl& op) {
    abi::SysctlPhysinfo info{};
    unsigned const cpus = machine_facts().cpu_count;
    info.threads_per_core = info.cores_per_socket = 1;
    info.cpu_count = cpus;
    info.max_cpu_id = cpus - 1;
    info.node_count = 1;
    info.cpu_khz = tsc_kilohertz();
    info.capabilities = abi::physinfo_pv | abi::physinfo_grants_v1 | abi::physinfo_grants_v2;
    // In the order of the processor's own words, of which the first are these two.
    info.hardware_capabilities[0] = arch::cpuid(1).edx;
    info.hardware_capabilities[1] = arch::cpuid(1).ecx;
    info.hardware_capabilities[2] = arch::cpuid(0x80000001).edx;
    info.hardware_capabilities[3] = arch::cpuid(0x80000001).ecx;
    info.total_pages = total_frame_count();
    info.free_pages = free_frame_count();
    info.outstanding_pages = claimed_pages();
    info.max_mfn = frame_limit().raw() - 1;
    set_body(op, info);
}

Result<> list_domains(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlDomainList>(op);
    GuestPointer<abi::DomctlInfo> const out{request.buffer};
    request.count = 0;
    for (DomainId id = request.first; id < max_domains && request.count < request.maximum; ++id) {
        if (auto const d = DomainRef::find(id))
            TRY(out.write(describe_domain(**d), request.count++));
        preempt_point_each(64, id);
    }
    set_body(op, request);
    return {};
}

Result<> cpu_times(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlGetCpuInfo>(op);
    GuestPointer<abi::SysctlCpuInfo> const out{request.buffer};
    request.count = std::min(request.maximum, machine_facts().cpu_count);
    for (uint32_t i = 0; i < request.count; ++i)
        TRY(out.write({idle_time(i)}, i));
    set_body(op, request);
    return {};
}

/// Each CPU is a core, and all are in one socket and node, until Hearth knows better.
Result<> cpu_topology(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlCpuTopology>(op);
    uint32_t const cpus = machine_facts().cpu_count;
    if (request.buffer != 0) {
        request.count = std::min(request.count, cpus);
        for (uint32_t i = 0; i < request.count; ++i)
            TRY(GuestPointer<abi::CpuTopology>{request.buffer}.write({i, 0, 0}, i));
    } else {
        request.count = cpus;
    }
    set_body(op, request);
    return {};
}

Result<> numa_nodes(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlNumaInfo>(op);
    uint32_t const room = request.count;
    constexpr uint32_t to_itself = 10;
    if (request.memory != 0 && room > 0)
        TRY(GuestPointer<abi::NodeMemory>{request.memory}.write(
            {total_frame_count() << page_shift, free_frame_count() << page_shift}));
    if (request.distances != 0 && room > 0)
        TRY(GuestPointer<uint32_t>{request.distances}.write(to_itself));
    request.count = 1;
    set_body(op, request);
    return {};
}

/// Which node a device is near: Hearth keeps track of neither.
Result<> pci_topology(abi::Sysctl const& op) {
    auto const request = body_of<abi::SysctlPciTopology>(op);
    if (request.devices == 0 || request.nodes == 0)
        return Errno::inval;
    for (uint32_t i = 0; i < request.count; ++i) {
        TRY(GuestPointer<uint32_t>{request.nodes}.write(abi::invalid_node, i));
        preempt_point();
    }
    return {};
}

Result<> cpu_pools(Context& c, abi::Sysctl& op) {
    auto request = body_of<abi::SysctlCpuPoolOp>(op);
    TRY(operate_cpu_pools(c, request));
    set_body(op, request);
    return {};
}

Result<> scheduler_parameters(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlSchedulerOp>(op);
    TRY(operate_pool_scheduler(request));
    set_body(op, request);
    return {};
}

Result<> available_heap(abi::Sysctl& op) {
    auto request = body_of<abi::SysctlAvailableHeap>(op);
    if (request.node > 0)
        return Errno::inval;
    request.bytes = free_frame_count() << page_shift;
    set_body(op, request);
    return {};
}

Result<> press_keys(abi::Sysctl const& op) {
    auto const request = body_of<abi::SysctlDebugKeys>(op);
    for (uint32_t i = 0; i < request.count; ++i) {
        handle_debug_key(TRY(GuestPointer<char>{request.keys}.read(i)));
        preempt_point();
    }
    return {};
}

Result<> operate(Context& c, abi::Sysctl& op) {
    switch (static_cast<SysctlOperation>(op.command)) {
    case SysctlOperation::readconsole:
        return read_console(op);
    case SysctlOperation::physinfo:
        describe_machine(op);
        return {};
    case SysctlOperation::sched_id:
        set_body(op, abi::SysctlSchedulerId{abi::scheduler_credit2});
        return {};
    case SysctlOperation::getdomaininfolist:
        return list_domains(op);
    case SysctlOperation::debug_keys:
        return press_keys(op);
    case SysctlOperation::getcpuinfo:
        return cpu_times(op);
    case SysctlOperation::availheap:
        return available_heap(op);
    case SysctlOperation::cputopoinfo:
        return cpu_topology(op);
    case SysctlOperation::numainfo:
        return numa_nodes(op);
    case SysctlOperation::cpupool_op:
        return cpu_pools(c, op);
    case SysctlOperation::scheduler_op:
        return scheduler_parameters(op);
    case SysctlOperation::get_cpu_levelling_caps:
        set_body(op, abi::SysctlLevellingCaps{0});
        return {};
    case SysctlOperation::get_cpu_featureset:
        return describe_cpu_features(op);
    case SysctlOperation::get_cpu_policy:
        return describe_cpu_policy(op);
    case SysctlOperation::pcitopoinfo:
        return pci_topology(op);
    case SysctlOperation::get_pmstat: // Domain 0 has no driver for the CPUs' frequencies
    case SysctlOperation::psr_cmt_op:
    case SysctlOperation::psr_alloc:
        return Errno::nodev;
    case SysctlOperation::coverage_op:
        return Errno::opnotsupp;
    }
    return Errno::nosys;
}

} // namespace

Result<int64_t> do_sysctl(Context& c, uint64_t argument) {
    GuestPointer<abi::Sysctl> const pointer{argument};
    abi::Sysctl op = TRY(pointer.read());
    if (op.version != abi::sysctl_interface_version)
        return Errno::access;
    TRY(operate(c, op));
    TRY(pointer.write(op));
    return 0;
}

} // namespace hearth
