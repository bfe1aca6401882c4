/* LD_PRELOAD into a program of the toolstack: what its calls of the hypervisor cost, in ticks of the TSC, each with Linux's own way there
   and back. With COUNT_HYPERCALLS=FILE in the environment, one line a kind: number and command, how often, ticks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

struct call {
    uint64_t number, argument[5];
};
struct multicall_entry {
    uint64_t number, result, argument[6];
};
enum { multicall = 13, mmuext_op = 26, xsm_op = 27, sysctl = 35, domctl = 36, kinds = 512 };
#define PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct call))

static struct kind {
    uint64_t number, command, count, ticks;
} seen[kinds];

static struct kind* kind_of(unsigned long request, void const* data) {
    uint64_t number = 1000 + (request & 0xff), command = 0; /* not a hypercall: Linux's request, mapping of memory among them */
    if (request == PRIVCMD_HYPERCALL) {
        struct call const* call = data;
        number = call->number, command = call->argument[0];
        if (number == multicall) { /* libxc wraps each memory_op in one */
            struct multicall_entry const* entry = (void*)call->argument[0];
            number = entry->number, command = entry->argument[0];
        } else if (number == domctl || number == sysctl || number == mmuext_op || number == xsm_op)
            command = *(uint32_t const*)call->argument[0];
    }
    for (struct kind* k = seen; k < seen + kinds; ++k) {
        if (k->count == 0)
            *k = (struct kind){number, command, 0, 0};
        if (k->number == number && k->command == command)
            return k;
    }
    abort();
}

int ioctl(int fd, unsigned long request, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void* const data = va_arg(rest, void*);
    va_end(rest);
    if (!next)
        next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    if (_IOC_TYPE(request) != 'P')
        return next(fd, request, data);
    struct kind* const kind = kind_of(request, data);
    uint64_t const begun = __rdtsc();
    int const result = next(fd, request, data);
    kind->ticks += __rdtsc() - begun;
    ++kind->count;
    return result;
}

__attribute__((destructor)) static void report(void) {
    char const* const path = getenv("COUNT_HYPERCALLS");
    FILE* const file = path ? fopen(path, "a") : NULL;
    for (struct kind const* k = seen; file && k < seen + kinds && k->count; ++k)
        fprintf(file, "%lu.%lu %lu %lu\n", k->number, k->command, k->count, k->ticks);
    if (file)
        fclose(file);
}
