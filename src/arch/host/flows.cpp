// Switching between stacks. A vCPU's stack holds its register frame only; its code runs on a larger
// one, since sanitizers need room. Not by the C library's contexts: each switch of those is a
// system call, and a dozen more under the address sanitizer.
//
// CPUs are coroutines of the one thread that drives them all, in turn; or each has a thread of its
// own that drives it, and then the sanitizer for races has something to look at.
#include "arch/context.h"
#include "arch/host/machine.h"
#include "arch/intrinsics.h"
#include "memory/stacks.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#if __has_feature(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
#endif

extern "C" [[noreturn]] void resume_guest_frame(hearth::Registers* frame);

namespace hearth {
namespace {

constexpr size_t flow_stack_size = 512 * 1024;

struct Flow {
    void* stack_pointer = nullptr; // while it does not run
    void (*function)(void*) = nullptr;
    void* argument = nullptr;
    std::unique_ptr<char[]> stack;
    bool is_thread = false; // of sched/: thread_first_activation() comes first
    void* fake_stack = nullptr;
    void const* bottom = nullptr;
    size_t size = 0;
    void* fiber = nullptr; // the thread sanitizer's
};

/// What belongs to the thread that drives a CPU. Asked for anew after each switch: the flow may
/// have come to another thread meanwhile.
struct Driver {
    Flow flow;
    bool in_cpu = false;
    Flow* arrived_from = nullptr;
    Flow* arriving = nullptr;
};
[[gnu::noinline]] Driver& driver() {
    static thread_local Driver mine;
    return mine;
}
Flow* running[host::cpu_limit];
std::mutex stacks_mutex; // guards the three collections below

/// Flows are never freed: whoever might still switch to one would find it gone.
std::vector<std::unique_ptr<Flow>>& all_flows() {
    static std::vector<std::unique_ptr<Flow>> flows;
    return flows;
}

// SAFETY: pushes and pops what a C++ call preserves, and no more is live across a call;
// prepare_flow() lays a new stack out in this order.
[[gnu::naked]] void switch_stack_pointers(void** /*save: rdi*/, void* /*load: rsi*/) {
    asm("push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, (%rdi)\n"
        "mov %rsi, %rsp\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret");
}
constexpr unsigned preserved_registers = 6;

void arrive(Flow& self) {
#if __has_feature(address_sanitizer)
    Flow& from = *driver().arrived_from;
    __sanitizer_finish_switch_fiber(self.fake_stack, &from.bottom, &from.size);
#endif
    (void)self;
}

void switch_flows(Flow& from, Flow& to) {
    driver().arrived_from = &from;
    driver().arriving = &to;
#if __has_feature(thread_sanitizer)
    if (!from.fiber)
        from.fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to.fiber, 0);
#endif
#if __has_feature(address_sanitizer)
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
    switch_stack_pointers(&from.stack_pointer, to.stack_pointer);
    arrive(from);
}

void begin() {
    Flow& self = *driver().arriving;
    arrive(self);
    if (self.is_thread)
        thread_first_activation();
    self.function(self.argument);
    fputs("a flow of control ended\n", stderr);
    arch::halt_forever();
}

std::map<uint64_t, Flow*>& flow_of_stack() {
    static std::map<uint64_t, Flow*> flows;
    return flows;
}
std::vector<uint64_t>& free_stacks() {
    static std::vector<uint64_t> stacks;
    return stacks;
}

void prepare_flow(Flow& flow, void (*function)(void*), void* argument, bool is_thread) {
    flow.function = function;
    flow.argument = argument;
    flow.is_thread = is_thread;
    flow.fake_stack = nullptr;
    if (!flow.stack) {
        flow.stack.reset(new char[flow_stack_size]);
        memset(flow.stack.get(), host::canary, flow_stack_size);
    }
#if __has_feature(address_sanitizer)
    // Whatever its last owner left on it is dead.
    ASAN_UNPOISON_MEMORY_REGION(flow.stack.get(), flow_stack_size);
#endif
#if __has_feature(thread_sanitizer)
    if (flow.fiber)
        __tsan_destroy_fiber(flow.fiber);
    flow.fiber = __tsan_create_fiber(0);
#endif
    flow.bottom = flow.stack.get();
    flow.size = flow_stack_size;
    auto* top = reinterpret_cast<void**>(flow.stack.get() + flow_stack_size);
    *--top = nullptr; // to where begin() does not return
    *--top = reinterpret_cast<void*>(begin);
    for (unsigned i = 0; i < preserved_registers; ++i)
        *--top = nullptr;
    flow.stack_pointer = top;
}

Flow& make_flow(void (*function)(void*), void* argument, bool is_thread) {
    Flow& flow = *all_flows().emplace_back(std::make_unique<Flow>());
    prepare_flow(flow, function, argument, is_thread);
    return flow;
}

} // namespace

namespace host {

void (*guest_program)(Registers& frame) = nullptr;

bool on_cpu_flow() { return driver().in_cpu; }
void start_cpu(unsigned cpu, void (*function)(void*), void* argument) {
    running[cpu] = &make_flow(function, argument, false);
}
void run_cpu(unsigned cpu) {
    unsigned const before = current_cpu();
    set_current_cpu(cpu);
    driver().in_cpu = true;
    switch_flows(driver().flow, *running[cpu]);
    driver().in_cpu = false;
    set_current_cpu(before);
}
void leave_cpu() { switch_flows(*running[current_cpu()], driver().flow); }

} // namespace host

namespace arch {

extern "C" void switch_stacks(uint64_t* save, uint64_t load) {
    unsigned const cpu = host::current_cpu();
    Flow& from = *running[cpu];
    *save = reinterpret_cast<uint64_t>(&from);
    running[cpu] = reinterpret_cast<Flow*>(load);
    switch_flows(from, *running[cpu]);
}

uint64_t prepare_stack(uint64_t stack_end, Thread&, void (*function)(void*), void* argument) {
    std::scoped_lock const guard{stacks_mutex};
    Flow*& flow = flow_of_stack()[stack_end];
    if (flow)
        prepare_flow(*flow, function, argument, true); // the stack had another owner, who is gone
    else
        flow = &make_flow(function, argument, true);
    return reinterpret_cast<uint64_t>(flow);
}

} // namespace arch

static std::vector<void*>& all_stacks() {
    static auto& stacks = *new std::vector<void*>;
    return stacks;
}
/// Looks past what the sanitizer knows of a stack's locals.
[[clang::no_sanitize("address")]] static size_t stack_used(char* stack) {
    auto const* const bytes = reinterpret_cast<uint8_t const volatile*>(stack);
    size_t untouched = 0;
    while (untouched < flow_stack_size && bytes[untouched] == host::canary)
        untouched += 64;
    return flow_stack_size - untouched;
}
size_t host::deepest_stack() {
    size_t deepest = 0;
    for (auto const& flow : all_flows())
        deepest = std::max(deepest, stack_used(flow->stack.get()));
    return deepest;
}

uint64_t host::stack_count() { return all_stacks().size() - free_stacks().size(); }

Result<uint64_t> allocate_stack() {
    if (arch::allocation_fails())
        return Errno::nomem;
    std::scoped_lock const guard{stacks_mutex};
    auto& stacks = all_stacks();
    if (free_stacks().empty()) {
        stacks.push_back(aligned_alloc(arch::stack_size, arch::stack_size));
        free_stacks().push_back(reinterpret_cast<uint64_t>(stacks.back()));
    }
    uint64_t const stack = free_stacks().back();
    free_stacks().pop_back();
    memset(reinterpret_cast<void*>(stack), 0, arch::stack_size);
    return stack;
}

void free_stack(uint64_t stack) {
    std::scoped_lock const guard{stacks_mutex};
    free_stacks().push_back(stack);
}

} // namespace hearth

void resume_guest_frame(hearth::Registers* frame) {
    using namespace hearth;
    if (host::guest_program)
        host::guest_program(*frame);
    fputs("there is no guest to enter\n", stderr);
    arch::halt_forever();
}
