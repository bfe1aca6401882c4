// There is no heap: the decoders get their memory from an allocator or a workspace that we pass.
// Their fall-backs to malloc are compiled but fail.
#pragma once
#include <stddef.h>

static inline void* decoder_no_malloc(size_t size) {
    (void)size;
    return NULL;
}
static inline void* decoder_no_calloc(size_t count, size_t size) {
    (void)count;
    (void)size;
    return NULL;
}
static inline void decoder_no_free(void* pointer) { (void)pointer; }
// Not function-like: liblzma calls members of these names with other arguments.
#define malloc decoder_no_malloc
#define calloc decoder_no_calloc
#define free decoder_no_free
