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
        lea     guest_stack_end(%rip), %rsp
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
        .rept 32
        .if (v == 8) || (v >= 10 && v <= 14) || (v == 17) || (v == 21)
        TRAP v, 1
        .else
        TRAP v, 0
        .endif
        .set v, v + 1
        .endr

trap_common:
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
        add     $32, %rsp               // ds, es, fs, gs
        push    $0
        push    $255
        jmp     trap_common

// bool probe(void (*function)(void*), void* argument): false if it trapped; the trap handler returns to probe_failed.
        .globl probe, probe_failed
probe:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, probe_stack(%rip)
        mov     %rdi, %rax
        mov     %rsi, %rdi
        call    *%rax
        mov     $1, %eax
        jmp     1f
probe_failed:
        mov     probe_stack(%rip), %rsp
        xor     %eax, %eax
1:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret

        .balign 4096
        .globl hypercall_page
hypercall_page:
        .skip 4096
        .bss
        .balign 4096
guest_stack:
        .skip 65536
guest_stack_end:
        .globl probe_stack
probe_stack:
        .skip 8
nmi_count:
        .skip 8
