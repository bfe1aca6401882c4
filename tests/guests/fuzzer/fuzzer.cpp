// Every vCPU makes hypercalls, traps and writes that are drawn from the grammar, until its time is
// over: "seconds=N", or "steps=N" for each vCPU. "seed=N" does the same again: each step of a vCPU
// has choices of its own, whatever became of those before. "trace" (Domain 0) says each call before
// it is made, "answers" what came of it. "peer=N": another domain, to make friends with.
#include "fuzzer/instructions.h"
#include "grammar/drawer.h"
#include "library/grants.h"
#include "library/guest.h"
#include "library/pv/user.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "fuzzer";
using namespace guest;
using namespace hearth::abi;
namespace grammar = hearth::grammar;
using grammar::Choices;

extern "C" char fuzzer_event[], syscall_entry[];
asm(R"(
# Events: whoever was told stays deaf until it asks again, so that what is pending tells it once.
        .text
        .globl fuzzer_event
fuzzer_event:
        pop     %rcx
        pop     %r11
        andq    $~0x200, 16(%rsp)
        push    $0
        push    %rcx
        push    %r11
        push    %rax
        mov     $23, %eax
        syscall
)");

namespace {

constexpr unsigned play_pages = 16, seed_spread = 48;

// What the grammar's frames are at first: four of them side by side, for what takes several.
alignas(4 * page_size) char frame_pages[grammar::frame_count][page_size];
/// Between two pages that are not there, so that what goes on for long comes to an end.
alignas(page_size) char play_and_borders[play_pages + 2][page_size];
auto& play = *reinterpret_cast<char (*)[play_pages][page_size]>(play_and_borders[1]);
/// Keys for the hypervisor's console at the end of a page, behind which there is nothing.
alignas(page_size) char key_pages[2][page_size];
constexpr char harmless_keys[] = "mqerdmhm";

uint64_t frames[grammar::frame_count], others_frames[4];
/// Like the root that the kernel began with: to live in, and for anything else.
uint64_t *second_root, *other_root;
uint64_t seed, steps_wanted, peer;
unsigned vcpus;
bool trace, answers, domain0;
bool volatile over;
/// What the hypervisor says of time lies where anybody may write, so it is asked once.
struct {
    uint64_t ticks_per_millisecond, start, start_counter;
    uint64_t now() const {
        return start + (read_tsc() - start_counter) / ticks_per_millisecond * millisecond;
    }
} own_clock;

/// Behind each comes a page that is not there: the hypervisor is told to write too much there.
alignas(page_size) char arguments[most_vcpus][grammar::argument_size + page_size];
alignas(page_size) uint8_t codes[most_vcpus][page_size];

struct Player {
    uint64_t volatile steps, calls, done, faults;
    bool volatile ended, late; // late: the next NMI is for what it does
    uint64_t seen_steps, seen_at;
};
Player players[most_vcpus];

unsigned this_player() { return static_cast<unsigned>(this_vcpu().id); }

void restore_handlers() { set_handlers(reinterpret_cast<uint64_t>(fuzzer_event)); }

/// Sees traps after which a step goes on, and those that end what takes too long.
bool look_at_trap(TrapFrame& frame) {
    constexpr uint64_t debug = 1, nmi = 2, single_step = 0x100, too_long = 0x111;
    Player& player = players[this_player()];
    if (frame.vector == debug && !frame.from_user()) {
        frame.rflags &= ~single_step;
        return true;
    }
    if (frame.vector == nmi && player.late) {
        player.late = false;
        frame.vector = too_long;
    }
    return false;
}

// --- One vCPU's view, for the grammar

class Caller {
    unsigned const vcpu_;
    uint32_t touched_ = 0;

    char* image() const { return ::arguments[vcpu_]; }

public:
    explicit Caller(unsigned vcpu) : vcpu_{vcpu} {}

    uint64_t arguments() const { return reinterpret_cast<uint64_t>(image()); }
    void put(unsigned offset, uint64_t value, unsigned size) {
        if (offset + size > grammar::argument_size)
            return;
        for (unsigned slot :
             {offset / grammar::slot_size, (offset + size - 1) / grammar::slot_size})
            if (!(touched_ >> slot & 1)) {
                memset(image() + slot * grammar::slot_size, 0, grammar::slot_size);
                touched_ |= 1u << slot;
            }
        memcpy(image() + offset, &value, size);
    }
    uint64_t frame(unsigned n) { return frames[n]; }
    uint64_t other_frame(unsigned n) {
        // Not the tables that anybody lives in.
        if (n < 2)
            return mfn_of(other_root);
        if (n == 2)
            return start_info->shared_info / page_size;
        if (n == 3)
            return grant_frame();
        if (n < 8)
            return others_frames[n - 4];
        constexpr uint64_t nowhere[] = {0x10, 0xfee00, 0xfec00, 0x102000};
        return nowhere[n % 4];
    }
    uint64_t page(unsigned n) { return reinterpret_cast<uint64_t>(play[n]); }
    uint64_t domain(unsigned n) {
        return n < 4 ? self : n == 4 ? uint64_t{domain_0} : n < 7 ? peer : made_domain(n);
    }
    uint64_t made_domain(unsigned n) { return 900 + n % 4; }
    bool is_untouchable(uint64_t) { return false; }
    unsigned vcpus() { return ::vcpus; }
    uint64_t root(unsigned n) { return n == 0 ? mfn_of(second_root) : root_frame(); }
    /// Whatever it is called for ends the step.
    uint64_t handler() { return reinterpret_cast<uint64_t>(syscall_entry); }
    uint64_t now() { return own_clock.now(); }
    uint64_t keys() {
        return reinterpret_cast<uint64_t>(key_pages[1]) - (sizeof harmless_keys - 1);
    }
    /// A guest's first ports are those that it talks by; nothing near them is drawn.
    uint64_t port(unsigned n) { return domain0 ? n : n + 68; }
    bool is_toolstack() { return domain0; }
    bool accepts(grammar::Operation const& operation) {
        bool const sleeps = operation.risk == grammar::Risk::sleep || is(operation, "poll");
        if (sleeps)
            return vcpu_ != 0; // it wakes the others up
        bool const noisy = is(operation, "debug_keys") || is(operation, "console write");
        if (noisy && players[vcpu_].steps % 64 != 0)
            return false; // the console would be behind
        if (!domain0 && is(operation, "reset"))
            return false; // nobody would hear of it again
        if (answers && is(operation, "enter_acpi_sleep"))
            return false; // others than Hearth do what it refuses
        return operation.risk == grammar::Risk::none;
    }
    static bool is(grammar::Operation const& operation, char const* name) {
        return strcmp(operation.name, name) == 0;
    }
};

// --- What a vCPU does

void say_call(unsigned vcpu, grammar::Call const& call) {
    print("v");
    print_number(vcpu);
    print(" step ");
    print_number(static_cast<int64_t>(players[vcpu].steps));
    print(": ");
    print(call.operation->name);
    for (uint64_t const argument : call.arguments) {
        print(" ");
        print_hexadecimal(argument);
    }
    print(":");
    for (unsigned n = 0; n < 4; ++n) {
        print(" ");
        print_hexadecimal(reinterpret_cast<uint64_t const*>(arguments[vcpu])[n]);
    }
    print("\n");
}

void say_answer(Player const& player, char const* to, int64_t answer) {
    print("answer ");
    print_number(static_cast<int64_t>(player.steps));
    print(" ");
    print(to);
    print(": ");
    print_number(answer);
    print("\n");
}

/// Memory that came with a call becomes one of the grammar's frames, which has numbers below 64 for
/// it. All that the kernel needs has higher ones.
void learn(Choices& in, unsigned vcpu) {
    uint64_t const list = in.below(3), at = in.below(4);
    uint64_t frame;
    memcpy(&frame, arguments[vcpu] + grammar::lists_at + list * grammar::list_size + at * 8,
           sizeof frame);
    if (frame >= 0x100 && pfn_of_mfn(frame) < 64)
        frames[in.below(grammar::frame_count)] = frame;
}

/// Of those that are asked for in this way: a top-level table without the kernel.
bool leaves_the_kernel(unsigned vcpu, uint64_t list) {
    uint64_t const offset = list - reinterpret_cast<uint64_t>(arguments[vcpu]);
    if (offset >= grammar::large_at)
        return false;
    auto const* const operations = reinterpret_cast<MmuExtOp const*>(arguments[vcpu] + offset);
    for (unsigned n = 0; n < 4; ++n)
        if (operations[n].command == static_cast<uint32_t>(MmuExtCommand::new_baseptr) &&
            operations[n].argument1 != root_frame() &&
            operations[n].argument1 != mfn_of(second_root))
            return true;
    return false;
}
/// What is nearly another operation may be one that ends the guest, puts to sleep who wakes the
/// others, or makes so much noise that nobody is heard any more.
bool is_better_left(unsigned vcpu, uint64_t number, uint64_t const (&a)[6]) {
    auto const command = static_cast<uint32_t>(a[0]);
    switch (static_cast<Hypercall>(number)) {
    case Hypercall::mmuext_op:
        return leaves_the_kernel(vcpu, a[0]);
    case Hypercall::iret:
        return true;
    case Hypercall::console_io:
        return a[1] > 64;
    case Hypercall::vcpu_op:
        return command == static_cast<uint32_t>(VcpuOperation::down) &&
               static_cast<uint32_t>(a[1]) == 0;
    case Hypercall::sched_op:
        return command == static_cast<uint32_t>(SchedOperation::shutdown) ||
               command == static_cast<uint32_t>(SchedOperation::shutdown_code) ||
               (vcpu == 0 && command != static_cast<uint32_t>(SchedOperation::yield));
    default:
        return false;
    }
}
bool has_better_left(grammar::Call const& call, unsigned vcpu) {
    if (call.number != static_cast<uint64_t>(Hypercall::multicall))
        return is_better_left(vcpu, call.number, call.arguments);
    auto const* const list = reinterpret_cast<MulticallEntry const*>(arguments[vcpu]);
    for (unsigned n = 0; n < grammar::slots; ++n)
        if (is_better_left(vcpu, list[n].op, list[n].arguments))
            return true;
    return false;
}

void call(Choices& in, unsigned vcpu) {
    Caller caller{vcpu};
    grammar::Drawer drawer{in, caller};
    grammar::Call const drawn = drawer.call();
    if (has_better_left(drawn, vcpu))
        return;
    Player& player = players[vcpu];
    if (trace)
        say_call(vcpu, drawn);
    uint64_t const(&a)[6] = drawn.arguments;
    player.calls = player.calls + 1;
    int64_t const result = hypercall(drawn.number, a[0], a[1], a[2], a[3], a[4]);
    if (answers)
        return say_answer(player, drawn.operation->name, result);
    if (result < 0)
        return;
    player.done = player.done + 1;
    if (drawn.number == static_cast<uint64_t>(Hypercall::memory_op) && in.one_in(4))
        learn(in, vcpu);
}

void run_instruction(Choices& in, unsigned vcpu, bool in_user_mode) {
    Caller caller{vcpu};
    grammar::Drawer drawer{in, caller};
    uint8_t* const code = codes[vcpu] + in.below(page_size - grammar::slots * code_size);
    write_code(in, code, !domain0, vcpu != 0 && !in_user_mode,
               in_user_mode && vcpu != 0 && in.one_in(4));
    Operands const operands{in.below(8) ? drawer.somewhere() : drawer.something(),
                            drawer.somewhere(),
                            drawer.something(),
                            drawer.something(),
                            in.below(2)
                                ? in.below(64)
                                : interesting_registers[in.below(std::size(interesting_registers))],
                            drawer.something()};
    if (!in_user_mode) {
        run_code(code, operands);
        return;
    }
    use_user_table();
    run_user([&] { run_code(code, operands); });
}

/// Into user mode where there may be nothing.
void jump(Choices& in, unsigned vcpu) {
    Caller caller{vcpu};
    grammar::Drawer drawer{in, caller};
    UserEntry entry{in.below(2) ? drawer.somewhere() : drawer.something(),
                    drawer.somewhere(),
                    in.number(4),
                    0xe033,
                    0xe02b,
                    drawer.something(),
                    drawer.something()};
    if (in.one_in(8))
        entry.rsp = drawer.something();
    if (in.one_in(8))
        entry.cs = in.number(2) | 3;
    if (in.one_in(8))
        entry.ss = in.number(2) | 3;
    use_user_table();
    enter_user_at(entry);
}

void write(Choices& in, unsigned vcpu) {
    Caller caller{vcpu};
    grammar::Drawer drawer{in, caller};
    auto* const place = reinterpret_cast<uint64_t volatile*>(drawer.somewhere());
    *place = drawer.something();
}

void offer(Choices& in, unsigned vcpu) {
    Caller caller{vcpu};
    grammar::Drawer drawer{in, caller};
    uint32_t const reference = drawer.offered();
    uint64_t const value = drawer.offer();
    if (in.below(4)) {
        *reinterpret_cast<uint64_t volatile*>(&grant_v1(reference)) = value;
        return;
    }
    auto* const halves = reinterpret_cast<uint64_t volatile*>(&grant_v2(reference));
    halves[0] = value & 0xffffffff;
    halves[1] = value >> 32;
}

/// What is shared with the hypervisor: asks for events, or says what is not so.
void scribble(Choices& in) {
    VcpuInfo volatile& info = shared->vcpu_info[this_player()];
    switch (in.below(4)) {
    case 0:
        shared->event_pending[in.below(2)] = in.number(8);
        break;
    case 1:
        shared->event_mask[in.below(2)] = in.number(8);
        break;
    case 2:
        info.pending_select = in.number(8);
        break;
    default:
        shared->event_mask[0] = 0;
        info.upcall_mask = 0;
    }
}

void step(Choices& in, unsigned vcpu) {
    switch (in.below(32)) {
    case 0:
    case 1:
        return offer(in, vcpu);
    case 2:
        return write(in, vcpu);
    case 3:
        restore_handlers();
        return run_instruction(in, vcpu, false);
    case 4:
        restore_handlers();
        return run_instruction(in, vcpu, true);
    case 5:
        if (vcpu == 0 || in.below(4)) // nobody would wake the first from a loop
            return scribble(in);
        restore_handlers();
        return jump(in, vcpu);
    default:
        return call(in, vcpu);
    }
}

// --- The first vCPU looks after the others

void see_to(unsigned vcpu, uint64_t time) {
    constexpr uint64_t patience = 300 * millisecond, lost = 60'000 * millisecond;
    Player& player = players[vcpu];
    if (player.ended || player.steps != player.seen_steps || player.seen_at == 0) {
        player.seen_steps = player.steps;
        player.seen_at = time;
        return;
    }
    if (time - player.seen_at < patience)
        return;
    if (time - player.seen_at > lost) {
        print("fuzzer: a vCPU does not come back: ");
        print_number(vcpu);
        print("\n");
        note_failure();
        finish();
    }
    player.late = true;
    vcpu_op(VcpuOperation::send_nmi, vcpu, nullptr);
    vcpu_op(VcpuOperation::up, vcpu, nullptr);
}

void report(char const* what) {
    uint64_t calls = 0, done = 0, faults = 0;
    for (Player const& player : players) {
        calls += player.calls;
        done += player.done;
        faults += player.faults;
    }
    print("fuzzer: ");
    print(what);
    print_number(static_cast<int64_t>(calls));
    print(" calls, ");
    print_number(static_cast<int64_t>(done));
    print(" done, ");
    print_number(static_cast<int64_t>(faults));
    print(" faults\n");
}

void look_around(uint64_t end) {
    static uint64_t last_look, last_report;
    uint64_t const time = own_clock.now();
    if (time >= end)
        over = true;
    if (time - last_look > 20 * millisecond) {
        last_look = time;
        for (unsigned n = 1; n < vcpus; ++n)
            see_to(n, time);
    }
    if (time - last_report > 1000 * millisecond) {
        last_report = time;
        report("");
    }
}

/// One step after the other until an exception: the next begins behind it, deaf to events.
void make_steps(Player& player, unsigned vcpu, uint64_t end) {
    while (!player.ended) {
        Choices in{(seed + vcpu) << seed_spread ^ seed * 0x9e3779b97f4a7c15 ^ player.steps};
        player.steps = player.steps + 1;
        step(in, vcpu);
        if (vcpu == 0)
            look_around(end);
        player.ended = over || player.steps >= steps_wanted;
    }
    // Nothing is to come behind the end.
    restore_handlers();
    asm volatile("int3");
}

void play_on(unsigned vcpu, uint64_t end) {
    this_vcpu().hook = look_at_trap;
    Player& player = players[vcpu];
    while (!player.ended) {
        Fault const fault = attempt([&] { make_steps(player, vcpu, end); });
        if (answers)
            say_answer(player, "trap", static_cast<int64_t>(fault.vector));
        player.faults = player.faults + 1;
    }
}

void set_up() {
    own_clock.start = now();
    own_clock.start_counter = read_tsc();
    while (now() < own_clock.start + 10 * millisecond)
        ;
    own_clock.ticks_per_millisecond = (read_tsc() - own_clock.start_counter) / 10;
    set_up_grants();
    for (unsigned n = 0; n < 4; ++n)
        others_frames[n] = foreign_frame(n);
    auto const* const root = reinterpret_cast<uint64_t const*>(start_info->page_table_base);
    for (uint64_t** const copy : {&second_root, &other_root}) {
        *copy = static_cast<uint64_t*>(page());
        (*copy)[511] = root[511];
        make_table(4, *copy);
    }
    for (unsigned i = 0; i < grammar::frame_count; ++i) {
        frames[i] = mfn_of(frame_pages[i]);
        EXPECT_EQUAL(unmap(frame_pages[i]), 0);
    }
    for (unsigned i = 0; i < play_pages; ++i)
        EXPECT_EQUAL(i % 2 ? unmap(play[i]) : map_other(play[i], frames[30 + i / 2], all_rights),
                     0);
    for (unsigned const border : {0u, play_pages + 1})
        EXPECT_EQUAL(unmap(play_and_borders[border]), 0);
    for (auto& area : arguments)
        EXPECT_EQUAL(unmap(area + grammar::argument_size), 0);
    memcpy(key_pages[1] - (sizeof harmless_keys - 1), harmless_keys, sizeof harmless_keys - 1);
    EXPECT_EQUAL(unmap(key_pages[1]), 0);
    hypercall(Hypercall::vm_assist, 0, 2); // writable page tables
}

} // namespace

void guest_main() {
    constexpr uint64_t no_end = ~uint64_t{0};
    domain0 = is_domain_0();
    vcpus = vcpu_count();
    answers = command_line_has("answers");
    trace = domain0 && command_line_has("trace");
    seed = command_line_number("seed", read_tsc());
    peer = command_line_number("peer", 0);
    steps_wanted = command_line_number("steps", no_end);
    uint64_t const seconds = command_line_number("seconds", steps_wanted == no_end ? 10 : no_end);
    set_up();
    print("fuzzer: seed=");
    print_number(static_cast<int64_t>(seed));
    print(" vCPUs=");
    print_number(vcpus);
    print("\n");
    for (unsigned n = 1; n < vcpus; ++n)
        start_on(n, [](void*) { play_on(this_player(), 0); }, nullptr);
    play_on(0, seconds == no_end ? no_end : own_clock.now() + seconds * 1000 * millisecond);
    for (bool waiting = true; waiting;) {
        waiting = false;
        for (unsigned n = 1; n < vcpus; ++n)
            waiting |= !players[n].ended;
        look_around(no_end);
        yield();
    }
    report("the end: ");
}
