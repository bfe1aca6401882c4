// The places of entry.S where something else stands on processors that need it, and those that may
// fault. Nothing here is ever executed: a page of the image, for tests to see what is written
// there.
#include "arch/host/machine.h"
#include "arch/x86/airlock.h"
#include "arch/x86/asm.h"

asm(R"(
        .macro  SITE name, kind, nop:vararg
\name:  .byte   \nop
        .pushsection .data.rel.ro.code_sites, "aw"
        .quad   \name
        .quad   \kind
        .popsection
        .endm

        .pushsection .data.rel.ro.code_sites, "aw"
        .globl  code_sites_start, code_sites_end
code_sites_start:
        .popsection

        .pushsection .rodata
        .balign 4096
        .globl  clac_site, stac_site, fill_return_stack_site, clear_buffers_site
        SITE    clac_site, 0, 0x0f, 0x1f, 0x00
        SITE    stac_site, 1, 0x0f, 0x1f, 0x00
        SITE    fill_return_stack_site, 2, 0x0f, 0x1f, 0x44, 0x00, 0x00
        SITE    clear_buffers_site, 3, 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00
        .balign 32
        .globl  __x86_indirect_thunk_r11
__x86_indirect_thunk_r11:
        jmp     *%r11
        int3
        .balign 32, 0xcc
        .globl  return_by_sysret, return_by_iret, airlock_return, airlock_return_loaded
return_by_sysret:
        .quad   0
return_by_iret:
        .quad   0
airlock_return:
        .byte   0
airlock_return_loaded:
        .byte   0
        .globl  retpoline, retpoline_end, verw_operand
retpoline:
        .ascii  "instead of the jump"
retpoline_end:
        .balign 2
verw_operand:
        .word   0
        .globl  sysenter_entry, sysenter_flags_off
sysenter_entry:
        popfq
sysenter_flags_off:
        .byte   0
        .globl  guest_iret, airlock_iret, guest_read, guest_read_failed
guest_iret:
        iretq
airlock_iret:
        iretq
guest_read:
        movb    (%rsi), %al
guest_read_failed:
        ret
        .balign 4096
        .popsection

        .pushsection .data.rel.ro.code_sites, "aw"
code_sites_end:
        .globl  exception_table_start, exception_table_end
exception_table_start:
        .quad   guest_read, guest_read_failed
exception_table_end:
        .popsection
)");
static_assert(SITE_CLAC == 0 && SITE_STAC == 1 && SITE_FILL_RETURN_STACK == 2 &&
                  SITE_CLEAR_BUFFERS == 3,
              "the places above know these");

// Nobody enters by it.
hearth::arch::Airlock airlocks[hearth::host::cpu_limit];

namespace hearth::host {
unsigned return_stack_fills = 0;
}

extern "C" void fill_return_stack();
void fill_return_stack() { ++hearth::host::return_stack_fills; }
