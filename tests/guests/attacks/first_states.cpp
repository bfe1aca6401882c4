// The state that a guest gives a vCPU before it first runs.
#include "library/guest.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "first_states";
using namespace guest;
using namespace hearth::abi;

namespace {

VcpuGuestContext context;
int64_t initialise(unsigned vcpu) { return vcpu_op(VcpuOperation::initialise, vcpu, &context); }

/// Everything in a vCPU's first state that cannot be; nothing is kept of what is refused.
void first_states_that_cannot_be() {
    constexpr unsigned vcpu = 2;
    auto* const data = static_cast<uint64_t*>(page());
    auto* const l4 = static_cast<uint64_t*>(page());
    auto* const descriptors = static_cast<uint64_t*>(page());
    l4[511] = read_entry(root_frame() * page_size + uint64_t{511} * 8);
    EXPECT_EQUAL(map_read_only(l4), 0);
    EXPECT_EQUAL(map_read_only(descriptors), 0);
    auto const refused = [&](auto change) {
        fill_context(context, vcpu);
        context.control[3] = mfn_of(l4) * page_size;
        context.gdt_frames[0] = mfn_of(descriptors);
        context.gdt_entries = 8;
        change(context);
        EXPECT(initialise(vcpu) < 0);
        EXPECT(vcpu_op(VcpuOperation::up, vcpu, nullptr) < 0);
    };
    for (uint64_t const frame : {mfn_of(data), foreign_frame(0), uint64_t{0}, uint64_t{1} << 39})
        refused([=](auto& c) { c.control[3] = frame * page_size; });
    for (uint64_t const entries : {uint64_t{7169}, uint64_t{8192}, ~uint64_t{0}})
        refused([=](auto& c) { c.gdt_entries = entries; });
    refused([&](auto& c) { c.gdt_frames[0] = mfn_of(data); });
    refused([&](auto& c) { c.gdt_frames[0] = foreign_frame(0); });
    refused([&](auto& c) {
        c.gdt_entries = 7168;
        c.gdt_frames[13] = ~uint64_t{0};
    });
    if (on_hearth()) // Xen puts right, or looks later
        for (uint64_t const address : {uint64_t{0x0000800000000000}, uint64_t{1} << 63}) {
            refused([=](auto& c) { c.registers.rip = address; });
            refused([=](auto& c) { c.event_callback = address; });
            refused([=](auto& c) { c.failsafe_callback = address; });
            refused([=](auto& c) { c.syscall_callback = address; });
            refused([=](auto& c) { c.fs_base = address; });
            refused([=](auto& c) { c.gs_base_kernel = address; });
            refused([=](auto& c) { c.gs_base_user = address; });
            refused([=](auto& c) { c.debug[0] = 0xffff828000200000; });
            refused([](auto& c) { c.debug[7] = uint64_t{1} << 40; });
            refused([](auto& c) { c.ldt_entries = 8193; });
        }
    refused([](auto& c) { c.flags = 0; }); // it would begin in user mode
    // All is free again.
    EXPECT_EQUAL(map_writable(l4), 0);
    EXPECT_EQUAL(map_writable(descriptors), 0);
    EXPECT(initialise(0) < 0);
    for (uint32_t const none : {4u, 127u, 128u, 129u, 8191u, 0x80000000u, ~0u})
        EXPECT(initialise(none) < 0);
}

/// A state with flags, selectors and traps that only the hypervisor may have.
void first_state_with_wild_registers() {
    constexpr unsigned vcpu = 2;
    static uint64_t volatile flags, selectors;
    fill_context(context, vcpu);
    context.registers.rflags = ~uint64_t{0} & ~uint64_t{0x100};
    context.registers.cs = 0xe033 & ~3;
    context.registers.ss = 0xe02b & ~3;
    if (on_hearth()) { // Xen calls the failsafe callback for them
        context.registers.ds = context.registers.es = 0xe010;
        context.registers.fs = 0xe008;
        context.registers.gs = 0x1230;
    }
    context.kernel_ss = 0xe010;
    memset(context.fpu, 0xff, sizeof context.fpu); // an MXCSR that faults
    context.flags |= context_fpu_valid;
    context.registers.rip = reinterpret_cast<uint64_t>(+[] {
        uint64_t now_flags, es;
        asm volatile("pushfq; pop %0; cld; mov %%es, %1" : "=r"(now_flags), "=r"(es));
        flags = now_flags;
        selectors = es | 1;
        vcpu_op(VcpuOperation::down, vcpu, nullptr);
    });
    int64_t const result = initialise(vcpu);
    if (result < 0) {
        EXPECT(!on_hearth());
        return;
    }
    EXPECT(initialise(vcpu) < 0); // once
    EXPECT_EQUAL(vcpu_op(VcpuOperation::up, vcpu, nullptr), 0);
    for (uint64_t const end = now() + 500 * millisecond; selectors == 0 && now() < end;)
        yield();
    EXPECT(selectors != 0);
    EXPECT_EQUAL(flags & (3 << 12 | 1 << 17), 0); // neither I/O privilege nor virtual-8086 mode
    EXPECT_EQUAL(flags >> 9 & 1, 1);
    EXPECT_EQUAL(selectors & 0xfffc, 0);
    while (vcpu_op(VcpuOperation::is_up, vcpu, nullptr) == 1)
        yield();
}

constexpr Case cases[] = {
    {"first_states_that_cannot_be", "XSA-296", first_states_that_cannot_be},
    {"first_state_with_wild_registers", "XSA-53 XSA-296", first_state_with_wild_registers},
};

} // namespace

void guest_main() { run_cases(cases); }
