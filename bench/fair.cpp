// Who gets how much of one CPU: a PV kernel as Domain 0 that makes 128 domains of weights 1 to 8,
// which count as fast as they may, and one that sleeps and wakes. Runs on Hearth and on Xen.
//
// Prints "ALONE work" for a domain that has the CPU for itself, "SHARE weight work cpu-time" for
// each of the many over ten times as long, "LATE" for each time that the one woke how many
// nanoseconds it was late, and after all of them "GUEST fair: ok".
#include "library/guest.h"
#include "library/pv/twins.h"

#include <iterator>

char const guest_name[] = "fair";
using namespace guest;
using namespace hearth::abi;

namespace {

constexpr unsigned spinners = 128, weights = 8;
constexpr uint64_t alone_for = 1000 * millisecond, settling = 1000 * millisecond,
                   measured = 10'000 * millisecond;

/// What a twin shows: how often it has counted, or how late it was.
struct alignas(4096) Shown {
    uint64_t volatile work;
    uint32_t volatile count, padding;
    uint32_t volatile late[1020]; // ns
};
Shown shown;
static_assert(sizeof shown == 4096);

[[noreturn]] void spin() {
    for (;;)
        shown.work = shown.work + 1;
}

/// Sleeps between 6 and 16 ms at a time, so that it is in step with nobody.
[[noreturn]] void wake_now_and_then() {
    uint64_t random = 1;
    while (shown.count < std::size(shown.late)) {
        random = random * 6364136223846793005 + 1442695040888963407;
        uint64_t const deadline = now() + 6 * millisecond + (random >> 32) % (10 * millisecond);
        sleep_until(deadline);
        shown.late[shown.count] = static_cast<uint32_t>(now() - deadline);
        shown.count = shown.count + 1;
    }
    sleep_for_ever();
}

void set_weight(uint16_t domain, uint16_t weight) {
    DomctlSchedulerOp request{scheduler_credit2, scheduler_put, weight, 0, 0, 0};
    EXPECT_EQUAL(control(DomctlOperation::scheduler_op, domain, request), 0);
}
uint64_t cpu_time(uint16_t domain) {
    DomctlInfo about{};
    EXPECT_EQUAL(control(DomctlOperation::getdomaininfo, domain, about), 0);
    return about.cpu_time;
}
uint64_t work_of(Twin const& twin) { return static_cast<Shown const*>(look_at(twin))->work; }

void print_line(char const* what, std::initializer_list<uint64_t> numbers) {
    print(what);
    for (uint64_t const number : numbers) {
        print(" ");
        print_number(static_cast<int64_t>(number));
    }
    print("\n");
}

uint16_t weight_of(unsigned spinner) {
    return static_cast<uint16_t>(256 * (1 + spinner % weights));
}

Twin twins[spinners], sleeper;

void make_them() {
    for (unsigned n = 0; n < spinners; ++n) {
        twins[n] = make_twin("spin", &shown);
        set_weight(twins[n].domain, weight_of(n));
    }
    sleeper = make_twin("sleep", &shown);
}

void measure_alone() {
    let_run(twins[0]);
    sleep_until(now() + settling);
    uint64_t const before = work_of(twins[0]);
    sleep_until(now() + alone_for);
    print_line("ALONE", {work_of(twins[0]) - before});
    EXPECT_EQUAL(control(DomctlOperation::pausedomain, twins[0].domain), 0);
}

void measure_shares() {
    static uint64_t work[spinners], time[spinners];
    for (Twin const& twin : twins)
        let_run(twin);
    let_run(sleeper);
    sleep_until(now() + settling);
    uint64_t const begun = now();
    uint32_t const first = static_cast<Shown const*>(look_at(sleeper))->count;
    for (unsigned n = 0; n < spinners; ++n) {
        work[n] = work_of(twins[n]);
        time[n] = cpu_time(twins[n].domain);
    }
    sleep_until(begun + measured);
    for (unsigned n = 0; n < spinners; ++n) {
        work[n] = work_of(twins[n]) - work[n];
        time[n] = cpu_time(twins[n].domain) - time[n];
    }
    uint64_t const end = now();
    auto const* const woken = static_cast<Shown const*>(look_at(sleeper));
    uint32_t const last = woken->count;
    for (Twin const& twin : twins) // so that nobody is in the way of what is printed
        EXPECT_EQUAL(control(DomctlOperation::pausedomain, twin.domain), 0);
    print_line("TIME", {end - begun});
    for (unsigned n = 0; n < spinners; ++n)
        print_line("SHARE", {weight_of(n), work[n], time[n]});
    for (uint32_t n = first; n < last; ++n)
        print_line("LATE", {woken->late[n]});
}

} // namespace

void guest_main() {
    if (command_line_has("spin"))
        spin();
    if (command_line_has("sleep"))
        wake_now_and_then();
    // It sleeps while they are measured, and should be in time at the end. More would not be fair:
    // Xen's scheduler reckons by the largest weight.
    set_weight(domain_0, weight_of(weights - 1));
    make_them();
    measure_alone();
    measure_shares();
}
