#include "library/pv/traps.h"

#include "library/guest.h"

extern "C" {
extern char trap_stubs[], event_entry[], failsafe_entry[], syscall_entry[], syscall32_entry[],
    sysenter_entry[], attempt_failed[], user_left[];
void guest_trap(guest::TrapFrame* frame);
}

namespace guest {

using namespace hearth::abi;

namespace {

constexpr uint64_t kernel_cs = 0xe030, flat_ss = 0xe02b, plain_flags = 2; // events stay masked

void go_on_at(TrapFrame& frame, char const* where, uint64_t stack) {
    frame.rip = reinterpret_cast<uint64_t>(where);
    frame.cs = kernel_cs;
    frame.ss = flat_ss;
    frame.rflags = plain_flags;
    frame.rsp = stack;
}

[[noreturn]] void die_of(TrapFrame const& frame) {
    note_failure();
    print("  unexpected trap ");
    print_hexadecimal(frame.vector);
    print(" error ");
    print_hexadecimal(frame.error);
    print(" at ");
    print_hexadecimal(frame.rip);
    print(" for ");
    print_hexadecimal(shared->vcpu_info[this_vcpu().id].cr2);
    print(", cs ");
    print_hexadecimal(frame.cs);
    print(" rsp ");
    print_hexadecimal(frame.rsp);
    print(" block ");
    print_hexadecimal(reinterpret_cast<uint64_t>(&this_vcpu()));
    print("\n");
    finish();
}

void register_callback(CallbackType type, char const* entry) {
    CallbackRegister const request{static_cast<uint16_t>(type), 0, 0,
                                   reinterpret_cast<uint64_t>(entry)};
    operation(Hypercall::callback_op, CallbackOperation::register_callback, &request);
}

} // namespace

bool readable(void const* address) {
    return survives([=] { (void)*static_cast<char const volatile*>(address); });
}
bool writable_at(void* address, uint64_t value) {
    return survives([=] { *static_cast<uint64_t volatile*>(address) = value; });
}

uint64_t trap_stub(unsigned vector) { return reinterpret_cast<uint64_t>(trap_stubs) + vector * 32; }

void set_trap(uint8_t vector, uint8_t flags, uint64_t address) {
    TrapInfo const list[2] = {{vector, flags, 0xe033, 0, address}, {}};
    hypercall(Hypercall::set_trap_table, list);
}

void set_handlers(uint64_t event) {
    constexpr unsigned exceptions = 32;
    constexpr uint8_t system_call = 0x80;
    static TrapInfo traps[exceptions + 2];
    for (uint8_t v = 0; v < exceptions; ++v)
        traps[v] = {v, static_cast<uint8_t>(v == 3 || v == 4 ? 3 : 0), 0xe033, 0, trap_stub(v)};
    traps[exceptions] = {system_call, 3, 0xe033, 0, trap_stub(system_call)};
    hypercall(Hypercall::set_trap_table, traps);
    hypercall(Hypercall::set_callbacks, event ? event : reinterpret_cast<uint64_t>(event_entry),
              failsafe_entry, syscall_entry);
    register_callback(CallbackType::syscall32, syscall32_entry);
    register_callback(CallbackType::sysenter, sysenter_entry);
    hypercall(Hypercall::stack_switch, flat_ss,
              reinterpret_cast<uint64_t>(&this_vcpu()) + entry_stack_end);
}

} // namespace guest

void guest_trap(guest::TrapFrame* frame) {
    using namespace guest;
    VcpuBlock& block = this_vcpu();
    frame->cs &= 0xffff;
    if (block.hook && block.hook(*frame))
        return;
    constexpr uint64_t nmi = 2; // another vCPU's doing, and nobody's fault
    if (frame->vector == nmi)
        return;
    block.fault = {frame->vector, frame->error,  shared->vcpu_info[block.id].cr2,
                   frame->rip,    frame->rflags, frame->cs};
    if (frame->from_user() && block.user_stack != 0) {
        block.user_frame = *frame;
        return go_on_at(*frame, user_left, block.user_stack);
    }
    if (block.recover == 0)
        die_of(*frame);
    go_on_at(*frame, attempt_failed, block.recover);
}
