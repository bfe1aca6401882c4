#include "library/pv/vcpus.h"

#include "library/guest.h"

#include <cstring>

extern "C" {
extern char vcpu_entry[], event_entry[], failsafe_entry[], syscall_entry[];
[[noreturn]] void vcpu_started();
}

namespace guest {

using namespace hearth::abi;

namespace {

alignas(stack_size) char stacks[most_vcpus - 1][stack_size];

struct Job {
    void (*function)(void*);
    void* argument;
    bool volatile waiting, initialised;
} jobs[most_vcpus];

uint64_t volatile race_end;

} // namespace

unsigned vcpu_count() {
    unsigned n = 1;
    while (n < most_vcpus && vcpu_op(VcpuOperation::is_up, n, nullptr) >= 0)
        ++n;
    return n;
}

void fill_context(VcpuGuestContext& c, unsigned vcpu) {
    memset(&c, 0, sizeof c);
    c.flags = context_in_kernel;
    c.fpu[0] = 0x7f; // control word 0x37f
    c.fpu[1] = 3;
    c.fpu[25] = 0x1f; // MXCSR 0x1f80
    c.fpu[24] = 0x80;
    char* const stack = stacks[vcpu - 1];
    auto& block = *reinterpret_cast<VcpuBlock*>(stack);
    block = {};
    block.id = vcpu;
    c.registers.rip = reinterpret_cast<uint64_t>(vcpu_entry);
    c.registers.rsp = reinterpret_cast<uint64_t>(stack) + stack_size;
    c.registers.rflags = 0x202;
    c.registers.cs = 0xe033;
    c.registers.ss = 0xe02b;
    c.kernel_ss = 0xe02b;
    c.kernel_sp = reinterpret_cast<uint64_t>(stack) + entry_stack_end;
    c.control[3] = root_frame() * page_size;
    c.event_callback = reinterpret_cast<uint64_t>(event_entry);
    c.failsafe_callback = reinterpret_cast<uint64_t>(failsafe_entry);
    c.syscall_callback = reinterpret_cast<uint64_t>(syscall_entry);
}

void start_on(unsigned vcpu, void (*function)(void*), void* argument) {
    Job& job = jobs[vcpu];
    job.function = function;
    job.argument = argument;
    __atomic_store_n(&job.waiting, true, __ATOMIC_SEQ_CST);
    if (!job.initialised) {
        static VcpuGuestContext context;
        fill_context(context, vcpu);
        EXPECT_EQUAL(vcpu_op(VcpuOperation::initialise, vcpu, &context), 0);
        job.initialised = true;
    }
    EXPECT_EQUAL(vcpu_op(VcpuOperation::up, vcpu, nullptr), 0);
}

void join(unsigned vcpu) {
    while (jobs[vcpu].waiting || vcpu_op(VcpuOperation::is_up, vcpu, nullptr) == 1)
        yield();
}

void begin_race(uint64_t milliseconds) { race_end = now() + milliseconds * millisecond; }
bool race_goes_on() { return now() < race_end; }

} // namespace guest

void vcpu_started() {
    using namespace guest;
    set_handlers();
    for (Job& job = jobs[this_vcpu().id];;) {
        job.function(job.argument);
        __atomic_store_n(&job.waiting, false, __ATOMIC_SEQ_CST);
        // Goes on from here when it is brought up again.
        vcpu_op(VcpuOperation::down, this_vcpu().id, nullptr);
    }
}
