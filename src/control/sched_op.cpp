#include "abi/operations.h"
#include "arch/intrinsics.h"
#include "console/console.h"
#include "console/log.h"
#include "control/control.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "domain/guest_page.h"
#include "event/event.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "time/clock.h"

#include <algorithm>
#include <cstddef>
#include <span>

namespace hearth {
namespace {

using abi::SchedOperation;
using abi::VcpuOperation;

/// What a vCPU leaves any sleep for, beside events.
bool is_called(Vcpu const& v) { return nmi_is_due(v) || v.must_stay_out(); }

Result<int64_t> block(Vcpu& v) {
    v.info->upcall_mask = 0;
    while (!v.upcall_pending() && !is_called(v))
        sleep_current();
    return 0;
}

Result<int64_t> poll(Context& c, uint64_t argument) {
    auto const request = TRY(GuestPointer<abi::SchedPoll>{argument}.read());
    constexpr uint32_t most = 128;
    if (request.port_count > most)
        return Errno::inval;
    uint32_t ports[most];
    TRY((GuestPointer<uint32_t>{request.ports}.read_many({ports, request.port_count})));
    Vcpu& v = c.vcpu;
    auto const any_pending = [&]() -> Result<bool> {
        v.polling.store(true);
        for (uint32_t i = 0; i < request.port_count; ++i)
            if (TRY(event_is_pending(c.domain, ports[i])))
                return true;
        return false;
    };
    v.poll_timeout.store(false);
    c.domain.pollers.fetch_add(1);
    if (request.timeout)
        v.poll_timer.set(request.timeout);
    auto pending = any_pending();
    while (pending && !*pending && !v.poll_timeout.load() && !v.upcall_due() && !is_called(v)) {
        sleep_current();
        pending = any_pending();
    }
    v.polling.store(false);
    c.domain.pollers.fetch_sub(1);
    v.poll_timer.stop();
    TRY(pending);
    return 0;
}

Result<uint32_t> known_reason(uint32_t reason) {
    if (reason > static_cast<uint32_t>(abi::ShutdownReason::soft_reset))
        return Errno::inval;
    return reason;
}

Result<uint32_t> read_shutdown_reason(uint64_t argument) {
    return known_reason(TRY(GuestPointer<abi::SchedShutdown>{argument}.read()).reason);
}

Result<> register_info(Context& c, Vcpu& v, abi::RegisterVcpuInfo const& request) {
    if (request.offset > page_size - sizeof(abi::VcpuInfo) || request.offset % 8 != 0)
        return Errno::inval;
    if (&v != &c.vcpu && v.online.load())
        return Errno::inval;
    if (v.info_registered.exchange(true))
        return Errno::inval; // once is for ever
    auto const page = hold_writable_page(c.domain, request.mfn);
    if (!page) {
        v.info_registered.store(false);
        return page.error();
    }
    v.info_page = PageRef::adopt(*page);
    auto* const info =
        direct<abi::VcpuInfo>(PhysicalAddress{address_of(*page).raw() + request.offset});
    *info = *v.info;
    v.info = info;
    // Whatever was on its way to the old place has arrived, and is found by looking once.
    wait_for_all_cpus();
    info->pending_select = ~uint64_t{0};
    __atomic_store_n(&info->upcall_pending, uint8_t{1}, __ATOMIC_RELEASE);
    update_time_info(v);
    note_written(c.domain, v.info_page.mfn());
    return {};
}

abi::RunstateInfo runstate_of(Vcpu const& v) {
    RunTimes const times = v.times();
    abi::RunstateInfo info{static_cast<uint32_t>(times.state), 0, times.since, {}};
    for (unsigned i = 0; i < 4; ++i)
        info.time[i] = times.spent[i];
    return info;
}

/// fault: not within reach of the guest, whatever is mapped there.
Result<abi::MemoryArea> area_named(uint64_t argument, uint64_t size) {
    auto const area = TRY(GuestPointer<abi::MemoryArea>{argument}.read());
    if (!layout::guest_range_ok(area.address, size))
        return Errno::fault;
    return area;
}

Result<int64_t> bring_up(Vcpu& v) {
    if (v.setup.load() != VcpuSetup::done)
        return Errno::inval;
    if (!v.online.exchange(true)) {
        run_periodic_timer(v);
        start(v);
    }
    return 0;
}

bool anyone_is_up(Domain const& d) {
    return std::ranges::any_of(std::span{d.vcpus, d.vcpu_count},
                               [](Vcpu const* v) { return v->online.load(); });
}

/// The last one stays up, and its domain shuts down. The single-shot timer goes on: what a vCPU
/// sleeps for still comes when it is up again.
Result<int64_t> take_down(Context& c, Vcpu& v) {
    if (!v.online.exchange(false))
        return 0;
    // Asked afterwards, so that of two who go down at once one sees that nobody is left.
    if (!anyone_is_up(c.domain)) {
        v.online.store(true);
        shutdown_domain(c.domain, static_cast<uint32_t>(abi::ShutdownReason::poweroff));
        return 0;
    }
    v.periodic.stop();
    if (&v == &c.vcpu)
        v.demand(attention::border);
    else
        call_to_border(v);
    return 0;
}

} // namespace

Result<int64_t> do_sched_op(Context& c, uint32_t command, uint64_t argument) {
    switch (static_cast<SchedOperation>(command)) {
    case SchedOperation::yield:
        yield_current();
        return 0;
    case SchedOperation::block:
        return block(c.vcpu);
    case SchedOperation::shutdown:
        shutdown_domain(c.domain, TRY(read_shutdown_reason(argument)));
        return 0;
    case SchedOperation::poll:
        return poll(c, argument);
    case SchedOperation::remote_shutdown: {
        auto const request = TRY(GuestPointer<abi::SchedRemoteShutdown>{argument}.read());
        DomainRef const d = TRY(target_domain(c, request.domain));
        if (&*d == &c.domain)
            return Errno::perm;
        shutdown_domain(*d, TRY(known_reason(request.reason)));
        return 0;
    }
    case SchedOperation::shutdown_code: {
        uint32_t none = no_shutdown_code; // the first one counts
        c.domain.latched_shutdown_code.compare_exchange_strong(none,
                                                               TRY(read_shutdown_reason(argument)));
        return 0;
    }
    case SchedOperation::watchdog:
    case SchedOperation::pin_override:
        return Errno::nosys;
    }
    return Errno::nosys;
}

Result<int64_t> do_set_timer_op(Context& c, uint64_t timeout) {
    if (timeout == 0)
        c.vcpu.singleshot.stop();
    else
        c.vcpu.singleshot.set(timeout);
    return 0;
}

Result<int64_t> do_vcpu_op(Context& c, uint32_t command, uint32_t number, uint64_t argument) {
    Vcpu* const target = c.domain.vcpu(number);
    if (!target)
        return Errno::noent;
    Vcpu& v = *target;
    bool const own = &v == &c.vcpu;
    switch (static_cast<VcpuOperation>(command)) {
    case VcpuOperation::initialise:
        TRY(initialise_vcpu(v, argument));
        return 0;
    case VcpuOperation::up:
        return bring_up(v);
    case VcpuOperation::down:
        return take_down(c, v);
    case VcpuOperation::is_up:
        return v.online.load() ? 1 : 0;
    case VcpuOperation::get_runstate_info:
        TRY(GuestPointer<abi::RunstateInfo>{argument}.write(runstate_of(v)));
        return 0;
    case VcpuOperation::register_runstate_memory_area: {
        auto const area = TRY(area_named(argument, sizeof(abi::RunstateInfo)));
        v.runstate_area = GuestAddress{area.address};
        if (own) // where nothing is mapped, something may be later
            (void)GuestPointer<abi::RunstateInfo>{area.address}.write(runstate_of(v));
        return 0;
    }
    case VcpuOperation::register_vcpu_time_memory_area: {
        auto const area = TRY(area_named(argument, sizeof(abi::VcpuTimeInfo)));
        v.time_area = GuestAddress{area.address};
        update_time_info(v);
        // Linux takes its area back by address 0 before it is saved.
        if (own && area.address != 0) {
            auto const time = v.info->time; // may lie where the area is
            (void)GuestPointer<abi::VcpuTimeInfo>{area.address}.write(time);
        }
        return 0;
    }
    case VcpuOperation::set_periodic_timer: {
        auto const request = TRY(GuestPointer<abi::SetPeriodicTimer>{argument}.read());
        constexpr uint64_t shortest = 1'000'000, longest = 10'000'000'000'000;
        if (request.period < shortest || request.period > longest)
            return Errno::inval;
        v.period = request.period;
        run_periodic_timer(v);
        return 0;
    }
    case VcpuOperation::stop_periodic_timer:
        v.period = 0;
        v.periodic.stop();
        return 0;
    case VcpuOperation::set_singleshot_timer:
        if (!own)
            return Errno::inval;
        // A time that has passed is now, also for who asked to be told of it, as with Xen: a guest
        // that is told tries again, and is late again.
        v.singleshot.set(TRY(GuestPointer<abi::SetSingleshotTimer>{argument}.read()).timeout);
        return 0;
    case VcpuOperation::stop_singleshot_timer:
        if (!own)
            return Errno::inval;
        v.singleshot.stop();
        return 0;
    case VcpuOperation::register_vcpu_info:
        TRY(register_info(c, v, TRY(GuestPointer<abi::RegisterVcpuInfo>{argument}.read())));
        return 0;
    case VcpuOperation::send_nmi:
        if (argument != 0)
            return Errno::inval;
        send_nmi(v);
        return 0;
    case VcpuOperation::get_physid: {
        if (!c.domain.hardware || v.affinity().count() != 1)
            return Errno::inval;
        Cpu const& cpu = cpu_block(v.cpu());
        TRY(GuestPointer<abi::VcpuPhysicalId>{argument}.write(
            {uint64_t{cpu.acpi_id} << 32 | cpu.apic_id}));
        return 0;
    }
    }
    return Errno::nosys;
}

void wait_for_console(size_t size) {
    constexpr uint64_t patience = 1'000'000'000;
    uint64_t const end = now_ns() + patience;
    while (!console_has_room(size) && now_ns() < end)
        let_others_run();
}

Result<int64_t> do_console_io(Context&, uint32_t command, uint32_t count, uint64_t buffer) {
    switch (static_cast<abi::ConsoleOperation>(command)) {
    case abi::ConsoleOperation::write: {
        char text[128];
        for (uint32_t done = 0; done < count;) {
            uint32_t const part = count - done < sizeof text ? count - done : uint32_t{sizeof text};
            TRY(copy_from_guest(text, GuestAddress{buffer + done}, part));
            wait_for_console(2 * sizeof text); // each line feed brings a carriage return
            console_write({text, part});
            done += part;
            preempt_point();
        }
        return 0;
    }
    case abi::ConsoleOperation::read: {
        char text[128];
        size_t const got = console_read_input({text, count < sizeof text ? count : sizeof text});
        TRY(copy_to_guest(GuestAddress{buffer}, text, got));
        return static_cast<int64_t>(got);
    }
    }
    return Errno::nosys;
}

void domain_was_shut_down(Domain& domain) {
    if (!domain.hardware) {
        bool const suspended =
            domain.shutdown.load() == static_cast<uint32_t>(abi::ShutdownReason::suspend);
        if (suspended && domain.settings.suspend_port != 0)
            send_from(domain, domain.settings.suspend_port);
        else
            send_global_virq(abi::virq_dom_exc);
        return;
    }
    switch (static_cast<abi::ShutdownReason>(domain.shutdown.load())) {
    case abi::ShutdownReason::poweroff:
        log_info("Domain 0 halted: the machine stops");
        console_leave_in_order();
        arch::halt_forever();
    case abi::ShutdownReason::crash:
        log_error("Domain 0 crashed");
        leave_machine_after_crash();
    default:
        log_info("Domain 0 shut down: rebooting the machine");
        console_leave_in_order();
        reset_machine();
    }
}

} // namespace hearth
