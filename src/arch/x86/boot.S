// From the boot loader's 32-bit protected mode to C++ in long mode, for the first CPU and for the others.
#include "asm.h"
#define PHYSICAL(symbol) (symbol - IMAGE_BASE)

// Multiboot 1 (QEMU's -kernel, GRUB legacy): modules page aligned, memory map wanted.
        .section .boot.header, "ax"
        .code32
        .balign 4
multiboot1_header:
        .long 0x1badb002, 0x3, -(0x1badb002 + 0x3)

// Multiboot 2 (GRUB 2, from BIOS or UEFI).
        .balign 8
multiboot2_header:
        .long 0xe85250d6, 0, multiboot2_header_end - multiboot2_header
        .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
        .word 6, 0              // modules page aligned
        .long 8
        .word 1, 0              // information wanted: memory map, command line, modules
        .long 20
        .long 6, 1, 3
        .balign 8
        .word 0, 0
        .long 8
multiboot2_header_end:

        .section .boot.text, "ax"
        .code32
        .globl multiboot_entry
multiboot_entry:
        cli
        cld
        mov     %eax, %esi              // loader's magic
        mov     %ebx, %edi              // physical address of its information
        xor     %ebp, %ebp              // 0: the first CPU
        mov     $PHYSICAL(boot_stack) + STACK_SIZE - STACK_RESERVED, %esp
        mov     $0x80000000, %eax
        cpuid
        cmp     $0x80000001, %eax
        jb      no_long_mode
        mov     $0x80000001, %eax
        cpuid
        and     $(1 << 29) | (1 << 20), %edx
        cmp     $(1 << 29) | (1 << 20), %edx
        jne     no_long_mode
        lgdtl   PHYSICAL(boot_gdt_descriptor)
        ljmpl   $0x08, $PHYSICAL(enter_long_mode)

// Every CPU comes by here, in 32-bit protected mode with boot_gdt; ebp is 0 on the first.
        .globl enter_long_mode
enter_long_mode:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $(1 << 5), %eax         // CR4.PAE
        mov     %eax, %cr4
        mov     $PHYSICAL(boot_l4), %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       // EFER: SCE, LME, NXE
        mov     $0x901, %eax
        xor     %edx, %edx
        wrmsr
        mov     $0x80050033, %eax       // CR0: PG AM WP NE ET MP PE; AM is for guests that set EFLAGS.AC
        mov     %eax, %cr0
        ljmpl   $0x18, $PHYSICAL(long_mode)

no_long_mode:
        mov     $PHYSICAL(no_long_mode_text), %esi
        mov     $0xb8000, %edi
1:      lodsb
        test    %al, %al
        jz      2f
        mov     $0x4f, %ah
        stosw
        mov     %al, %bl
        mov     $0x3f8, %edx
        outb    %al, %dx
        jmp     1b
2:      hlt
        jmp     2b

        .code64
long_mode:
        movabs  $1f, %rax
        jmp     *%rax
1:      xor     %eax, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %eax, %ss
        test    %ebp, %ebp
        jnz     2f
        lea     boot_stack + STACK_SIZE - STACK_RESERVED(%rip), %rsp
        xchg    %rdi, %rsi              // (magic, information)
        call    boot_first_cpu
        ud2
2:      mov     next_cpu_cr3(%rip), %rax
        mov     %rax, %cr3
        mov     next_cpu_stack(%rip), %rsp
        xor     %ebp, %ebp
        call    boot_other_cpu
        ud2

// Copied to a page below 1 MiB: a start-up IPI begins here in real mode.
        .globl trampoline_start, trampoline_end
        .code16
trampoline_start:
        cli
        lgdtl   %cs:trampoline_gdt - trampoline_start
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        mov     $1, %ebp
        ljmpl   $0x08, $PHYSICAL(enter_long_mode)
        .balign 4
trampoline_gdt:
        .word   boot_gdt_end - boot_gdt - 1
        .long   PHYSICAL(boot_gdt)
trampoline_end:

        .section .rodata
no_long_mode_text:
        .asciz "Hearth needs a 64-bit CPU with no-execute pages.\r\n"
        .balign 8
boot_gdt:
        .quad 0
        .quad 0x00cf9b000000ffff        // 32-bit code
        .quad 0x00cf93000000ffff        // data
        .quad 0x00af9b000000ffff        // 64-bit code
boot_gdt_end:
boot_gdt_descriptor:
        .word   boot_gdt_end - boot_gdt - 1
        .long   PHYSICAL(boot_gdt)

// Identity and direct map of the first 4 GiB, and the image; replaced by C++ as soon as it can.
        .data
        .balign 4096
        .globl boot_l4
boot_l4:
        .quad   PHYSICAL(boot_l3) + 3
        .fill   260, 8, 0
        .quad   PHYSICAL(boot_image_l3) + 3     // slot 261
        .fill   2, 8, 0
        .quad   PHYSICAL(boot_l3) + 3           // slot 264
        .fill   247, 8, 0
boot_l3:
        .set    i, 0
        .rept   4
        .quad   PHYSICAL(boot_l2) + i * 4096 + 3
        .set    i, i + 1
        .endr
        .fill   508, 8, 0
boot_image_l3:
        .quad   PHYSICAL(boot_l2) + 3
        .fill   511, 8, 0
boot_l2:
        .set    i, 0
        .rept   2048
        .quad   (i << 21) + 0x83
        .set    i, i + 1
        .endr

        .section .bss.aligned, "aw", @nobits
        .balign STACK_SIZE
        .globl boot_stack
boot_stack:
        .skip   STACK_SIZE
        .bss
        .balign 8
        .globl next_cpu_stack, next_cpu_cr3
next_cpu_stack:
        .quad 0
next_cpu_cr3:
        .quad 0
