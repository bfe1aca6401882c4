// From the first instruction to guest_main(), and what every guest has from then on.
#include "abi/event_channel.h"
#include "library/guest.h"

#include <cstring>

extern "C" {
[[noreturn]] void guest_start(hearth::abi::StartInfo* info);

void* memset(void* to, int value, size_t size) {
    for (size_t i = 0; i < size; ++i)
        static_cast<char volatile*>(to)[i] = static_cast<char>(value);
    return to;
}
void* memcpy(void* to, void const* from, size_t size) {
    for (size_t i = 0; i < size; ++i)
        static_cast<char volatile*>(to)[i] = static_cast<char const*>(from)[i];
    return to;
}
size_t strlen(char const* text) {
    size_t n = 0;
    while (static_cast<char const volatile*>(text)[n])
        ++n;
    return n;
}
int strcmp(char const* a, char const* b) {
    for (; *a && *a == *b; ++a, ++b)
        ;
    return static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
}
char* strcat(char* to, char const* more) {
    memcpy(to + strlen(to), more, strlen(more) + 1);
    return to;
}
}

namespace guest {

using namespace hearth::abi;

StartInfo* start_info;
SharedInfo volatile* shared;

namespace {

alignas(4096) char pool[96][4096];
unsigned pool_used;

void map_shared_info() {
    void* const place = page();
    update_va_mapping(place, entry(start_info->shared_info / page_size, all_rights));
    shared = static_cast<SharedInfo volatile*>(place);
    // A port that is masked becomes pending, and that is all: nobody is called.
    for (uint64_t volatile& mask : shared->event_mask)
        mask = ~uint64_t{0};
}

/// Where a word of the command line that begins so goes on in a way that fits, or null.
char const* find_in_command_line(char const* start, bool (*fits)(char next)) {
    auto const* const line = reinterpret_cast<char const*>(start_info->command_line);
    size_t const size = strlen(start);
    for (char const* at = line; *at; ++at) {
        bool same = at == line || at[-1] == ' ';
        for (size_t i = 0; i < size && same; ++i)
            same = at[i] == start[i];
        if (same && fits(at[size]))
            return at + size;
    }
    return nullptr;
}

} // namespace

bool is_domain_0() { return (start_info->flags & start_privileged) != 0; }

bool on_hearth() {
    static char extra[16];
    if (extra[0] == 0)
        operation(Hypercall::xen_version, VersionOperation::extra_version, extra);
    return extra[2] == '-' && extra[3] == 'h';
}

bool command_line_has(char const* word) {
    return find_in_command_line(word, [](char next) { return next == 0 || next == ' '; });
}
uint64_t command_line_number(char const* name, uint64_t otherwise) {
    char const* at = find_in_command_line(name, [](char next) { return next == '='; });
    if (!at)
        return otherwise;
    uint64_t number = 0;
    while (*++at >= '0' && *at <= '9')
        number = number * 10 + static_cast<uint64_t>(*at - '0');
    return number;
}

void* page() {
    if (pool_used == sizeof pool / page_size) {
        print("out of pages\n");
        note_failure();
        finish();
    }
    return pool[pool_used++];
}

uint64_t read_tsc() {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return uint64_t{high} << 32 | low;
}

uint64_t now() {
    VcpuTimeInfo const volatile& time = shared->vcpu_info[0].time;
    for (;;) {
        uint32_t const version = time.version;
        // Another CPU's may have been read a moment later than this one's.
        uint64_t const counter = read_tsc(), from = time.tsc_timestamp;
        uint64_t delta = counter > from ? counter - from : 0;
        delta = time.tsc_shift >= 0 ? delta << time.tsc_shift : delta >> -time.tsc_shift;
        uint64_t const result =
            time.system_time +
            static_cast<uint64_t>(static_cast<unsigned __int128>(delta) * time.tsc_to_system_mul >>
                                  32);
        if (version % 2 == 0 && version == time.version)
            return result;
    }
}

void yield() { operation(Hypercall::sched_op, SchedOperation::yield, nullptr); }

void sleep_until(uint64_t deadline) {
    SchedPoll const poll{0, 0, 0, deadline};
    do
        operation(Hypercall::sched_op, SchedOperation::poll, &poll);
    while (now() < deadline);
}

void finish() {
    print_result();
    SchedShutdown shutdown{is_domain_0() ? 1u : 0u}; // reboot: the emulator is told to stop then
    for (;;)
        operation(Hypercall::sched_op, SchedOperation::shutdown, &shutdown);
}

void sleep_for_ever() {
    SchedPoll const nothing{}; // no port, no time; events are masked from the start
    for (;;)
        operation(Hypercall::sched_op, SchedOperation::poll, &nothing);
}

} // namespace guest

void guest_start(hearth::abi::StartInfo* info) {
    using namespace guest;
    start_info = info;
    map_shared_info();
    set_handlers();
    guest_main();
    finish();
}
