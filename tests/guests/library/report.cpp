#include "library/report.h"

#include "abi/event_channel.h"
#include "library/guest.h"

#include <cstring>

namespace guest {

using namespace hearth::abi;

namespace {

unsigned failures;

/// What a guest beside Domain 0 prints by. (public/io/console.h)
struct ConsoleRing {
    char in[1024], out[2048];
    uint32_t in_consumed, in_produced, out_consumed, out_produced;
};

void print_on_ring(char const* text) {
    auto* const ring = static_cast<ConsoleRing volatile*>(page_of_frame(start_info->console.mfn));
    for (; *text; ++text) {
        while (ring->out_produced - ring->out_consumed == sizeof ring->out)
            yield();
        ring->out[ring->out_produced % sizeof ring->out] = *text;
        __atomic_thread_fence(__ATOMIC_RELEASE);
        ring->out_produced = ring->out_produced + 1;
    }
    uint32_t const port = start_info->console.event_channel;
    operation(Hypercall::event_channel_op, EventOperation::send, &port);
}

void print_digits(uint64_t n, unsigned base, bool negative) {
    char text[24];
    unsigned at = sizeof text;
    text[--at] = 0;
    do
        text[--at] = "0123456789abcdef"[n % base];
    while ((n /= base) != 0);
    if (negative)
        text[--at] = '-';
    print(text + at);
}

void print_place(int line, char const* text) {
    print("  line ");
    print_number(line);
    print(": ");
    print(text);
}

void print_case(char const* what, Case const& one) {
    print(what);
    print(one.name);
    print(" (");
    print(one.guards);
    print(")");
}

void run_case(Case const& one) {
    unsigned const before = failures;
    print_case("CASE ", one);
    print("\n");
    one.run();
    if (failures == before && !one.dies)
        return;
    if (one.dies)
        ++failures;
    print("CASE ");
    print(one.name);
    print(one.dies ? ": FAILED, it goes on\n" : ": FAILED\n");
}

bool is_asked_for(Case const& one) {
    char word[80] = "case=";
    strcat(word, one.name);
    return command_line_has(word);
}

} // namespace

void print(char const* text) {
    if (is_domain_0())
        hypercall(Hypercall::console_io, 0, strlen(text), text);
    else
        print_on_ring(text);
}

void print_number(int64_t number) {
    bool const negative = number < 0;
    print_digits(negative ? -static_cast<uint64_t>(number) : static_cast<uint64_t>(number), 10,
                 negative);
}
void print_hexadecimal(uint64_t number) { print_digits(number, 16, false); }

void expect(bool holds, char const* text, int line) {
    if (holds)
        return;
    ++failures;
    print_place(line, text);
    print("\n");
}

void expect_equal(int64_t value, int64_t wanted, char const* text, int line) {
    if (value == wanted)
        return;
    ++failures;
    print_place(line, text);
    for (int64_t const number : {value, wanted}) {
        print(number == value ? " is " : ", not ");
        print_number(number);
        print(" = 0x");
        print_hexadecimal(static_cast<uint64_t>(number));
    }
    print("\n");
}

void run_cases(std::span<Case const> cases) {
    for (Case const& one : cases)
        if (is_asked_for(one)) {
            run_case(one);
            finish();
        }
    do {
        for (Case const& one : cases) {
            if (!one.dies) {
                run_case(one);
                continue;
            }
            print_case("ALONE ", one);
            print(": ");
            print(one.dies);
            print("\n");
        }
    } while (command_line_has("again"));
}

unsigned failure_count() { return failures; }
void note_failure() { ++failures; }

void print_result() {
    print("GUEST ");
    print(guest_name);
    print(failures == 0 ? ": ok\n" : ": FAILED\n");
}

} // namespace guest
