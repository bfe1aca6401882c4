// Every way into the hypervisor and back out to a guest.
//
// Interrupts are off in the hypervisor but at its preemption points, so a frame is built exactly once per entry and
// nothing here can be interrupted save by NMI, #DF and #MC, which have stacks of their own (IST).
#include "entry.inc"

        .text
// One 16-byte stub a vector; vectors with a hardware error code push it themselves.
        .balign 16
        .globl vector_stubs
vector_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if HAS_ERROR_CODE(vector)
        movl    $vector, 4(%rsp)
        .else
        push    no_error_code + vector * 8(%rip)
        .endif
        JUMP_BY_VECTOR paranoid_entry, debug_entry, exception_entry, interrupt_entry
        .set    vector, vector + 1
        .endr

        .globl exception_entry, interrupt_entry
exception_entry:
        SAVE_REGISTERS
        ENTRY_SITE
        SMAP_SITE SITE_CLAC
        cld
        testb   $3, FRAME_CS(%rsp)
        jz      1f
        mov     FRAME_VCPU(%rsp), %rdi
        mov     %rsp, %rsi
        call    guest_exception
        jmp     return_to_guest
1:      mov     %rsp, %rdi
        call    hypervisor_exception
        jmp     return_to_hypervisor

interrupt_entry:
        SAVE_REGISTERS
        ENTRY_SITE
        SMAP_SITE SITE_CLAC
        cld
        xor     %ebp, %ebp
        mov     %rsp, %rdi
        call    interrupt
        testb   $3, FRAME_CS(%rsp)
        jnz     return_to_guest
return_to_hypervisor:
        RESTORE_REGISTERS
        add     $8, %rsp
        EXIT_SITE                       // an NMI goes back to a guest this way
        iretq

// NMI, #DF, #MC: on an IST stack, whatever was interrupted.
paranoid_entry:
        SEE_TO_PARANOID_EXCEPTION
        jmp     return_to_hypervisor

// #DB has a stack of its own too: one that `mov ss` delayed arrives at the first instruction of a syscall stub, where rsp
// is still the guest's. One from a guest moves to the vCPU's stack.
debug_entry:
        SAVE_REGISTERS
        ENTRY_SITE
        SMAP_SITE SITE_CLAC
        cld
        xor     %ebp, %ebp
        mov     %rsp, %rdi
        testb   $3, FRAME_CS(%rsp)
        jz      1f
        call    move_to_entry_stack
        mov     %rax, %rsp
        mov     %rax, %rsi
        mov     FRAME_VCPU(%rsp), %rdi
        call    guest_exception
        jmp     return_to_guest
1:      call    hypervisor_exception
        jmp     return_to_hypervisor

// A fault at guest_iret: the guest's own registers are live in the frame of the fault. rdi: the guest's frame.
        .globl resume_guest_frame
resume_guest_frame:
        mov     %rdi, %rsp
        xor     %ebp, %ebp
// rsp: the guest's frame at the top of the vCPU's stack.
        .globl return_to_guest
return_to_guest:
        mov     FRAME_VCPU(%rsp), %rdi
        mov     %rsp, %rsi
        call    prepare_return_to_guest
        test    %al, %al
        jnz     1f
        RESTORE_REGISTERS
        add     $8, %rsp
        jmp     return_by_iret
// An entry by exception or interrupt has emptied ss, and AMD's sysretq sets no more of it than the selector: 32-bit user
// code that the guest goes on to would have no stack. (switch_in() sees to those that are left in other ways)
1:      mov     $HYPERVISOR_DS, %eax
        mov     %eax, %ss
        mov     FRAME_R15(%rsp), %r15
        mov     FRAME_R14(%rsp), %r14
        mov     FRAME_R13(%rsp), %r13
        mov     FRAME_R12(%rsp), %r12
        mov     FRAME_RBP(%rsp), %rbp
        mov     FRAME_RBX(%rsp), %rbx
        mov     FRAME_RAX(%rsp), %rax
        .globl return_by_sysret, return_by_iret
return_by_sysret:
        mov     FRAME_R10(%rsp), %r10
        mov     FRAME_R9(%rsp), %r9
        mov     FRAME_R8(%rsp), %r8
        mov     FRAME_RDX(%rsp), %rdx
        mov     FRAME_RSI(%rsp), %rsi
        mov     FRAME_RDI(%rsp), %rdi
        mov     FRAME_RIP(%rsp), %rcx
        mov     FRAME_RFLAGS(%rsp), %r11
        mov     FRAME_RSP(%rsp), %rsp
        EXIT_SITE
        sysretq

// `syscall`: rcx holds rip, r11 rflags; nothing was saved. Each CPU has its own stub, since there is no register left
// to find a per-CPU block with: {guest rsp, stack top} lie in syscall_slots.
        .macro SYSCALL_STUB selector, entered_by, target
        mov     %rsp, syscall_slots + index * 64(%rip)
        mov     syscall_slots + index * 64 + 8(%rip), %rsp
        push    $RING3_DS
        push    syscall_slots + index * 64(%rip)
        push    %r11
        push    $\selector
        push    %rcx
        push    \entered_by(%rip)
        jmp     \target
        .endm
        STUB_OF_EACH_CPU syscall_stubs, SYSCALL_STUB, RING3_CS64, entered_by_syscall, syscall_entry
        STUB_OF_EACH_CPU syscall32_stubs, SYSCALL_STUB, RING3_CS32, entered_by_syscall32, syscall32_entry
        .balign 64

        .section .rodata
        .balign 8
no_error_code:                          // and which vector
        .set    vector, 0
        .rept   256
        .long   0, vector
        .set    vector, vector + 1
        .endr
entered_by_syscall:                     // error code and vector
        .long   0, ENTERED_BY_SYSCALL
entered_by_syscall32:
        .long   0, ENTERED_BY_SYSCALL32
        .text

// rbx, rbp and r12 to r15 stay the guest's: C++ preserves them. They get into the frame when the vCPU has something to see
// to at its border, where others may look at it and it may become another's.
        .globl syscall_entry, syscall32_entry
syscall_entry:
        push    %rdi
        push    %rsi
        push    %rdx
        push    %rcx
        push    %rax
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        sub     $FRAME_R11, %rsp
        ENTRY_SITE
        mov     FRAME_VCPU(%rsp), %rdi
        mov     %rsp, %rsi
        call    guest_syscall           // rax: the guest's; dl: the way back
        cmp     $WAY_SYSRET, %dl
        je      return_by_sysret
        jb      2f
        add     $FRAME_R11, %rsp
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rcx                    // rax is in place
        pop     %rcx
        pop     %rdx
        pop     %rsi
        pop     %rdi
        add     $8, %rsp
return_by_iret:
        EXIT_SITE
        .globl guest_iret
guest_iret:
        iretq
2:      mov     %rax, FRAME_RAX(%rsp)
        mov     %rbx, FRAME_RBX(%rsp)
        mov     %rbp, FRAME_RBP(%rsp)
        mov     %r12, FRAME_R12(%rsp)
        mov     %r13, FRAME_R13(%rsp)
        mov     %r14, FRAME_R14(%rsp)
        mov     %r15, FRAME_R15(%rsp)
        xor     %ebp, %ebp
        jmp     return_to_guest

syscall32_entry:
        SAVE_REGISTERS
        ENTRY_SITE
        xor     %ebp, %ebp
        mov     %rsp, %rdi
        call    guest_syscall32
        jmp     return_to_guest

// `sysenter` from 32-bit user code: rsp came from the MSR and is the vCPU's stack top by way of a one-word stack.
        .globl sysenter_entry
sysenter_entry:
        mov     (%rsp), %rsp            // IA32_SYSENTER_ESP points at this CPU's stack-top word
        SYSENTER_FRAME sysenter_flags_off
        .globl sysenter_saved
sysenter_saved:
        SAVE_REGISTERS
        ENTRY_SITE
        SMAP_SITE SITE_CLAC
        cld
        xor     %ebp, %ebp
        mov     %rsp, %rdi
        call    guest_sysenter
        jmp     return_to_guest

// As many calls as a processor remembers returns of: what it predicts from now on are the traps behind them.
        .globl fill_return_stack
fill_return_stack:
        .rept   32
        call    1f
        int3
1:
        .endr
        add     $32 * 8, %rsp
        ret

// Where the compiler has indirect branches go. On processors whose predictions a guest could train, `retpoline` stands
// here instead: the branch is a return, predicted to go to a loop that leads nowhere.
        .balign 32
        .globl __x86_indirect_thunk_r11
__x86_indirect_thunk_r11:
        jmp     *%r11
        int3
        .balign 32, 0xcc
        .pushsection .rodata
        .globl retpoline, retpoline_end
retpoline:
        call    2f
1:      pause
        lfence
        jmp     1b
2:      mov     %r11, (%rsp)
        ret
        int3
retpoline_end:
        .popsection

// void switch_stacks(uint64_t* save_rsp, uint64_t load_rsp): callee-saved registers only; a C++ call preserves no more.
        .globl switch_stacks
switch_stacks:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, (%rdi)
        mov     %rsi, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

// First activation of a thread: rbx holds its function, r12 its argument.
        .globl thread_start
thread_start:
        xor     %ebp, %ebp
        call    thread_started
        mov     %r12, %rdi
        call    *%rbx
        ud2

// size_t copy_guest(void* to, void const* from, size_t size): bytes NOT copied; a fault stops it.
        .globl copy_guest
copy_guest:
        mov     %rdx, %rcx
        SMAP_SITE SITE_STAC
        cmp     $16, %rdx
        jae     2f
780:    rep movsb
781:    SMAP_SITE SITE_CLAC
        mov     %rcx, %rax
        ret
2:      shr     $3, %rcx
        and     $7, %edx
782:    rep movsq
        mov     %rdx, %rcx
        jmp     780b
783:    lea     (%rdx, %rcx, 8), %rcx   // fault among the quads: what is left of them, and the tail
        jmp     781b
        .pushsection .exception_table, "a"
        .quad   780b, 781b
        .quad   782b, 783b
        .popsection

// bool compare_exchange_guest(uint64_t* address, uint64_t* expected, uint64_t desired, size_t size): false on a fault.
        .globl compare_exchange_guest
compare_exchange_guest:
        mov     (%rsi), %rax
        SMAP_SITE SITE_STAC
        cmp     $8, %ecx
        je      8f
        cmp     $4, %ecx
        je      4f
        cmp     $2, %ecx
        je      2f
781:    lock cmpxchgb %dl, (%rdi)
        jmp     9f
782:    
2:      lock cmpxchgw %dx, (%rdi)
        jmp     9f
4:      lock cmpxchgl %edx, (%rdi)
        jmp     9f
8:      lock cmpxchgq %rdx, (%rdi)
9:      SMAP_SITE SITE_CLAC
        mov     %rax, (%rsi)
        mov     $1, %eax
        ret
790:    SMAP_SITE SITE_CLAC
        xor     %eax, %eax
        ret
        .pushsection .exception_table, "a"
        .quad   781b, 790b
        .quad   2b, 790b
        .quad   4b, 790b
        .quad   8b, 790b
        .popsection

// bool load_segment_*(selector): false if the descriptor does not load.
        .macro LOAD_SEGMENT name, register
        .globl  load_segment_\name
load_segment_\name:
        mov     $1, %eax
780:    mov     %edi, %\register
        ret
781:    xor     %eax, %eax
        mov     %eax, %\register
        ret
        .pushsection .exception_table, "a"
        .quad   780b, 781b
        .popsection
        .endm
        LOAD_SEGMENT ds, ds
        LOAD_SEGMENT es, es
        LOAD_SEGMENT fs, fs
// gs: the active base is the guest's; loading a selector must leave the inactive one alone.
        LOAD_SEGMENT gs, gs

// bool try_read_msr(uint32_t index, uint64_t* value); bool try_write_msr(uint32_t index, uint64_t value)
        .globl  try_read_msr
try_read_msr:
        mov     %edi, %ecx
780:    rdmsr
        shl     $32, %rdx
        or      %rdx, %rax
        mov     %rax, (%rsi)
        mov     $1, %eax
        ret
781:    xor     %eax, %eax
        ret
        .pushsection .exception_table, "a"
        .quad   780b, 781b
        .popsection
        .globl  try_write_msr
try_write_msr:
        mov     %edi, %ecx
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
782:    wrmsr
        mov     $1, %eax
        ret
783:    xor     %eax, %eax
        ret
        .pushsection .exception_table, "a"
        .quad   782b, 783b
        .popsection

// bool try_xrstor(void* area, uint64_t mask), bool try_fxrstor(void* area): false when the image is malformed (a guest or
// its toolstack may supply it).
        .globl  try_xrstor
try_xrstor:
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
780:    xrstor64 (%rdi)
        mov     $1, %eax
        ret
781:    xor     %eax, %eax
        ret
        .globl  try_fxrstor
try_fxrstor:
782:    fxrstor64 (%rdi)
        mov     $1, %eax
        ret
        .pushsection .exception_table, "a"
        .quad   780b, 781b
        .quad   782b, 781b
        .popsection

        .data
        .balign 64
        .globl  syscall_slots
syscall_slots:
        .skip   64 * MAX_CPUS
