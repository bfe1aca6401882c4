#include "guest.h"

#include "abi/event_channel.h"

extern "C" {
extern char trap_stubs[], event_entry[], failsafe_entry[], probe_failed[];
extern uint64_t probe_stack;
[[noreturn]] void guest_start(hearth::abi::StartInfo* info);

struct TrapFrame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
void guest_trap(TrapFrame* frame);

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
}

namespace guest {

using namespace hearth::abi;

StartInfo* start_info;
Trap last_trap;
uint64_t unexpected_traps;

namespace {

unsigned failures;
alignas(4096) char pool[64][4096];
unsigned pool_used;
TrapInfo traps[33];

size_t length(char const* text) {
    size_t n = 0;
    while (text[n])
        ++n;
    return n;
}

} // namespace

namespace {

bool is_domain_0() { return (start_info->flags & start_privileged) != 0; }

/// What a guest beside Domain 0 prints by. (public/io/console.h)
struct ConsoleRing {
    char in[1024], out[2048];
    uint32_t in_consumed, in_produced, out_consumed, out_produced;
};

/// A frame of ours that we were started with: all of them are mapped in the order of their numbers.
void* page_of_frame(uint64_t mfn) {
    uint64_t const pfn = reinterpret_cast<uint64_t const*>(0xffff800000000000)[mfn];
    return reinterpret_cast<void*>(virt_base + pfn * page_size);
}

void print_on_ring(char const* text) {
    auto* const ring = static_cast<ConsoleRing volatile*>(page_of_frame(start_info->console.mfn));
    for (; *text; ++text) {
        while (ring->out_produced - ring->out_consumed == sizeof ring->out)
            hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::yield), 0);
        ring->out[ring->out_produced % sizeof ring->out] = *text;
        __atomic_thread_fence(__ATOMIC_RELEASE);
        ring->out_produced = ring->out_produced + 1;
    }
    uint32_t const port = start_info->console.event_channel;
    hypercall(Hypercall::event_channel_op, static_cast<uint64_t>(EventOperation::send), &port);
}

} // namespace

void print(char const* text) {
    if (is_domain_0())
        hypercall(Hypercall::console_io, 0, length(text), text);
    else
        print_on_ring(text);
}

void print_number(int64_t number) {
    char text[24];
    unsigned at = sizeof text;
    text[--at] = 0;
    bool const negative = number < 0;
    uint64_t n = negative ? -static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    do
        text[--at] = static_cast<char>('0' + n % 10);
    while ((n /= 10) != 0);
    if (negative)
        text[--at] = '-';
    print(text + at);
}

void expect(bool holds, char const* text, int line) {
    if (holds)
        return;
    ++failures;
    print("  line ");
    print_number(line);
    print(": ");
    print(text);
    print("\n");
}

uint64_t mfn_of_pfn(uint64_t pfn) { return reinterpret_cast<uint64_t*>(start_info->p2m_list)[pfn]; }

int64_t update_va_mapping(void const* address, uint64_t value, uint64_t flags) {
    return hypercall(Hypercall::update_va_mapping, address, value, flags);
}
int64_t mmu_update(uint64_t pointer, uint64_t value) {
    MmuUpdate request{pointer, value};
    return hypercall(Hypercall::mmu_update, &request, 1, 0, 0x7ff0);
}
int64_t mmuext(MmuExtCommand command, uint64_t argument1, uint64_t argument2) {
    MmuExtOp op{static_cast<uint32_t>(command), 0, argument1, argument2};
    return hypercall(Hypercall::mmuext_op, &op, 1, 0, 0x7ff0);
}

uint64_t read_entry(uint64_t machine_address) {
    // Our tables are mapped, read-only, from page_table_base on: the M2P tells where.
    uint64_t const pfn =
        reinterpret_cast<uint64_t const*>(0xffff800000000000)[machine_address / page_size];
    return *reinterpret_cast<uint64_t const*>(virt_base + pfn * page_size +
                                              machine_address % page_size);
}

uint64_t entry_address(void const* address, unsigned level) {
    uint64_t const a = reinterpret_cast<uint64_t>(address);
    uint64_t table = mfn_of(reinterpret_cast<void*>(start_info->page_table_base));
    for (unsigned l = 4;; --l) {
        uint64_t const at = table * page_size + (a >> (12 + 9 * (l - 1)) & 511) * 8;
        if (l == level)
            return at;
        table = read_entry(at) >> 12 & 0xffffffffff;
    }
}

void* page() {
    if (pool_used == 64) {
        print("out of pages\n");
        finish();
    }
    return pool[pool_used++];
}

void print_result() {
    print("GUEST ");
    print(guest_name);
    print(failures == 0 && unexpected_traps == 0 ? ": ok\n" : ": FAILED\n");
}

void finish() {
    print_result();
    SchedShutdown shutdown{is_domain_0() ? 1u : 0u}; // reboot: the emulator is told to stop then
    for (;;)
        hypercall(Hypercall::sched_op, 2, &shutdown);
}

void sleep_for_ever() {
    SchedPoll const nothing{}; // no port, no time; events are masked from the start
    for (;;)
        hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::poll), &nothing);
}

} // namespace guest

void guest_trap(TrapFrame* frame) {
    guest::last_trap = {frame->vector, frame->error, frame->rip, 0};
    if (probe_stack != 0) {
        frame->rip = reinterpret_cast<uint64_t>(probe_failed);
        frame->cs = 0xe033 & ~3ull;
        frame->ss = 0xe02b;
        frame->rflags = 0x202;
        frame->rsp = probe_stack;
        return;
    }
    ++guest::unexpected_traps;
    guest::print("  unexpected trap ");
    guest::print_number(static_cast<int64_t>(frame->vector));
    guest::print(" at ");
    guest::print_number(static_cast<int64_t>(frame->rip));
    guest::print("\n");
    guest::finish();
}

void guest_start(hearth::abi::StartInfo* info) {
    using namespace guest;
    start_info = info;
    for (unsigned v = 0; v < 32; ++v)
        traps[v] = {static_cast<uint8_t>(v), static_cast<uint8_t>(v == 3 || v == 4 ? 3 : 0), 0xe033,
                    0, reinterpret_cast<uint64_t>(trap_stubs) + v * 32};
    hypercall(Hypercall::set_trap_table, traps);
    hypercall(Hypercall::set_callbacks, event_entry, failsafe_entry, 0);
    guest_main();
    finish();
}
