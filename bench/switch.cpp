// What it costs that another vCPU runs, and how late a sleeping one does: a PV kernel as Domain 0
// with two vCPUs, and domains that it makes, all on one CPU. With the word "apart" the two vCPUs
// have a CPU each, and there are no other domains. Runs on Hearth and on Xen.
//
// Prints "SWITCH name: n n n ..." for each kind, a number for each time, in ticks of the TSC or
// nanoseconds of system time, and after all of them "GUEST switch: ok".
#include "library/events.h"
#include "library/guest.h"
#include "library/pv/twins.h"
#include "library/pv/vcpus.h"

#include <iterator>

char const guest_name[] = "switch";
using namespace guest;
using namespace hearth::abi;

extern "C" {
extern char upcall_entry[];
VcpuInfo volatile* upcall_information; // of vCPU 0; those of the others lie behind it
uint64_t volatile upcall_time;         // TSC, of the last
}

// Notes when it was, takes the upcall, and goes back as the library does. rcx and r11 are on the
// stack.
static_assert(offsetof(VcpuBlock, id) == 248 && sizeof(VcpuInfo) == 1 << 6);
static_assert(offsetof(VcpuInfo, upcall_pending) == 0 && offsetof(VcpuInfo, pending_select) == 8);
asm(R"(
        .text
upcall_entry:
        mov     %rax, %r11
        mov     %rdx, %rcx
        rdtsc
        mov     %eax, upcall_time(%rip)
        mov     %edx, upcall_time+4(%rip)
        mov     %r11, %rax
        mov     %rcx, %rdx
        mov     %rsp, %rcx
        and     $-0x10000, %rcx
        mov     248(%rcx), %ecx
        shl     $6, %rcx
        add     upcall_information(%rip), %rcx
        movb    $0, (%rcx)
        movq    $0, 8(%rcx)
        jmp     event_entry
)");

namespace {

constexpr unsigned warm_up = 8, rounds = 200;
constexpr uint64_t microsecond = 1000, settling = 500 * millisecond;
constexpr uint32_t tsc_never_emulated = 2;

/// What a twin shows.
struct alignas(4096) Shown {
    uint32_t volatile port, woken;
    uint64_t volatile woken_at; // TSC
};
Shown shown;

class Samples {
    uint64_t values_[rounds];
    unsigned seen_ = 0;

public:
    [[nodiscard]] bool wanted() const { return seen_ < warm_up + rounds; }
    [[nodiscard]] unsigned seen() const { return seen_; }
    void add(uint64_t value) {
        if (seen_ >= warm_up)
            values_[seen_ - warm_up] = value;
        ++seen_;
    }
    void show(char const* name) const {
        print("SWITCH ");
        print(name);
        print(":");
        for (uint64_t const value : values_) {
            print(" ");
            print_number(static_cast<int64_t>(value));
        }
        print("\n");
    }
};

/// What each vCPU does before it waits by wait_by_upcall(), or measures: upcalls are masked, and no
/// timer ticks by itself.
void prepare_vcpu() {
    uint64_t const id = this_vcpu().id;
    upcall_information = shared->vcpu_info;
    shared->vcpu_info[id].upcall_mask = 1;
    set_handlers(reinterpret_cast<uint64_t>(upcall_entry));
    EXPECT_EQUAL(vcpu_op(VcpuOperation::stop_periodic_timer, id, nullptr), 0);
}

/// As a kernel idles: the block hypercall lets upcalls in, and one ends it.
void wait_by_upcall(uint32_t port) {
    uint64_t const id = this_vcpu().id;
    do {
        operation(Hypercall::sched_op, SchedOperation::block, nullptr);
        shared->vcpu_info[id].upcall_mask = 1;
    } while (!take_event(port));
}

using Wait = void (*)(uint32_t port);
/// Upcalls are for those who wait by them.
uint32_t opened(int64_t port, Wait wait) {
    EXPECT(port > 0);
    if (wait == wait_by_upcall)
        __atomic_fetch_and(&shared->event_mask[port / 64], ~(uint64_t{1} << port % 64),
                           __ATOMIC_SEQ_CST);
    return static_cast<uint32_t>(port);
}

/// Two ports, one to wait for and one to send by.
struct Line {
    uint32_t in, out;
    Wait wait;
};
void answer(Line const& line) {
    for (unsigned n = 0; n < warm_up + rounds; ++n) {
        line.wait(line.in);
        send(line.out);
    }
}
void measure_round_trips(char const* name, Line const& line) {
    Samples samples;
    while (samples.wanted()) {
        uint64_t const begun = read_tsc();
        send(line.out);
        line.wait(line.in);
        samples.add(read_tsc() - begun);
    }
    samples.show(name);
}

void measure_vcpus(char const* name, Wait wait) {
    Line const here{opened(bind_ipi(0), wait), opened(bind_ipi(1), wait), wait};
    static Line there;
    there = {here.out, here.in, wait};
    start_on(
        1,
        [](void*) {
            prepare_vcpu();
            answer(there);
        },
        nullptr);
    measure_round_trips(name, here);
    join(1);
    close_port(here.in);
    close_port(here.out);
}

/// A twin's, for Domain 0 to find.
uint32_t shown_port(Wait wait) {
    prepare_vcpu();
    uint32_t const port = opened(alloc_unbound(self, domain_0), wait);
    shown.port = port;
    return port;
}
void answer_domain_0(Wait wait) {
    uint32_t const port = shown_port(wait);
    answer({port, port, wait});
    sleep_for_ever();
}
void note_when_woken() {
    for (uint32_t const port = shown_port(wait_by_upcall);;) {
        wait_by_upcall(port);
        shown.woken_at = read_tsc();
        shown.woken = shown.woken + 1;
    }
}
void spin() {
    for (;;)
        ;
}

/// Its TSC is the processor's: Xen would emulate it otherwise, where that one may change its pace.
Twin make(char const* command_line) {
    Twin const twin = make_twin(command_line, &shown);
    DomctlTscInfo clock{tsc_never_emulated, 0, 0, 0, 0};
    uint16_t domain = twin.domain;
    EXPECT_EQUAL(control(DomctlOperation::settscinfo, domain, clock), 0);
    return twin;
}
Shown const& started(Twin const& twin) {
    auto const& its = *static_cast<Shown const*>(look_at(twin));
    let_run(twin);
    while (its.port == 0)
        sleep_until(now() + millisecond);
    return its;
}
/// Ours, connected to the twin's, nothing pending.
uint32_t connected_port(uint16_t domain, Shown const& its, Wait wait) {
    uint32_t const port = opened(bind_interdomain(domain, its.port), wait);
    take_event(port);
    return port;
}

void measure_domains(char const* name, char const* twins_part, Wait wait) {
    Twin const twin = make(twins_part);
    uint32_t const port = connected_port(twin.domain, started(twin), wait);
    measure_round_trips(name, {port, port, wait});
}

/// Between 0.2 and 8 ms, in step with nobody.
uint64_t some_time(Samples const& samples) {
    return 200 * microsecond + samples.seen() * 1237 * microsecond % (7800 * microsecond);
}

/// From the time for which the timer is set to the first instruction of the upcall.
void measure_lateness(char const* name, uint32_t timer) {
    sleep_until(now() + settling);
    Samples samples;
    while (samples.wanted()) {
        uint64_t const deadline = now() + some_time(samples);
        EXPECT_EQUAL(hypercall(Hypercall::set_timer_op, deadline), 0);
        wait_by_upcall(timer);
        uint64_t const ago = read_tsc() - upcall_time;
        samples.add(now() - ago - deadline);
    }
    samples.show(name);
}

/// It goes on computing when it has sent, as far as it may.
void measure_wake_up() {
    Twin const twin = make("note");
    Shown const& its = started(twin);
    uint32_t const port = connected_port(twin.domain, its, wait_for);
    Samples samples;
    while (samples.wanted()) {
        for (uint64_t const end = now() + some_time(samples); now() < end;)
            ;
        uint32_t const before = its.woken;
        uint64_t const begun = read_tsc();
        send(port);
        while (its.woken == before)
            ;
        samples.add(its.woken_at - begun);
    }
    samples.show("event to a domain that sleeps, the sender computes");
}

void measure_one_cpu() {
    uint32_t const timer = opened(bind_virq(virq_timer, 0), wait_by_upcall);
    measure_lateness("timer, the CPU idle", timer);
    measure_vcpus("two vCPUs, poll", wait_for);
    measure_vcpus("two vCPUs, block and upcall", wait_by_upcall);
    measure_domains("two domains, poll", "poll", wait_for);
    measure_domains("two domains, block and upcall", "block", wait_by_upcall);
    measure_wake_up();
    let_run(make("spin"));
    measure_lateness("timer, another domain computes", timer);
}

} // namespace

void guest_main() {
    if (command_line_has("spin"))
        spin();
    if (command_line_has("note"))
        note_when_woken();
    if (command_line_has("poll"))
        answer_domain_0(wait_for);
    if (command_line_has("block"))
        answer_domain_0(wait_by_upcall);
    prepare_vcpu();
    if (!command_line_has("apart"))
        return measure_one_cpu();
    measure_vcpus("two vCPUs on two CPUs, poll", wait_for);
    measure_vcpus("two vCPUs on two CPUs, block and upcall", wait_by_upcall);
}
