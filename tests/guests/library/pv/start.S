// A PV kernel's first instructions and its notes. (public/elfnote.h)
        .section .note.Xen, "a", @note
        .macro NOTE type, size, value:vararg
        .balign 4
        .long 4, \size, \type
        .asciz "Xen"
        \value
        .balign 4
        .endm
        NOTE 6, 7, .asciz "hearth"
        NOTE 5, 8, .asciz "xen-3.0"
        NOTE 1, 8, .quad guest_entry
        NOTE 3, 8, .quad 0xffffffff80000000
        NOTE 2, 8, .quad hypercall_page
        NOTE 9, 4, .asciz "yes"
        NOTE 8, 8, .asciz "generic"

        .text
        .globl guest_entry
guest_entry:
        lea     first_stack_end(%rip), %rsp
        mov     %rsi, %rdi
        xor     %ebp, %ebp
        call    guest_start
        ud2

// Each vector: registers saved, one C++ function, and back by the iret hypercall. The frame: rcx, r11, error code where the
// vector has one, rip, cs, rflags, rsp, ss.
        .macro TRAP vector, has_error
        .balign 32
        pop     %rcx
        pop     %r11
        .if !\has_error
        push    $0
        .endif
        push    $\vector
        jmp     trap_common
        .endm
        .balign 32
        .globl trap_stubs
trap_stubs:
        .set v, 0
        .rept 256
        .if (v == 8) || (v >= 10 && v <= 14) || (v == 17) || (v == 21)
        TRAP v, 1
        .else
        TRAP v, 0
        .endif
        .set v, v + 1
        .endr

        .globl trap_common
trap_common:
        pushfq                          // as the hypervisor left them
        popq    handler_flags(%rip)
        cld
        push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, %rdi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    guest_trap
        mov     %rbp, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp               // vector and error code: rip is on top
        push    $0                      // flags of struct iret_context
        push    %rcx
        push    %r11
        push    %rax
        mov     $23, %eax
        syscall
        ud2

        .globl event_entry, failsafe_entry
event_entry:                            // events are looked for, never waited for here
        pop     %rcx
        pop     %r11
        push    $0
        push    %rcx
        push    %r11
        push    %rax
        mov     $23, %eax
        syscall
        .globl nmi_entry, nmi_count
nmi_entry:                              // counted, and back
        incq    nmi_count(%rip)
        pop     %rcx
        pop     %r11
        push    $0
        push    %rcx
        push    %r11
        push    %rax
        mov     $23, %eax
        syscall
failsafe_entry:
        pop     %rcx
        pop     %r11
        popq    failsafe_selectors(%rip)
        popq    failsafe_selectors+8(%rip)
        popq    failsafe_selectors+16(%rip)
        popq    failsafe_selectors+24(%rip)
        push    $0
        push    $0x110
        jmp     trap_common

// bool attempt_call(void (*function)(void*), void* argument, uint64_t* recover): false if it trapped. The trap handler then
// returns to attempt_failed on the stack that *recover names. Attempts nest.
        .globl attempt_call, attempt_failed
attempt_call:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    (%rdx)
        push    %rdx
        mov     %rsp, (%rdx)
        mov     %rdi, %rax
        mov     %rsi, %rdi
        call    *%rax
        mov     $1, %eax
        jmp     1f
attempt_failed:
        xor     %eax, %eax
1:      pop     %rdx
        pop     (%rdx)
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

// void enter_user(UserEntry const* entry, uint64_t* saved_stack): the trap handler comes back to user_left on that stack.
// UserEntry: rip, rsp, flags, cs, ss, rbx, rdi. The other registers say nothing of the kernel.
        .globl enter_user, user_left, user_start, user_done
enter_user:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, (%rsi)
        pushq   32(%rdi)
        pushq   8(%rdi)
        pushq   16(%rdi)
        pushq   24(%rdi)
        pushq   (%rdi)
        push    $0
        push    $0
        push    $0
        push    $0
        mov     40(%rdi), %rbx
        mov     48(%rdi), %rdi
        xor     %esi, %esi
        xor     %edx, %edx
        xor     %ebp, %ebp
        .irp    n, 8, 9, 10, 12, 13, 14, 15
        xor     %r\n\()d, %r\n\()d
        .endr
        mov     $23, %eax
        syscall
        ud2
user_left:
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
// In user mode: rbx(rdi), and then the trap that says that it is done.
user_start:
        call    *%rbx
user_done:
        ud2

// The callbacks for `syscall` and `sysenter` from user mode: as traps with numbers of their own.
        .globl syscall_entry, syscall32_entry, sysenter_entry
        .macro CALLBACK vector
        pop     %rcx
        pop     %r11
        push    $0
        push    $\vector
        jmp     trap_common
        .endm
syscall_entry:
        CALLBACK 0x100
syscall32_entry:
        CALLBACK 0x101
sysenter_entry:
        CALLBACK 0x102

// A further vCPU begins here.
        .globl vcpu_entry
vcpu_entry:
        xor     %ebp, %ebp
        call    vcpu_started
        ud2

        .balign 4096
        .globl hypercall_page
hypercall_page:
        .skip 4096
        .bss
        .balign 65536
        .globl first_stack
first_stack:                            // VcpuBlock at its start; see pv/traps.h
        .skip 65536
first_stack_end:
        .globl nmi_count
nmi_count:
        .skip 8
        .globl failsafe_selectors       // ds, es, fs, gs
failsafe_selectors:
        .skip 32
        .globl handler_flags
handler_flags:
        .skip 8
