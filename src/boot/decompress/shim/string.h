// What the decoders need of <string.h>; arch/ or the host's C library defines the functions.
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
void* memchr(void const* s, int c, size_t n);
int memcmp(void const* a, void const* b, size_t n);
void* memcpy(void* __restrict to, void const* __restrict from, size_t n);
void* memmove(void* to, void const* from, size_t n);
void* memset(void* to, int c, size_t n);
#ifdef __cplusplus
}
#endif
