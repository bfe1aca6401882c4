// Switching between stacks, by the C library's contexts. A vCPU's stack holds its register frame only; its code runs on
// a larger one, since sanitizers need room.
#include "arch/context.h"
#include "arch/host/machine.h"
#include "arch/intrinsics.h"
#include "memory/stacks.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <ucontext.h>

#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" [[noreturn]] void resume_guest_frame(hearth::Registers* frame);

namespace hearth {
namespace {

constexpr size_t flow_stack_size = 512 * 1024;

struct Flow {
    ucontext_t context{};
    void (*function)(void*) = nullptr;
    void* argument = nullptr;
    std::unique_ptr<char[]> stack;
    bool is_thread = false; // of sched/: thread_first_activation() comes first
    void* fake_stack = nullptr;
    void const* bottom = nullptr;
    size_t size = 0;
};

Flow driver;
Flow* running[host::cpu_limit];
bool in_cpu = false;
Flow* arrived_from = nullptr;

/// Flows are never freed: whoever might still switch to one would find it gone.
std::vector<std::unique_ptr<Flow>>& all_flows() {
    static std::vector<std::unique_ptr<Flow>> flows;
    return flows;
}

void arrive(Flow& self) {
#if __has_feature(address_sanitizer)
    __sanitizer_finish_switch_fiber(self.fake_stack, &arrived_from->bottom, &arrived_from->size);
#endif
    (void)self;
}

void switch_flows(Flow& from, Flow& to) {
    arrived_from = &from;
#if __has_feature(address_sanitizer)
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
    swapcontext(&from.context, &to.context);
    arrive(from);
}

void begin(unsigned high, unsigned low) {
    Flow& self = *reinterpret_cast<Flow*>(uint64_t{high} << 32 | low);
    arrive(self);
    if (self.is_thread)
        thread_first_activation();
    self.function(self.argument);
    fputs("a flow of control ended\n", stderr);
    arch::halt_forever();
}

Flow& make_flow(void (*function)(void*), void* argument, bool is_thread) {
    Flow& flow = *all_flows().emplace_back(std::make_unique<Flow>());
    flow.function = function;
    flow.argument = argument;
    flow.is_thread = is_thread;
    flow.stack.reset(new char[flow_stack_size]);
    getcontext(&flow.context);
    flow.context.uc_stack.ss_sp = flow.stack.get();
    flow.context.uc_stack.ss_size = flow_stack_size;
    flow.bottom = flow.stack.get();
    flow.size = flow_stack_size;
    auto const address = reinterpret_cast<uint64_t>(&flow);
    makecontext(&flow.context, reinterpret_cast<void (*)()>(begin), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address));
    return flow;
}

} // namespace

namespace host {

void (*guest_program)(Registers& frame) = nullptr;

bool on_cpu_flow() { return in_cpu; }
void start_cpu(unsigned cpu, void (*function)(void*), void* argument) {
    running[cpu] = &make_flow(function, argument, false);
}
void run_cpu(unsigned cpu) {
    unsigned const before = current_cpu();
    set_current_cpu(cpu);
    in_cpu = true;
    switch_flows(driver, *running[cpu]);
    in_cpu = false;
    set_current_cpu(before);
}
void leave_cpu() { switch_flows(*running[current_cpu()], driver); }

} // namespace host

namespace arch {

extern "C" void switch_stacks(uint64_t* save, uint64_t load) {
    unsigned const cpu = host::current_cpu();
    Flow& from = *running[cpu];
    *save = reinterpret_cast<uint64_t>(&from);
    running[cpu] = reinterpret_cast<Flow*>(load);
    switch_flows(from, *running[cpu]);
}

uint64_t prepare_stack(uint64_t, void (*function)(void*), void* argument) {
    return reinterpret_cast<uint64_t>(&make_flow(function, argument, true));
}

} // namespace arch

Result<uint64_t> allocate_stack() {
    static auto& stacks = *new std::vector<void*>; // all there ever were: they are not given back
    stacks.push_back(aligned_alloc(arch::stack_size, arch::stack_size));
    return reinterpret_cast<uint64_t>(memset(stacks.back(), 0, arch::stack_size));
}

} // namespace hearth

void resume_guest_frame(hearth::Registers* frame) {
    using namespace hearth;
    if (host::guest_program)
        host::guest_program(*frame);
    fputs("there is no guest to enter\n", stderr);
    arch::halt_forever();
}
