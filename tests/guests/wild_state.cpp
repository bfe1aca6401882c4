// Jumps to where nothing can be, bad selectors, flags and handlers: the guest gets a trap or dies,
// Hearth goes on.
#include "library/guest.h"

char const guest_name[] = "wild_state";
using namespace guest;
using namespace hearth::abi;

namespace {

bool loads(uint64_t selector) {
    return survives([=] { asm volatile("mov %w0, %%ds" : : "r"(selector)); });
}

/// Returns by the hypercall to whatever the frame says.
void iret_to(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t ss) {
    asm volatile("mov %%rsp, %%rbx; push %3; push %%rbx; push %2; push %1; push %0; push $0; push "
                 "$0; push $0; push $0;"
                 "mov $23, %%eax; syscall"
                 :
                 : "r"(rip), "r"(cs), "r"(flags), "r"(ss)
                 : "rax", "rbx", "rcx", "r11", "memory");
}

} // namespace

void guest_main() {
    for (uint64_t address :
         {uint64_t{0}, uint64_t{0x0000800000000000}, uint64_t{0xffff828000200000},
          uint64_t{0xffff800000000000}, uint64_t{0xdead00000000beef}}) {
        EXPECT(!survives([=] { asm volatile("jmp *%0" : : "r"(address)); }));
    }
    for (uint64_t selector : {uint64_t{0x10}, uint64_t{0x7ff8}, uint64_t{0xfff8}, uint64_t{0xe040},
                              uint64_t{0xe00b}, uint64_t{0x000f}})
        EXPECT(!loads(selector));
    EXPECT(loads(0));

    // Frames for iret that cannot be returned to: the failsafe callback or a trap, at a place of
    // our choosing.
    EXPECT(!survives([] { iret_to(0x0000800000000000, 0xe030, 0x202, 0xe02b); }));
    EXPECT(!survives([] { iret_to(0xffffffff80100000, 0x1230, 0x202, 0xe02b); }));
    EXPECT(!survives([] { iret_to(0xffffffff80100000, 0xe030, 0x202, 0x7770); }));

    // Handlers that cannot be entered are refused.
    TrapInfo bad[2] = {{3, 3, 0xe033, 0, 0x0000900000000000}, {}};
    EXPECT(hypercall(Hypercall::set_trap_table, bad) == -22);
    EXPECT(hypercall(Hypercall::set_callbacks, 0x0000900000000000, 0, 0) == -22);

    // Debug registers on the hypervisor's text, and on ports.
    EXPECT(hypercall(Hypercall::set_debugreg, 0, 0xffff828000200000) == -1);
    EXPECT(hypercall(Hypercall::set_debugreg, 7, 2ul << 16 | 1) != 0);
    EXPECT(hypercall(Hypercall::set_debugreg, 8, 0) == -19);

    // Descriptors: system segments and gates are not for guests.
    auto* const gdt = static_cast<uint64_t*>(page());
    gdt[2] = 0x0000ec0000080000; // a call gate
    EXPECT(update_va_mapping(gdt, entry(mfn_of(gdt), present | user)) == 0);
    uint64_t frames[1] = {mfn_of(gdt)};
    EXPECT(hypercall(Hypercall::set_gdt, frames, 512) != 0);
    EXPECT(hypercall(Hypercall::set_gdt, frames, 9000) == -22);
    EXPECT(hypercall(Hypercall::update_descriptor, mfn_of(gdt) * page_size + 3, 0) == -22);
}
