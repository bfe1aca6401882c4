// Ways into the hypervisor and back out of it: flags, addresses, stacks and frames that cannot be.
#include "library/guest.h"
#include "library/pv/user.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "entry";
using namespace guest;
using namespace hearth::abi;

namespace {

namespace flag {
constexpr uint64_t trap = 1 << 8, interrupts = 1 << 9, direction = 1 << 10, iopl = 3 << 12,
                   nested = 1 << 14, resume = 1 << 16, vm = 1 << 17, alignment = 1 << 18,
                   identification = 1 << 21;
constexpr uint64_t not_in_handlers = trap | nested | resume | vm | alignment | iopl;
// What a processor's own entry for system calls clears as well, where a kernel has it do so.
constexpr uint64_t not_in_system_calls = not_in_handlers | direction;
} // namespace flag

constexpr uint64_t low_end = 0x0000800000000000;       // the first address that is not canonical
constexpr uint64_t hypervisor_at = 0xffff830000000000; // somewhere in its half
uint64_t const not_canonical[] = {low_end, 0xffff7fffffffffff, 0xdead00000000beef,
                                  0x8000000000000000};

uint64_t version() { return static_cast<uint64_t>(hypercall(Hypercall::xen_version, 0, 0)); }
void expect_alive() { EXPECT_EQUAL(version(), 4 << 16 | 17); }

void syscall_in_user_mode(uint64_t number) {
    asm volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
}

void user_syscall_is_no_hypercall() {
    use_user_table();
    for (uint64_t const number : {17, 29, 13, 23, 2}) {
        UserExit const left = run_user([=] { syscall_in_user_mode(number); });
        EXPECT_EQUAL(left.vector, by_syscall);
        EXPECT_EQUAL(left.frame.rax, number);
    }
}

void syscall_without_callback() {
    use_user_table();
    hypercall(Hypercall::set_callbacks, 0, 0, 0);
    UserExit const left = run_user([] { syscall_in_user_mode(0); });
    set_handlers();
    // As where there is no such instruction.
    EXPECT_EQUAL(left.vector, 6);
    EXPECT_EQUAL(*reinterpret_cast<uint16_t const*>(left.rip), 0x050f);
    expect_alive();
}

/// Flags as a user process can set them with popf, or the kernel gives them to it.
void flags_on_the_way_in() {
    use_user_table();
    uint64_t const sets[] = {flag::nested, flag::alignment, flag::direction,
                             flag::nested | flag::alignment | flag::direction,
                             flag::identification};
    for (uint64_t const set : sets) {
        UserExit left = run_user([] { syscall_in_user_mode(0); }, set | 0x202);
        EXPECT_EQUAL(left.vector, by_syscall);
        EXPECT_EQUAL(handler_flags & flag::not_in_system_calls, 0);
        EXPECT_EQUAL(left.rflags & set, set);
        left = run_user([] { asm volatile("int $0x80" : : : "memory"); }, set | 0x202);
        EXPECT_EQUAL(left.vector, 0x80);
        EXPECT_EQUAL(handler_flags & flag::not_in_handlers, 0);
        left = run_user([] { asm volatile("int3" : : : "memory"); }, set | 0x202);
        EXPECT_EQUAL(left.vector, 3);
        left = run_user([] { asm volatile("sysenter" : : : "memory"); }, set | 0x202);
        EXPECT(left.vector == by_sysenter || left.vector == 6);
        EXPECT_EQUAL(handler_flags & flag::not_in_handlers, 0);
        expect_alive();
    }
}

void single_step_into_everything() {
    use_user_table();
    EXPECT_EQUAL(run_user([] { asm volatile("nop"); }, flag::trap | 0x202).vector, 1);
    // The step is reported before or after, never in the hypervisor. Here the kernel goes on.
    static uint64_t steps;
    steps = 0;
    this_vcpu().hook = [](TrapFrame& frame) {
        if (frame.vector == 1)
            ++steps;
        return frame.vector == 1;
    };
    for (unsigned i = 0; i < 4; ++i) {
        run_user([] { syscall_in_user_mode(0); }, flag::trap | 0x202);
        run_user([] { asm volatile("int $0x80" : : : "memory"); }, flag::trap | 0x202);
        UserExit const left =
            run_user([] { asm volatile("sysenter"
                                       :
                                       :
                                       : "memory"); }, flag::trap | 0x202);
        EXPECT(left.vector != by_sysenter || (left.rflags & flag::trap));
    }
    uint64_t const from_user = steps;
    uint64_t number = 17, result;
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq; syscall; nop; nop; pushfq; andq $~0x100, "
                 "(%%rsp); popfq"
                 : "=a"(result)
                 : "a"(number), "D"(0), "S"(0)
                 : "rcx", "r11", "memory");
    this_vcpu().hook = nullptr;
    EXPECT(from_user != 0 && steps > from_user);
    EXPECT_EQUAL(result, 4 << 16 | 17);
}

void kernel_flags_through_hypercalls() {
    for (uint64_t const set : {flag::nested, flag::direction, flag::alignment,
                               flag::nested | flag::direction | flag::alignment}) {
        char text[1024];
        memset(text, 0x55, sizeof text);
        uint64_t after;
        int64_t result = 17;
        asm volatile("pushfq; orq %[set], (%%rsp); popfq; syscall; pushfq; pop %[after]; pushfq; "
                     "andq %[clear], (%%rsp); popfq"
                     : "+a"(result), [after] "=&r"(after)
                     : [set] "r"(set), [clear] "r"(~set), "D"(9), "S"(text + 1)
                     : "rcx", "r11", "memory");
        EXPECT_EQUAL(result, 0);
        EXPECT_EQUAL(after & set, set);
        EXPECT_EQUAL(text[0], 0x55); // the command line, forwards
        EXPECT(text[1] != 0x55 || text[2] != 0x55);
    }
}

/// Returns by the hypercall to `rip`, on this stack.
void iret_to(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t ss, uint64_t kind = 0) {
    asm volatile("mov %%rsp, %%rbx; push %[ss]; push %%rbx; push %[flags]; push %[cs]; push "
                 "%[rip]; push %[kind]; push $0; push $0; push $0; mov $23, %%eax; syscall"
                 :
                 : [rip] "r"(rip), [cs] "r"(cs), [flags] "r"(flags), [ss] "r"(ss), [kind] "r"(kind)
                 : "rax", "rbx", "rcx", "r11", "memory");
}

void iret_grants_no_flags() {
    use_user_table();
    static uint64_t seen;
    // All that can be asked for but single steps.
    run_user([] { asm volatile("pushfq; pop %0" : "=r"(seen)); }, ~(flag::trap | flag::alignment));
    EXPECT_EQUAL(seen & (flag::iopl | flag::vm | uint64_t{3} << 19), 0);
    EXPECT_EQUAL(seen & flag::interrupts, flag::interrupts);
    // Neither by popf.
    run_user([] {
        asm volatile("pushq $-0x40101; popfq; pushfq; pop %0" : "=r"(seen));
        asm volatile("pushq $2; popfq");
    });
    EXPECT_EQUAL(seen & (flag::iopl | flag::vm), 0);
    EXPECT_EQUAL(seen & flag::interrupts, flag::interrupts);
}

/// What a kernel's `syscall` left in rcx and r11 is not shown to whom it goes on with.
void iret_in_syscall_leaves_what_sysret_does() {
    for (uint64_t const flags : {uint64_t{0x202}, 0x202 | flag::resume}) {
        uint64_t rcx, r11, place;
        asm volatile("mov %%rsp, %%rbx; push $0xe02b; push %%rbx; push %[flags]; push $0xe030; "
                     "lea 1f(%%rip), %%rax; push %%rax; push %[kind]; push $0; push $0; push $0; "
                     "mov $23, %%eax; stc; syscall; ud2; "
                     "1: mov %%rcx, %[rcx]; mov %%r11, %[r11]; lea 1b(%%rip), %[place]"
                     : [rcx] "=r"(rcx), [r11] "=r"(r11), [place] "=r"(place)
                     : [flags] "r"(flags), [kind] "r"(uint64_t{iret_in_syscall})
                     : "rax", "rbx", "rcx", "r11", "memory");
        EXPECT_EQUAL(rcx, place);
        EXPECT_EQUAL(r11 & ~flag::resume, 0x202);
    }
}

void iret_to_no_address() {
    use_user_table();
    for (uint64_t const address : not_canonical)
        for (uint64_t const kind : {uint64_t{0}, iret_in_syscall}) {
            // A fault of iret, or of the place that it went to.
            uint64_t const kernel =
                attempt([=] { iret_to(address, 0xe030, 0x202, 0xe02b, kind); }).vector;
            EXPECT(kernel == by_failsafe || kernel == 13);
            UserEntry entry = user_entry_for(nullptr, nullptr);
            entry.rip = address;
            uint64_t const user = enter_user_at(entry).vector;
            EXPECT(user == by_failsafe || user == 13);
        }
    expect_alive();
}

void iret_to_the_hypervisor() {
    use_user_table();
    for (uint64_t const address :
         {uint64_t{0xffff828000200000}, hypervisor_at, uint64_t{0xffff87ffffffffff}}) {
        EXPECT_EQUAL(attempt([=] { iret_to(address, 0xe030, 0x202, 0xe02b); }).vector, 14);
        UserEntry entry = user_entry_for(nullptr, nullptr);
        entry.rip = address;
        EXPECT_EQUAL(enter_user_at(entry).vector, 14);
    }
}

void iret_to_selectors_of_ring_0() {
    for (uint64_t const cs : {0xe008, 0xe010, 0xe040, 0, 0xfff8, 4, 0x1230})
        EXPECT(!survives([=] { iret_to(virt_base + 0x100000, cs, 0x202, 0xe02b); }));
    for (uint64_t const ss : {0xe008, 0xe010, 0xe030, 0xe040, 0xfff8, 0x7770})
        EXPECT(!survives([=] { iret_to(virt_base + 0x100000, 0xe030, 0x202, ss); }));
    // The failsafe callback hears which selectors there are, so that a kernel can tell whose fault
    // it was.
    asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0xe02b));
    if (attempt([] { iret_to(virt_base + 0x100000, 0xe008, 0x202, 0xe02b); }).vector ==
        by_failsafe) {
        EXPECT_EQUAL(failsafe_selectors[0], 0xe02b);
        EXPECT_EQUAL(failsafe_selectors[1], 0xe02b);
        EXPECT_EQUAL(failsafe_selectors[2], 0);
    }
    asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0));
    // The instruction itself, too.
    for (uint64_t const cs : {0xe008, 0xe009, 0xe00b})
        EXPECT_EQUAL(attempt([=] {
                         asm volatile("mov %%rsp, %%rbx; push $0xe02b; push %%rbx; push $0x202; "
                                      "push %0; lea 1f(%%rip), %%rbx; push %%rbx; iretq; 1:"
                                      :
                                      : "r"(cs)
                                      : "rbx", "memory");
                     }).vector,
                     13);
    expect_alive();
}

/// A `syscall` at the very end of the lower half: the address behind it is not canonical.
void syscall_at_the_end_of_the_lower_half() {
    auto* const l1 = static_cast<uint64_t*>(page());
    auto* const l2 = static_cast<uint64_t*>(page());
    auto* const l3 = static_cast<uint64_t*>(page());
    auto* const code = static_cast<uint8_t*>(page());
    code[page_size - 2] = 0x0f;
    code[page_size - 1] = 0x05;
    l1[511] = entry(mfn_of(code), present | user);
    l2[511] = entry(mfn_of(l1), all_rights);
    l3[511] = entry(mfn_of(l2), all_rights);
    for (void const* const table : {l1, l2, l3})
        EXPECT_EQUAL(map_read_only(table), 0);
    EXPECT_EQUAL(mmu_update(root_frame() * page_size + 255 * 8, entry(mfn_of(l3), all_rights)), 0);
    for (unsigned i = 0; i < 3; ++i) {
        Fault const fault = attempt([] {
            asm volatile("jmp *%0" : : "r"(low_end - 2), "a"(17), "D"(0), "S"(0) : "rcx", "r11");
        });
        EXPECT(fault.vector == by_failsafe || fault.vector == 13);
        expect_alive();
    }
    EXPECT_EQUAL(mmu_update(root_frame() * page_size + 255 * 8, 0), 0);
}

void hypercalls_with_any_stack_pointer() {
    for (uint64_t const stack : {uint64_t{0}, hypervisor_at, low_end, uint64_t{0xffff87fffffffff8},
                                 ~uint64_t{0}, uint64_t{3}}) {
        int64_t result = 17;
        asm volatile("mov %%rsp, %%rbx; mov %[stack], %%rsp; syscall; mov %%rsp, %%r12; mov %%rbx, "
                     "%%rsp"
                     : "+a"(result)
                     : [stack] "r"(stack), "D"(0), "S"(0)
                     : "rbx", "rcx", "r11", "r12", "memory");
        EXPECT_EQUAL(result, 4 << 16 | 17);
    }
    // What user mode had there is nobody's business.
    use_user_table();
    for (uint64_t const stack : {uint64_t{0}, hypervisor_at, low_end}) {
        UserEntry entry = user_entry_for(nullptr, nullptr);
        static uint8_t const code[] = {0x0f, 0x05};
        entry.rip = reinterpret_cast<uint64_t>(code);
        entry.rsp = stack;
        UserExit const left = enter_user_at(entry);
        EXPECT_EQUAL(left.vector, by_syscall);
        EXPECT_EQUAL(left.frame.rsp, stack);
    }
}

void callbacks_to_no_address() {
    for (uint64_t const address : not_canonical) {
        // The old call: Xen takes them, and looks when they are used.
        for (unsigned i = 0; i < 3 && on_hearth(); ++i)
            EXPECT_EQUAL(hypercall(Hypercall::set_callbacks, i == 0 ? address : 0,
                                   i == 1 ? address : 0, i == 2 ? address : 0),
                         inval);
        for (uint16_t const type : {0, 1, 2, 4, 5, 7}) {
            CallbackRegister const request{type, 0, 0, address};
            EXPECT_EQUAL(
                operation(Hypercall::callback_op, CallbackOperation::register_callback, &request),
                inval);
        }
        NmiCallback const nmi{address, 0};
        EXPECT_EQUAL(operation(Hypercall::nmi_op, NmiOperation::register_callback, &nmi), inval);
        TrapInfo const handlers[] = {{13, 0, 0xe033, 0, address}, {}};
        EXPECT_EQUAL(hypercall(Hypercall::set_trap_table, handlers), inval);
        for (unsigned which = 0; which < 3; ++which)
            EXPECT(hypercall(Hypercall::set_segment_base, which, address) < 0);
    }
    set_handlers();
}

void callbacks_of_unknown_kinds() {
    for (uint16_t const type : {6, 8, 9, 255, 32768, 65535}) {
        CallbackRegister const request{type, 0, 0, trap_stub(3)};
        EXPECT_EQUAL(
            operation(Hypercall::callback_op, CallbackOperation::register_callback, &request),
            nosys);
        CallbackUnregister const gone{type, 0};
        EXPECT_EQUAL(
            operation(Hypercall::callback_op, CallbackOperation::unregister_callback, &gone),
            nosys);
    }
    EXPECT_EQUAL(hypercall(Hypercall::callback_op, 2, 0), nosys);
}

/// Whole tables, longer than there are vectors, and with flags and selectors that mean nothing.
void odd_trap_tables() {
    static TrapInfo table[300];
    for (unsigned i = 0; i < 300; ++i)
        table[i] = {static_cast<uint8_t>(i), 0xff, static_cast<uint16_t>(i * 8), 0xffffffff,
                    trap_stub(i % 256)};
    table[299].address = 0;
    EXPECT_EQUAL(hypercall(Hypercall::set_trap_table, table), 0);
    EXPECT_EQUAL(attempt([] { asm volatile("ud2"); }).vector, 6);
    EXPECT_EQUAL(hypercall(Hypercall::set_trap_table, hypervisor_at), fault);
    // One that ends in the hypervisor's half, beginning right before it.
    EXPECT_EQUAL(hypercall(Hypercall::set_trap_table, 0xffff7ffffffffff8), fault);
    hypercall(Hypercall::set_trap_table, 0); // all that are not set again
    set_handlers();
    EXPECT_EQUAL(attempt([] { asm volatile("ud2"); }).vector, 6);
}

/// It ends the list, and must not let the rest run with the kernel's rights in user mode. (The
/// class of XSA-213)
void iret_within_a_list() {
    static MulticallEntry list[3];
    for (uint64_t const target : {uint64_t{0}, uint64_t{0x0000800000000000}}) {
        for (MulticallEntry& call : list)
            call = {static_cast<uint64_t>(Hypercall::xen_version), nosys, {0, 0}};
        list[1].op = static_cast<uint64_t>(Hypercall::iret);
        uint64_t rax = 0;
        auto run = [&] {
            // rax, r11, rcx, flags, rip, cs, rflags, rsp, ss
            asm volatile("mov %%rsp, %%rbx\n\t"
                         "push $0xe02b\n\t"
                         "push %%rbx\n\t"
                         "push $0x002\n\t"
                         "push $0xe030\n\t"
                         "lea 1f(%%rip), %%rcx\n\t"
                         "test %[target], %[target]\n\t"
                         "cmovnz %[target], %%rcx\n\t"
                         "push %%rcx\n\t"
                         "push $0\n\t"
                         "push $0\n\t"
                         "push $0\n\t"
                         "push $0x1234\n\t"
                         "mov $13, %%eax\n\t"
                         "syscall\n\t"
                         "mov %%rbx, %%rsp\n\t"
                         "mov $0xdead, %%eax\n"
                         "1:"
                         : "=&a"(rax)
                         : [target] "r"(target), "D"(list), "S"(3)
                         : "rbx", "rcx", "rdx", "r11", "memory");
        };
        Fault const end = attempt(run);
        EXPECT_EQUAL(end.vector, target ? 13 : no_trap);
        if (!target)
            EXPECT_EQUAL(rax, 0x1234);
        EXPECT_EQUAL(list[0].result, 4 << 16 | 17);
        EXPECT_EQUAL(list[2].result, nosys);
    }
}

void software_interrupts_need_permission() {
    // Xen goes by the fault's error code, which QEMU 7.2 has wrong, and lets all have 3 and 0x80.
    if (!on_hearth())
        return;
    use_user_table();
    UserExit left;
    for (bool const with_handler : {false, true}) {
        if (with_handler)
            set_trap(0x21, 0, trap_stub(0x21));
        left = run_user([] { asm volatile("int $0x21" : : : "memory"); });
        EXPECT_EQUAL(left.vector, 13);
        EXPECT_EQUAL(left.error, 0x21 * 8 + 2);
    }
    EXPECT_EQUAL(run_user([] { asm volatile("int $14" : : : "memory"); }).vector, 13);
    EXPECT_EQUAL(run_user([] { asm volatile("int $2" : : : "memory"); }).vector, 13);
    set_trap(0x21, 3, trap_stub(0x21));
    left = run_user([] { asm volatile("int $0x21" : : : "memory"); });
    EXPECT_EQUAL(left.vector, 0x21);
    for (uint8_t const vector : {3, 0x80})
        set_trap(vector, 0, trap_stub(vector));
    left = run_user([] { asm volatile("int $0x80" : : : "memory"); });
    EXPECT_EQUAL(left.vector, 13);
    EXPECT_EQUAL(left.error, 0x80 * 8 + 2);
    left = run_user([] { asm volatile("int3" : : : "memory"); });
    EXPECT_EQUAL(left.vector, 13);
    EXPECT_EQUAL(left.error, 3 * 8 + 2);
    set_handlers();
}

/// #UD, #BP, #DE and #PF without end, on all vCPUs at once.
void storms_of_exceptions() {
    auto const storm = [] {
        EXPECT_EQUAL(attempt([] { asm volatile("ud2"); }).vector, 6);
        EXPECT_EQUAL(attempt([] { asm volatile("int3"); }).vector, 3);
        EXPECT_EQUAL(attempt([] {
                         asm volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; div %%ecx"
                                      :
                                      :
                                      : "eax", "ecx", "edx");
                     }).vector,
                     0);
        EXPECT_EQUAL(attempt([] { *reinterpret_cast<int volatile*>(8) = 1; }).vector, 14);
        EXPECT_EQUAL(attempt([] {
                         asm volatile("mov %0, %%cr8" : : "r"(uint64_t{0}));
                     }).vector > 5,
                     true);
    };
    race(150, storm, storm);
}

void nmis_at_oneself() {
    CallbackRegister const nmi{static_cast<uint16_t>(CallbackType::nmi), 0, 0, trap_stub(2)};
    EXPECT_EQUAL(operation(Hypercall::callback_op, CallbackOperation::register_callback, &nmi), 0);
    static uint64_t count;
    this_vcpu().hook = [](TrapFrame& frame) {
        count += frame.vector == 2;
        return frame.vector == 2;
    };
    for (unsigned i = 0; i < 1000; ++i)
        EXPECT_EQUAL(vcpu_op(VcpuOperation::send_nmi, 0, nullptr), 0);
    this_vcpu().hook = nullptr;
    EXPECT(count > 0);
    EXPECT_EQUAL(vcpu_op(VcpuOperation::send_nmi, 1u << 31, nullptr), noent);
    CallbackUnregister const gone{static_cast<uint16_t>(CallbackType::nmi), 0};
    EXPECT_EQUAL(operation(Hypercall::callback_op, CallbackOperation::unregister_callback, &gone),
                 0);
}

// What a guest does not survive.

void iret_frame_in_the_hypervisor() {
    asm volatile("mov %0, %%rsp; mov $23, %%eax; syscall" : : "r"(hypervisor_at) : "memory");
}
void iret_frame_beyond_what_is_mapped() {
    void* const hole = page();
    unmap(hole);
    asm volatile("lea -16(%0), %%rsp; mov $23, %%eax; syscall" : : "r"(hole) : "memory");
}
void trap_on_a_stack_in_the_hypervisor() {
    asm volatile("mov %0, %%rsp; ud2" : : "r"(hypervisor_at + 0x100000) : "memory");
}
void trap_on_a_stack_right_above_the_hypervisor() {
    asm volatile("mov %0, %%rsp; ud2" : : "r"(0xffff880000000010) : "memory");
}
void trap_on_a_stack_at_no_address() {
    asm volatile("mov %0, %%rsp; ud2" : : "r"(low_end + 0x1000) : "memory");
}
void trap_on_a_page_table() {
    auto* const table = static_cast<char*>(page());
    make_table(1, table);
    asm volatile("mov %0, %%rsp; ud2" : : "r"(table + 2048) : "memory");
}
void kernel_stack_in_the_hypervisor() {
    use_user_table();
    hypercall(Hypercall::stack_switch, 0xe02b, hypervisor_at);
    run_user([] { asm volatile("ud2"); });
}
void trap_without_handlers() {
    hypercall(Hypercall::set_trap_table, 0);
    asm volatile("ud2");
}
void user_mode_without_a_table() {
    UserEntry const entry = user_entry_for(nullptr, nullptr);
    enter_user_at(entry);
}
constexpr char no_room[] = "no room on the kernel's stack for an exception frame";
constexpr char no_handler[] = "an event needs a handler that the kernel has not set";
constexpr char no_frame[] = "iret with an unreadable frame";

constexpr Case cases[] = {
    {"user_syscall_is_no_hypercall", "XSA-76", user_syscall_is_no_hypercall},
    {"syscall_without_callback", "XSA-8", syscall_without_callback},
    {"flags_on_the_way_in", "XSA-44 XSA-339", flags_on_the_way_in},
    {"single_step_into_everything", "XSA-204 XSA-265", single_step_into_everything},
    {"kernel_flags_through_hypercalls", "XSA-44 XSA-339", kernel_flags_through_hypercalls},
    {"iret_grants_no_flags", "XSA-171 XSA-202", iret_grants_no_flags},
    {"iret_in_syscall_leaves_what_sysret_does", "XSA-7", iret_in_syscall_leaves_what_sysret_does},
    {"iret_to_no_address", "XSA-7", iret_to_no_address},
    {"iret_to_the_hypervisor", "XSA-7", iret_to_the_hypervisor},
    {"iret_to_selectors_of_ring_0", "XSA-110 XSA-136 XSA-274", iret_to_selectors_of_ring_0},
    {"syscall_at_the_end_of_the_lower_half", "XSA-7 XSA-9", syscall_at_the_end_of_the_lower_half},
    {"hypercalls_with_any_stack_pointer", "XSA-7", hypercalls_with_any_stack_pointer},
    {"callbacks_to_no_address", "XSA-193 XSA-215", callbacks_to_no_address},
    {"callbacks_of_unknown_kinds", "ABI", callbacks_of_unknown_kinds},
    {"odd_trap_tables", "ABI", odd_trap_tables},
    {"iret_within_a_list", "XSA-213", iret_within_a_list},
    {"software_interrupts_need_permission", "XSA-106 XSA-259", software_interrupts_need_permission},
    {"storms_of_exceptions", "XSA-156 XSA-265", storms_of_exceptions},
    {"nmis_at_oneself", "ABI", nmis_at_oneself},
    {"iret_frame_in_the_hypervisor", "XSA-136", iret_frame_in_the_hypervisor, no_frame},
    {"iret_frame_beyond_what_is_mapped", "XSA-136", iret_frame_beyond_what_is_mapped, no_frame},
    {"trap_on_a_stack_in_the_hypervisor", "XSA-215", trap_on_a_stack_in_the_hypervisor, no_room},
    {"trap_on_a_stack_right_above_the_hypervisor", "XSA-215",
     trap_on_a_stack_right_above_the_hypervisor, no_room},
    {"trap_on_a_stack_at_no_address", "XSA-215", trap_on_a_stack_at_no_address, no_room},
    {"trap_on_a_page_table", "XSA-182 XSA-215", trap_on_a_page_table, no_room},
    {"kernel_stack_in_the_hypervisor", "XSA-215", kernel_stack_in_the_hypervisor, no_room},
    {"trap_without_handlers", "ABI", trap_without_handlers, no_handler},
    {"user_mode_without_a_table", "XSA-213", user_mode_without_a_table,
     "iret to user mode without a user address space"},
};

} // namespace

void guest_main() { run_cases(cases); }
