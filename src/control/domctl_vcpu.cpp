#include "console/log.h"
#include "control/cpu_bitmap.h"
#include "control/cpu_pool.h"
#include "control/domctl.h"
#include "control/operation_body.h"
#include "cpu/cpu.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "memory/allocator.h"
#include "time/clock.h"

#include <memory>
#include <span>

namespace hearth {
namespace {

/// For as long as it lives none of the domain's vCPUs is in the guest.
class Pause {
    Domain& domain_;

public:
    explicit Pause(Domain& domain) : domain_{domain} { pause_domain(domain); }
    ~Pause() { unpause_domain(domain_); }
    Pause(Pause const&) = delete;
    Pause& operator=(Pause const&) = delete;
};

struct FreeBytes {
    void operator()(void* bytes) const { free_bytes(bytes); }
};
/// What is too large for a stack, zeroed.
template <class T>
using Buffer = std::unique_ptr<T, FreeBytes>;
template <class T>
Result<Buffer<T>> buffer(size_t size = sizeof(T)) {
    return Buffer<T>{static_cast<T*>(TRY(allocate_bytes(size)))};
}

/// srch: it has none of that number; `own`: the caller's own domain, whose vCPUs cannot wait for
/// themselves.
Result<Vcpu*> vcpu_of_other(Context& c, Domain& d, uint32_t number, Errno own = Errno::inval) {
    Vcpu* const v = d.vcpu(number);
    if (!v)
        return Errno::srch;
    if (&d == &c.domain)
        return own;
    return v;
}
/// inval: it has none of that number.
Result<Vcpu*> vcpu_of(Domain& d, uint32_t number) {
    Vcpu* const v = d.vcpu(number);
    if (!v)
        return Errno::inval;
    return v;
}

} // namespace

Result<Answer> set_vcpu_context(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlVcpuContext>(op);
    Vcpu& v = *TRY(vcpu_of(d, request.vcpu));
    auto const context = TRY(buffer<abi::VcpuGuestContext>());
    TRY(copy_from_guest(context.get(), GuestAddress{request.context}, sizeof *context));
    Pause pause{d};
    TRY(load_vcpu_context(v, *context));
    return Answer::none;
}

Result<Answer> get_vcpu_context(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlVcpuContext>(op);
    Vcpu& v = *TRY(vcpu_of(d, request.vcpu));
    if (v.setup.load() != VcpuSetup::done)
        return Errno::nodata;
    auto const context = TRY(buffer<abi::VcpuGuestContext>());
    {
        Pause pause{d};
        store_vcpu_context(v, *context);
    }
    TRY(copy_to_guest(GuestAddress{request.context}, context.get(), sizeof *context));
    return Answer::none;
}

Result<Answer> get_vcpu_info(Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlVcpuInfo>(op);
    Vcpu& v = *TRY(vcpu_of(d, request.vcpu));
    RunTimes const times = v.times();
    request.online = v.online.load();
    request.blocked = times.state == RunState::blocked;
    request.running = times.state == RunState::running;
    request.cpu_time = times.spent[static_cast<unsigned>(RunState::running)];
    request.cpu = v.cpu();
    set_body(op, request);
    return Answer::argument;
}

Result<Answer> set_vcpu_affinity(Domain& d, abi::Domctl& op) {
    auto const request = body_of<abi::DomctlVcpuAffinity>(op);
    Vcpu& v = *TRY(vcpu_of(d, request.vcpu));
    if (request.flags == 0 ||
        request.flags & ~(abi::affinity_hard | abi::affinity_soft | abi::affinity_force))
        return Errno::inval;
    if (request.flags & abi::affinity_hard) {
        CpuMask const wanted = TRY(read_cpus(request.hard));
        CpuMask const possible = wanted & pool_cpus(d);
        if (possible.empty())
            return Errno::inval;
        v.hard_affinity = wanted;
        place(v);
        TRY(write_cpus(request.hard, possible));
    }
    if (request.flags & abi::affinity_soft) {
        CpuMask const wanted = TRY(read_cpus(request.soft));
        if ((wanted & online_cpus()).empty())
            return Errno::inval;
        set_preferred_cpus(v, wanted);
        TRY(write_cpus(request.soft, wanted & v.affinity()));
    }
    return Answer::none;
}

Result<Answer> get_vcpu_affinity(Domain& d, abi::Domctl& op) {
    auto const request = body_of<abi::DomctlVcpuAffinity>(op);
    Vcpu& v = *TRY(vcpu_of(d, request.vcpu));
    if (request.flags == 0 || request.flags & ~(abi::affinity_hard | abi::affinity_soft))
        return Errno::inval;
    if (request.flags & abi::affinity_hard)
        TRY(write_cpus(request.hard, v.hard_affinity));
    if (request.flags & abi::affinity_soft)
        TRY(write_cpus(request.soft, v.preferred_cpus()));
    return Answer::none;
}

void apply_scheduling(Domain& d) {
    bool const capped = d.settings.cap != 0;
    if (capped)
        d.cap.set_allowance(Cap::period / 100 * d.settings.cap, now_ns());
    for (Vcpu* const v : std::span{d.vcpus, d.vcpu_count}) {
        set_weight(*v, d.settings.weight);
        set_cap(*v, capped ? &d.cap : nullptr);
        place(*v);
    }
}

Result<Answer> scheduler_parameters(Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlSchedulerOp>(op);
    if (request.scheduler != abi::scheduler_credit2)
        return Errno::inval;
    switch (request.command) {
    case abi::scheduler_get:
        request.weight = static_cast<uint16_t>(d.settings.weight);
        request.cap = static_cast<uint16_t>(d.settings.cap);
        set_body(op, request);
        return Answer::argument;
    case abi::scheduler_put:
        if (request.cap > 100 * d.vcpu_count)
            return Errno::inval;
        if (request.weight != 0)
            d.settings.weight = request.weight;
        d.settings.cap = request.cap;
        apply_scheduling(d);
        return Answer::none;
    default:
        return Errno::inval;
    }
}

Result<Answer> send_trigger(Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlSendTrigger>(op);
    Vcpu* const v = d.vcpu(request.vcpu);
    if (!v)
        return Errno::srch;
    if (request.trigger == abi::trigger_power || request.trigger == abi::trigger_sleep)
        return Errno::inval; // buttons of an emulated machine
    if (request.trigger != abi::trigger_nmi)
        return Errno::nosys;
    send_nmi(*v);
    return Answer::none;
}

Result<Answer> set_extended_context(Context& c, Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlExtendedContext>(op);
    Vcpu& v = *TRY(vcpu_of_other(c, d, request.vcpu, Errno::srch));
    constexpr uint32_t without_machine_check = offsetof(abi::DomctlExtendedContext, machine_check);
    if (request.size < without_machine_check)
        return Errno::inval;
    Pause pause{d};
    TRY(load_extended_context(v, request));
    return Answer::none;
}

Result<Answer> get_extended_context(Context& c, Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlExtendedContext>(op);
    Vcpu& v = *TRY(vcpu_of_other(c, d, request.vcpu, Errno::srch));
    Pause pause{d};
    store_extended_context(v, request);
    request.size = sizeof request;
    set_body(op, request);
    return Answer::argument;
}

namespace {
/// Before the processor's own layout come the bits of XCR0: the guest's, and all that it ever set.
struct ExtendedStateHeader {
    uint64_t xcr0, xcr0_accumulated;
};
} // namespace

Result<Answer> get_extended_state(Context& c, Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlExtendedState>(op);
    Vcpu& v = *TRY(vcpu_of_other(c, d, request.vcpu));
    ExtendedState const state = extended_state(v);
    uint64_t const size = sizeof(ExtendedStateHeader) + state.area.size();
    if (request.size == 0 && request.features == 0) { // how large is it?
        request.size = size;
        request.features = state.features;
        set_body(op, request);
        return Answer::argument;
    }
    if (request.size < size || request.features != state.features)
        return Errno::inval;
    Pause pause{d};
    ExtendedStateHeader const header{extended_state(v).xcr0, state.features};
    TRY(copy_to_guest(GuestAddress{request.buffer}, &header, sizeof header));
    TRY(copy_to_guest(GuestAddress{request.buffer} + sizeof header, state.area.data(),
                      state.area.size()));
    return Answer::none;
}

Result<Answer> set_extended_state(Context& c, Domain& d, abi::Domctl const& op) {
    auto const request = body_of<abi::DomctlExtendedState>(op);
    Vcpu& v = *TRY(vcpu_of_other(c, d, request.vcpu));
    ExtendedState const state = extended_state(v);
    constexpr uint64_t smallest = sizeof(ExtendedStateHeader) + 576; // x87, SSE and the header
    if (request.size < smallest || request.size > sizeof(ExtendedStateHeader) + state.area.size())
        return Errno::inval;
    ExtendedStateHeader header{};
    uint64_t const area_size = request.size - sizeof header;
    auto const area = TRY(buffer<std::byte>(state.area.size()));
    TRY(copy_from_guest(&header, GuestAddress{request.buffer}, sizeof header));
    TRY(copy_from_guest(area.get(), GuestAddress{request.buffer} + sizeof header, area_size));
    Pause pause{d};
    TRY(load_extended_state(v, header.xcr0, {area.get(), area_size}));
    return Answer::none;
}

Result<Answer> get_vcpu_msrs(Context& c, Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlVcpuMsrs>(op);
    Vcpu& v = *TRY(vcpu_of_other(c, d, request.vcpu));
    uint32_t const room = std::exchange(request.count, most_vcpu_msrs);
    if (request.msrs != 0) {
        abi::VcpuMsr msrs[most_vcpu_msrs];
        Pause pause{d};
        request.count = store_msrs(v, msrs);
        if (request.count <= room)
            TRY((GuestPointer<abi::VcpuMsr>{request.msrs}.write_many({msrs, request.count})));
    }
    set_body(op, request);
    return request.msrs != 0 && request.count > room ? Answer::argument_and_nobufs
                                                     : Answer::argument;
}

/// On an error the count says which of them it is.
Result<Answer> set_vcpu_msrs(Context& c, Domain& d, abi::Domctl& op) {
    auto request = body_of<abi::DomctlVcpuMsrs>(op);
    Vcpu& v = *TRY(vcpu_of_other(c, d, request.vcpu));
    GuestPointer<abi::VcpuMsr> const msrs{request.msrs};
    Pause pause{d};
    for (uint32_t i = 0; i < request.count; ++i) {
        abi::VcpuMsr const msr = TRY(msrs.read(i));
        if (msr.reserved != 0 || !load_msr(v, msr)) {
            request.count = i;
            set_body(op, request);
            return Answer::argument_and_inval;
        }
        if (!goes_on_after(c, 16, i))
            break;
    }
    return Answer::none;
}

} // namespace hearth
