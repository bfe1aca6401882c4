/* Constants that assembly and C++ share. C++ asserts them in entry.cpp. */
#pragma once

#define STACK_SIZE 0x4000
/* From the end of a stack: where the pointers to the CPU's block and to the thread lie. */
#define STACK_CPU_OFFSET 16
#define STACK_THREAD_OFFSET 8
#define STACK_RESERVED 16

#define IMAGE_BASE 0xffff828000000000

#define HYPERVISOR_CS 0xe008
#define HYPERVISOR_DS 0xe010
#define RING3_CS32 0xe023
#define RING3_DS 0xe02b
#define RING3_CS64 0xe033
#define HYPERVISOR_TSS 0xe040

/* Registers::vector of a frame that `syscall` made, from 64- and 32-bit code. */
#define ENTERED_BY_SYSCALL 0x100
#define ENTERED_BY_SYSCALL32 0x101

/* WayBack */
#define WAY_BORDER 0
#define WAY_SYSRET 1
#define WAY_IRET 2

/* What may have to stand at a place of the code. */
#define SITE_CLAC 0
#define SITE_STAC 1
#define SITE_FILL_RETURN_STACK 2
#define SITE_CLEAR_BUFFERS 3

#define MAX_CPUS 64
#define PAGE_SIZE 4096
#define RFLAGS_TF 0x100

/* Airlock: its first landing ends where the stack and CR3 to go on with lie. */
#define AIRLOCK_LANDING 240
#define AIRLOCK_STACK 240
#define AIRLOCK_CR3 248
#define AIRLOCK_GUEST_RSP 1280
