#include "console/log.h"
#include "control/control.h"
#include "control/cpu_pool.h"
#include "control/domain_lifetime.h"
#include "control/domctl.h"
#include "control/operation_body.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "event/event.h"
#include "time/clock.h"

#include <span>

namespace hearth {
namespace {

Result<> check(abi::DomctlCreate const& request) {
    uint32_t const grant_version = request.grant_options & 0xf;
    // What is not there yet: hardware virtualisation, IOMMU, tracing.
    if (request.flags & ~abi::create_xenstore || request.iommu_options != 0 ||
        request.trace_size != 0 || request.arch.emulation_flags != 0)
        return Errno::inval;
    if (request.max_vcpus == 0 || request.max_vcpus > max_domain_vcpus || grant_version == 0 ||
        grant_version > 2 || request.grant_options >> 4 != 0)
        return Errno::inval;
    return {};
}

/// The number after the last one given out, so that those of the dead come back late.
Result<Domain*> make_with_free_number(GuestLimits const& limits) {
    static constinit std::atomic<uint32_t> last{0};
    for (unsigned tries = 0; tries < max_domains; ++tries) {
        auto const id = static_cast<DomainId>(1 + last.fetch_add(1) % (max_domains - 1u));
        if (find_domain(id))
            continue;
        auto made = make_guest(id, limits);
        if (made || made.error() != Errno::exist)
            return made;
    }
    return Errno::nomem;
}

} // namespace

Result<> create_domain(abi::Domctl& op) {
    auto const request = body_of<abi::DomctlCreate>(op);
    bool const any_number = op.domain == 0 || op.domain >= domid_first_reserved;
    if (!any_number && find_domain(op.domain))
        return Errno::exist;
    TRY(check(request));
    GuestLimits const limits{.vcpus = request.max_vcpus,
                             .grant_frames = request.max_grant_frames,
                             .maptrack_frames = request.max_maptrack_frames,
                             .grant_version = request.grant_options & 0xf,
                             .event_ports = request.max_event_port};
    if (!any_number && op.domain >= max_domains)
        return Errno::inval;
    Domain& d = *TRY(any_number ? make_with_free_number(limits) : make_guest(op.domain, limits));
    // Whoever guesses its number may destroy it meanwhile.
    DomainRef const held = DomainRef::to(d);
    memcpy(d.settings.handle, request.handle, sizeof request.handle);
    d.settings.security_id = request.security_id;
    d.settings.flags = request.flags;
    if (auto const joined = join_cpu_pool(d, request.cpu_pool); !joined) {
        MutexGuard guard{d.control};
        destroy_domain(d);
        return joined;
    }
    op.domain = d.id;
    return {};
}

bool may_destroy(Context const& c, Domain const& d) { return &d != &c.domain && !d.hardware; }

Result<Answer> destroy_by_toolstack(Context& c, Domain& d) {
    if (!may_destroy(c, d))
        return Errno::inval;
    destroy_domain(d);
    return Answer::none;
}

Result<Answer> pause_by_toolstack(Domain& d) {
    ++d.toolstack_pauses;
    pause_domain(d);
    return Answer::none;
}

Result<Answer> unpause_by_toolstack(Domain& d) {
    if (d.toolstack_pauses == 0)
        return Errno::inval;
    --d.toolstack_pauses;
    unpause_domain(d);
    return Answer::none;
}

Result<Answer> resume_domain(Domain& d) {
    if (!d.is_shut_down())
        return Answer::none;
    pause_domain(d);
    d.latched_shutdown_code.store(no_shutdown_code);
    d.shutdown.store(not_shut_down);
    unpause_domain(d);
    return Answer::none;
}

Result<Answer> create_vcpus(Domain& d, abi::Domctl const& op) {
    if (body_of<abi::DomctlMaxVcpus>(op).maximum != d.settings.max_vcpus)
        return Errno::inval;
    TRY(create_guest_vcpus(d));
    apply_scheduling(d);
    return Answer::none;
}

Result<Answer> set_max_memory(Domain& d, abi::Domctl const& op) {
    uint64_t const pages = body_of<abi::DomctlMaxMemory>(op).kibibytes >> (page_shift - 10);
    d.pages.with([&](PageList& list) { list.maximum = pages; });
    return Answer::none;
}

Result<Answer> set_handle(Domain& d, abi::Domctl const& op) {
    memcpy(d.settings.handle, op.body, sizeof d.settings.handle);
    return Answer::none;
}

Result<Answer> set_time_offset(Domain& d, abi::Domctl const& op) {
    d.settings.time_offset = body_of<abi::DomctlTimeOffset>(op).seconds;
    update_wall_clock(d);
    return Answer::none;
}

Result<Answer> set_tsc_info(Domain& d, abi::Domctl const& op) {
    constexpr uint32_t by_default = 0, never_emulate = 2;
    auto const request = body_of<abi::DomctlTscInfo>(op);
    if (request.mode > never_emulate)
        return Errno::inval;
    // The processor's own counter is what there is.
    if (request.mode != by_default && request.mode != never_emulate)
        return Errno::opnotsupp;
    d.settings.tsc_incarnation = request.incarnation;
    return Answer::none;
}

Result<Answer> get_tsc_info(Domain& d, abi::Domctl& op) {
    set_body(op, abi::DomctlTscInfo{.mode = 0,
                                    .khz = tsc_kilohertz(),
                                    .incarnation = d.settings.tsc_incarnation,
                                    .padding = 0,
                                    .elapsed = 0});
    return Answer::argument;
}

Result<Answer> set_debugging(Domain& d, abi::Domctl const& op) {
    d.settings.debugging = body_of<abi::DomctlSetDebugging>(op).enable != 0;
    return Answer::none;
}

Result<Answer> set_virq_handler(Domain& d, abi::Domctl const& op) {
    TRY(handle_global_virq(d, body_of<abi::DomctlSetVirqHandler>(op).virq));
    return Answer::none;
}

Result<Answer> subscribe(Domain& d, abi::Domctl const& op) {
    d.settings.suspend_port = body_of<abi::DomctlSubscribe>(op).port;
    return Answer::none;
}

/// One node has all memory: any set with it in is as good as any other.
Result<Answer> set_node_affinity(Domain&, abi::Domctl const& op) {
    auto const nodes = body_of<abi::DomctlNodeAffinity>(op).nodes;
    if (nodes.bit_count == 0 || !(TRY(GuestPointer<uint8_t>{nodes.bits}.read()) & 1))
        return Errno::inval;
    return Answer::none;
}

Result<Answer> get_node_affinity(Domain&, abi::Domctl const& op) {
    auto const nodes = body_of<abi::DomctlNodeAffinity>(op).nodes;
    if (nodes.bit_count == 0)
        return Errno::inval;
    TRY(GuestPointer<uint8_t>{nodes.bits}.write(1));
    return Answer::none;
}

abi::DomctlInfo describe_domain(Domain& d) {
    abi::DomctlInfo info{};
    info.domain = d.id;
    uint64_t cpu_time = 0;
    uint32_t online = 0;
    bool running = false, all_blocked = true;
    for (Vcpu* const v : std::span{d.vcpus, d.vcpu_count}) {
        RunTimes const times = v->times();
        cpu_time += times.spent[static_cast<unsigned>(RunState::running)];
        if (!v->online.load())
            continue;
        ++online;
        running |= times.state == RunState::running;
        all_blocked &= times.state == RunState::blocked;
    }
    uint32_t const shutdown = d.shutdown.load();
    uint32_t const code = shutdown != not_shut_down ? shutdown : d.latched_shutdown_code.load();
    info.flags = (d.dying.load() ? abi::info::dying : 0) |
                 (shutdown != not_shut_down ? abi::info::shut_down : 0) |
                 code << abi::info::shutdown_reason_shift | // all ones if it is not known
                 (d.toolstack_pauses != 0 ? abi::info::paused : 0) |
                 (all_blocked && online != 0 ? abi::info::blocked : 0) |
                 (running ? abi::info::running : 0) |
                 (d.settings.debugging ? abi::info::debugged : 0) |
                 (d.settings.flags & abi::create_xenstore ? abi::info::xenstore : 0);
    d.pages.with([&](PageList& list) {
        info.total_pages = list.count;
        info.max_pages = list.maximum;
        info.outstanding_pages = list.staked;
    });
    info.shared_info_frame = d.shared_info_frame.raw();
    info.cpu_time = cpu_time;
    info.online_vcpus = online;
    info.max_vcpu_id = d.vcpu_count != 0 ? d.vcpu_count - 1 : abi::info::no_vcpus;
    info.cpu_pool = pool_number(d);
    info.security_id = d.settings.security_id;
    memcpy(info.handle, d.settings.handle, sizeof info.handle);
    info.arch.emulation_flags = d.settings.emulation_flags;
    return info;
}

} // namespace hearth
