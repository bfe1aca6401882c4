// Timers, run times, further vCPUs, and the areas that the hypervisor writes to while a vCPU runs.
#include "library/pv/vcpus.h"
#include "library/events.h"
#include "library/guest.h"
#include "library/pv/user.h"

#include <cstring>

char const guest_name[] = "vcpus";
using namespace guest;
using namespace hearth::abi;

namespace {

uint32_t const no_vcpus[] = {4, 5, 31, 32, 64, 127, 128, 129, 8191, 0x7fffffff, 0x80000000, ~0u};
uint64_t const nobodys[] = {0xffff800000000000, 0xffff828000200000, 0xffff87fffffffff8,
                            0x0000800000000000, 0x00007ffffffffff8, 0xdead00000000beef,
                            0xfffffffffffffff8, 0xffffffffffffffff};

/// Off the CPU and on it again, by way of user mode, so that all areas are written.
void run_again() {
    sleep_until(now() + millisecond);
    run_user([] { asm volatile("nop"); });
    sleep_until(now() + millisecond);
}

void vcpus_that_are_none() {
    uint64_t argument[16] = {};
    for (uint32_t const vcpu : no_vcpus)
        for (uint32_t what = 0; what < 16; ++what)
            EXPECT(vcpu_op(static_cast<VcpuOperation>(what), vcpu, argument) < 0);
}

void arguments_at_no_address() {
    for (uint64_t const address : nobodys)
        for (VcpuOperation const what :
             {VcpuOperation::get_runstate_info, VcpuOperation::register_runstate_memory_area,
              VcpuOperation::register_vcpu_time_memory_area, VcpuOperation::register_vcpu_info,
              VcpuOperation::set_periodic_timer, VcpuOperation::set_singleshot_timer,
              VcpuOperation::initialise})
            EXPECT(vcpu_op(what, what == VcpuOperation::initialise ? 3 : 0,
                           reinterpret_cast<void const*>(address)) < 0);
}

/// Areas of the hypervisor's, over borders, over tables, of nobody: nothing is written there, and
/// nobody falls over it later.
void areas_that_cannot_be_written() {
    use_user_table();
    auto* const table = static_cast<uint64_t*>(page());
    auto* const first = static_cast<char*>(page());
    void* const hole = page();
    EXPECT(first + page_size == hole);
    EXPECT_EQUAL(unmap(hole), 0);
    make_table(1, table);
    EXPECT_EQUAL(hypercall(Hypercall::vm_assist, 0, VmAssist::runstate_update_flag), 0);
    uint64_t const places[] = {reinterpret_cast<uint64_t>(table),
                               reinterpret_cast<uint64_t>(first + page_size - 8),
                               reinterpret_cast<uint64_t>(hole),
                               0xffff800000000000,
                               0xffff828000200000,
                               0xffff87fffffffff0,
                               0x00007ffffffffff0,
                               0xfffffffffffffff0,
                               0x0000800000000000};
    for (uint64_t const place : places) {
        MemoryArea const area{place};
        for (VcpuOperation const what : {VcpuOperation::register_runstate_memory_area,
                                         VcpuOperation::register_vcpu_time_memory_area}) {
            vcpu_op(what, 0, &area);
            run_again();
            if (!on_hearth())
                continue; // Xen does not always come back from what follows
            vcpu_op(what, 1, &area);
            race(5, [] { yield(); }, [] { yield(); });
        }
        for (unsigned i = 0; i < 512; ++i)
            EXPECT_EQUAL(table[i], 0);
    }
    static struct {
        RunstateInfo run;
        VcpuTimeInfo time;
    } good[2];
    for (unsigned vcpu = 0; vcpu < 2; ++vcpu) {
        MemoryArea area{reinterpret_cast<uint64_t>(&good[vcpu].run)};
        EXPECT_EQUAL(vcpu_op(VcpuOperation::register_runstate_memory_area, vcpu, &area), 0);
        area.address = reinterpret_cast<uint64_t>(&good[vcpu].time);
        EXPECT_EQUAL(vcpu_op(VcpuOperation::register_vcpu_time_memory_area, vcpu, &area), 0);
    }
    run_again();
    EXPECT(good[0].run.state_entry_time != 0);
    EXPECT_EQUAL(map_writable(hole), 0);
    end_table(table);
}

/// Empties a page that Hearth writes to whenever the vCPU comes back to its CPU, and makes it
/// read-only: once more if that was just between the two.
void empty_and_close(char* data) {
    for (unsigned tries = 0; tries < 100; ++tries) {
        memset(data, 0, page_size);
        EXPECT_EQUAL(map_read_only(data), 0);
        bool empty = true;
        for (unsigned k = 0; k < page_size; ++k)
            empty = empty && data[k] == 0;
        if (empty)
            return;
        EXPECT_EQUAL(map_writable(data), 0);
    }
}

/// The areas' page goes away, and becomes a table, while they are written.
void areas_that_become_tables() {
    static RunstateInfo elsewhere;
    auto* const data = static_cast<char*>(page());
    MemoryArea area{reinterpret_cast<uint64_t>(data) + 256};
    EXPECT_EQUAL(vcpu_op(VcpuOperation::register_runstate_memory_area, 0, &area), 0);
    for (unsigned i = 0; i < 10; ++i) {
        run_again();
        empty_and_close(data);
        EXPECT_EQUAL(pin(1, data), 0);
        run_again();
        for (unsigned k = 0; k < 512; ++k)
            EXPECT_EQUAL(reinterpret_cast<uint64_t*>(data)[k], 0);
        EXPECT_EQUAL(unpin(data), 0);
        EXPECT_EQUAL(map_writable(data), 0);
    }
    area.address = reinterpret_cast<uint64_t>(&elsewhere);
    EXPECT_EQUAL(vcpu_op(VcpuOperation::register_runstate_memory_area, 0, &area), 0);
}

/// A vCPU's information in a frame that is none of ours, over its border, twice, or in use.
void information_in_bad_places() {
    auto* const table = static_cast<uint64_t*>(page());
    make_table(1, table);
    auto const place = [](uint64_t frame, uint32_t offset) {
        RegisterVcpuInfo const request{frame, offset, 0};
        return vcpu_op(VcpuOperation::register_vcpu_info, 3, &request);
    };
    for (uint64_t const frame : {mfn_of(table), root_frame(), foreign_frame(0), foreign_frame(9),
                                 ~uint64_t{0}, uint64_t{1} << 40, uint64_t{0xfee00}})
        EXPECT(place(frame, 0) < 0);
    auto* const data = static_cast<uint64_t*>(page());
    for (uint32_t const offset :
         {1u, 2u, 4u, 63u, 4096u - 63, 4096u - 56, 4096u, 0x10000u, 0x80000000u, 0xffffffc0u, ~0u})
        EXPECT(place(mfn_of(data), offset) < 0);
    EXPECT_EQUAL(map_read_only(data), 0);
    EXPECT_EQUAL(pin(1, data), 0); // no attempt has left anything
    EXPECT_EQUAL(unpin(data), 0);
    EXPECT_EQUAL(map_writable(data), 0);
    EXPECT_EQUAL(place(mfn_of(data), 4096 - 64), 0);
    EXPECT(place(mfn_of(data), 0) < 0); // once is for ever
    // From now on it stays data, whatever happens to our mapping.
    EXPECT_EQUAL(map_read_only(data), 0);
    EXPECT(pin(1, data) < 0);
    EXPECT_EQUAL(map_writable(data), 0);
    uint64_t const frame = mfn_of(data);
    MemoryReservation const give{reinterpret_cast<uint64_t>(&frame), 1, 0, 0, self, {}};
    operation(Hypercall::memory_op, MemoryOperation::decrease_reservation, &give);
    race(20, [] { yield(); }, [] { yield(); });
    end_table(table);
}

void timers_at_odd_times() {
    int64_t const bound = bind_virq(virq_timer, 0);
    EXPECT(bound > 0);
    auto const timer = static_cast<uint32_t>(bound);
    vcpu_op(VcpuOperation::stop_periodic_timer, 0, nullptr);
    take_event(timer);
    for (uint64_t const time : {uint64_t{1}, now() - 1, now(), now() + 1}) {
        EXPECT_EQUAL(hypercall(Hypercall::set_timer_op, time), 0);
        EXPECT(comes(timer, 2000 * millisecond));
    }
    // Never, and as good as never: 0 and the far ends of what can be said.
    for (uint64_t const time :
         {uint64_t{0}, ~uint64_t{0} >> 1, (~uint64_t{0} >> 1) - 1, now() + (uint64_t{1} << 60)}) {
        hypercall(Hypercall::set_timer_op, time);
        sleep_until(now() + 2 * millisecond);
    }
    // Xen takes what is beyond them for the past.
    for (uint64_t const time : {uint64_t{1} << 63, ~uint64_t{0}})
        hypercall(Hypercall::set_timer_op, time);
    EXPECT_EQUAL(hypercall(Hypercall::set_timer_op, 0), 0);
    take_event(timer);
    EXPECT(!comes(timer, 5 * millisecond));
    EXPECT_EQUAL(close_port(timer), 0);
}

void timers_of_each_kind() {
    for (uint64_t const period : {uint64_t{0}, uint64_t{1}, uint64_t{999'999}, ~uint64_t{0},
                                  uint64_t{1} << 63, uint64_t{10'000'000'000'001}}) {
        SetPeriodicTimer const request{period};
        EXPECT(vcpu_op(VcpuOperation::set_periodic_timer, 0, &request) < 0 ||
               (!on_hearth() && period > 1'000'000));
    }
    SetPeriodicTimer const fast{millisecond};
    for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu)
        EXPECT_EQUAL(vcpu_op(VcpuOperation::set_periodic_timer, vcpu, &fast), 0);
    sleep_until(now() + 10 * millisecond);
    for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu)
        EXPECT_EQUAL(vcpu_op(VcpuOperation::stop_periodic_timer, vcpu, nullptr), 0);
    SetSingleshotTimer shot{now() - millisecond, timer_must_be_future, 0};
    EXPECT_EQUAL(vcpu_op(VcpuOperation::set_singleshot_timer, 0, &shot), 0);
    for (uint64_t const time : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{1} << 63}) {
        shot = {time, 0, 0};
        vcpu_op(VcpuOperation::set_singleshot_timer, 0, &shot);
    }
    shot.flags = ~0u;
    vcpu_op(VcpuOperation::set_singleshot_timer, 0, &shot);
    EXPECT(vcpu_op(VcpuOperation::set_singleshot_timer, 1, &shot) < 0); // another's
    EXPECT_EQUAL(vcpu_op(VcpuOperation::stop_singleshot_timer, 0, nullptr), 0);
}

void sleep_until_odd_times() {
    for (uint64_t const time : {uint64_t{1}, now() - 1, now()})
        sleep_until(time);
    // One that nothing ends but an event; it is there already.
    int64_t const bound = bind_ipi(0);
    EXPECT(bound > 0);
    auto const port = static_cast<uint32_t>(bound);
    for (uint64_t const time : {uint64_t{0}, ~uint64_t{0} >> 1, ~uint64_t{0}}) {
        EXPECT_EQUAL(send(port), 0);
        SchedPoll const nap{reinterpret_cast<uint64_t>(&port), 1, 0, time};
        EXPECT_EQUAL(operation(Hypercall::sched_op, SchedOperation::poll, &nap), 0);
    }
    EXPECT_EQUAL(close_port(port), 0);
}

/// Up, down, asked and timed by all others at once.
void vcpus_up_and_down_at_once() {
    auto const all = [] {
        for (unsigned vcpu = 1; vcpu < 4; ++vcpu) {
            RunstateInfo info;
            vcpu_op(VcpuOperation::is_up, vcpu, nullptr);
            vcpu_op(VcpuOperation::get_runstate_info, vcpu, &info);
            SetPeriodicTimer const timer{millisecond};
            vcpu_op(VcpuOperation::set_periodic_timer, vcpu, &timer);
            vcpu_op(VcpuOperation::stop_periodic_timer, vcpu, nullptr);
            if (on_hearth()) // Xen has a trap handler called where there is no callback
                vcpu_op(VcpuOperation::send_nmi, vcpu, nullptr);
            if (vcpu != this_vcpu().id && this_vcpu().id == 0) {
                vcpu_op(VcpuOperation::down, vcpu, nullptr);
                vcpu_op(VcpuOperation::up, vcpu, nullptr);
            }
        }
        yield();
    };
    race(200, all, all);
}

void sched_operations_that_are_none() {
    for (uint32_t const reason : {6u, 7u, 255u, 0x80000000u, ~0u}) {
        if (!on_hearth())
            break; // Xen shuts down for whatever reason
        SchedShutdown const request{reason};
        EXPECT(operation(Hypercall::sched_op, SchedOperation::shutdown, &request) < 0);
    }
    for (uint16_t const domain : {0, 1, 77, 0x7ff0, 0x7ff2, 0xffff}) {
        SchedRemoteShutdown const request{domain, 0, 0};
        if (domain != domain_0 || on_hearth()) // Xen lets it
            EXPECT(operation(Hypercall::sched_op, SchedOperation::remote_shutdown, &request) < 0);
    }
    for (uint32_t const id : {3u, 100u, ~0u}) {
        SchedWatchdog const request{id, 1000};
        EXPECT(operation(Hypercall::sched_op, SchedOperation::watchdog, &request) < 0);
    }
    for (uint64_t const address : nobodys)
        EXPECT(hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::shutdown),
                         address) < 0);
}

constexpr Case cases[] = {
    {"vcpus_that_are_none", "XSA-20 XSA-296", vcpus_that_are_none},
    {"arguments_at_no_address", "XSA-296 XSA-327", arguments_at_no_address},
    {"areas_that_cannot_be_written", "XSA-327", areas_that_cannot_be_written},
    {"areas_that_become_tables", "XSA-248", areas_that_become_tables},
    {"information_in_bad_places", "XSA-327", information_in_bad_places},
    {"timers_at_odd_times", "XSA-20", timers_at_odd_times},
    {"timers_of_each_kind", "XSA-20", timers_of_each_kind},
    {"sleep_until_odd_times", "XSA-20 XSA-221", sleep_until_odd_times},
    {"vcpus_up_and_down_at_once", "XSA-296", vcpus_up_and_down_at_once},
    {"sched_operations_that_are_none", "ABI", sched_operations_that_are_none},
};

} // namespace

void guest_main() { run_cases(cases); }
