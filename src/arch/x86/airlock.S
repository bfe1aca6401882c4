// The ways in and out on processors with Meltdown. A guest runs in an address space that has nothing of Hearth's but this
// code, the descriptor tables and its CPU's airlock (memory/guest_view.h): one page, where whatever enters arrives, and
// from where it leaves. In between the address space changes. What has entered moves to the stack where it would have
// arrived otherwise, and joins entry.S.
//
// Hearth's address space has all of this too, at the same addresses.
#include "entry.inc"

/* From what was saved last on an airlock. */
#define SAVED_RIP 8             /* behind error code and vector */
#define SAVED_CS 16
#define SAVED_RFLAGS 24
/* What iretq reads, and as much as the processor skips to align its stack. */
#define BELOW_IRET_FRAME 48

// What an entry left that far above rdi.
        .macro PUSH_ENTERED_FRAME at
        push    \at + 40(%rdi)         // ss
        push    \at + 32(%rdi)
        push    \at + 24(%rdi)
        push    \at + 16(%rdi)
        push    \at + 8(%rdi)          // rip
        push    \at(%rdi)              // error code and vector
        .endm

// In the guest's address space; rsp: error code and vector, below an interrupt's frame, on the airlock. Afterwards in
// Hearth's, and rsp: the same on the vCPU's stack, that far below its end.
        .macro ENTER_HEARTH below=0
        push    %rdi
        push    %rax
        mov     %rsp, %rdi
        and     $-PAGE_SIZE, %rdi
        mov     AIRLOCK_CR3(%rdi), %rax
        mov     %rax, %cr3
        mov     AIRLOCK_STACK(%rdi), %rax
        mov     %rsp, %rdi
        lea     -\below(%rax), %rsp
        PUSH_ENTERED_FRAME 16
        mov     (%rdi), %rax
        mov     8(%rdi), %rdi
        .endm

        .section .text.airlock, "ax"
        .globl airlock_text_start
airlock_text_start:
// As vector_stubs, without the table in memory.
        .balign 16
        .globl airlock_vector_stubs
airlock_vector_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if !HAS_ERROR_CODE(vector)
        push    $0
        .endif
        movl    $vector, 4(%rsp)
        JUMP_BY_VECTOR airlock_paranoid, airlock_debug, airlock_exception, airlock_interrupt
        .set    vector, vector + 1
        .endr

airlock_interrupt:
        testb   $3, SAVED_CS(%rsp)
        jz      interrupt_entry         // in Hearth's address space
        ENTER_HEARTH
        jmp     interrupt_entry

airlock_exception:
        testb   $3, SAVED_CS(%rsp)
        jz      1f
        ENTER_HEARTH
        jmp     exception_entry
1:      push    %rax
        lea     airlock_iret(%rip), %rax
        cmp     %rax, 16(%rsp)
        pop     %rax
        jne     exception_entry         // in Hearth's address space
        ENTER_HEARTH BELOW_IRET_FRAME
        jmp     exception_entry

// NMI, #DF, #MC: whatever was interrupted, in whatever address space. Hearth's own is safe at any time. Above this landing's
// room lie the stack to go on with, and that address space.
airlock_paranoid:
        push    %rdi
        push    %rax
        mov     %cr3, %rax
        push    %rax
        mov     80(%rsp), %rax
        mov     %rax, %cr3
        mov     %rsp, %rdi
        mov     72(%rdi), %rsp
        push    %rdi
        PUSH_ENTERED_FRAME 24
        mov     8(%rdi), %rax
        mov     16(%rdi), %rdi
        SEE_TO_PARANOID_EXCEPTION
        RESTORE_REGISTERS
        add     $48, %rsp
        pop     %rsp
        pop     %rax
        mov     %rax, %cr3
        pop     %rax
        pop     %rdi
        add     $8, %rsp
        EXIT_SITE
        iretq

// One from Hearth may come in either address space. It is over at once, as in hypervisor_exception().
airlock_debug:
        testb   $3, SAVED_CS(%rsp)
        jz      1f
        ENTER_HEARTH
        jmp     exception_entry
1:      push    %rax
        push    %rcx
        mov     $0xffff0ff0, %eax
        mov     %rax, %dr6
        mov     16 + SAVED_RIP(%rsp), %rax
        lea     airlock_sysenter(%rip), %rcx
        sub     %rcx, %rax
        cmp     $(airlock_sysenter_flags_off - airlock_sysenter), %rax
        pop     %rcx
        pop     %rax
        jb      2f
        andl    $~RFLAGS_TF, SAVED_RFLAGS(%rsp)
2:      add     $8, %rsp
        iretq

        .macro AIRLOCK_SYSCALL_STUB selector, entered_by, target
        mov     %rsp, airlocks + index * PAGE_SIZE + AIRLOCK_GUEST_RSP(%rip)
        lea     airlocks + index * PAGE_SIZE + AIRLOCK_LANDING(%rip), %rsp
        push    $RING3_DS
        push    airlocks + index * PAGE_SIZE + AIRLOCK_GUEST_RSP(%rip)
        push    %r11
        push    $\selector
        push    %rcx
        push    $0
        movl    $\entered_by, 4(%rsp)
        jmp     \target
        .endm
        STUB_OF_EACH_CPU airlock_syscall_stubs, AIRLOCK_SYSCALL_STUB, RING3_CS64, ENTERED_BY_SYSCALL, airlock_syscall
        STUB_OF_EACH_CPU airlock_syscall32_stubs, AIRLOCK_SYSCALL_STUB, RING3_CS32, ENTERED_BY_SYSCALL32, airlock_syscall32

airlock_syscall:
        ENTER_HEARTH
        jmp     syscall_entry

airlock_syscall32:
        ENTER_HEARTH
        jmp     syscall32_entry

// IA32_SYSENTER_ESP is the airlock's landing.
        .globl airlock_sysenter
airlock_sysenter:
        SYSENTER_FRAME airlock_sysenter_flags_off
        ENTER_HEARTH
        jmp     sysenter_saved

// The way out, by `iretq` always. Jumps to these two stand where entry.S would go on by itself: there, all but rax and what
// C++ preserves is still in the frame; or all of it is loaded, and still in the frame.
        .globl airlock_return_loaded, airlock_return
airlock_return_loaded:
        sub     $FRAME_RIP, %rsp
airlock_return:
        mov     %rax, FRAME_RAX(%rsp)
        mov     %rsp, %rdi
        call    open_airlock            // rax: CR3; rdx: the stack to leave by, that begins with rdx and rdi
        mov     FRAME_R11(%rsp), %r11
        mov     FRAME_R10(%rsp), %r10
        mov     FRAME_R9(%rsp), %r9
        mov     FRAME_R8(%rsp), %r8
        mov     FRAME_RCX(%rsp), %rcx
        mov     FRAME_RSI(%rsp), %rsi
        mov     %rax, %rdi
        mov     FRAME_RAX(%rsp), %rax
        mov     %rdx, %rsp
        mov     %rdi, %cr3
        pop     %rdx
        pop     %rdi
        EXIT_SITE
        .globl airlock_iret
airlock_iret:
        iretq

        .globl verw_operand
        .balign 2
verw_operand:
        .word   HYPERVISOR_DS
        .globl airlock_text_end
airlock_text_end:
