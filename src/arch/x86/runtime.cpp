// What the compiler may call without being asked, and libc++'s last word.
#include "console/log.h"

#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, void const* from, size_t size) {
    void* const result = to;
    size_t quads = size / 8, bytes = size % 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(quads) : : "memory");
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return result;
}

void* memset(void* to, int value, size_t size) {
    void* const result = to;
    uint64_t const pattern = static_cast<uint8_t>(value) * 0x0101010101010101ull;
    size_t quads = size / 8, bytes = size % 8;
    asm volatile("rep stosq" : "+D"(to), "+c"(quads) : "a"(pattern) : "memory");
    asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(pattern) : "memory");
    return result;
}

void* memmove(void* to, void const* from, size_t size) {
    if (reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from) >= size)
        return memcpy(to, from, size);
    auto* target = static_cast<unsigned char*>(to);
    auto const* source = static_cast<unsigned char const*>(from);
    while (size-- > 0)
        target[size] = source[size];
    return to;
}

int memcmp(void const* a, void const* b, size_t size) {
    auto const* x = static_cast<unsigned char const*>(a);
    auto const* y = static_cast<unsigned char const*>(b);
    for (size_t i = 0; i < size; ++i)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

size_t strlen(char const* text) {
    size_t n = 0;
    while (text[n])
        ++n;
    return n;
}

// The C library header declares memchr twice over; the linker knows only the name.
void* find_byte(void const* where, int c, size_t size) asm("memchr");
void* find_byte(void const* where, int c, size_t size) {
    auto const* p = static_cast<unsigned char const*>(where);
    for (size_t i = 0; i < size; ++i)
        if (p[i] == static_cast<unsigned char>(c))
            return const_cast<unsigned char*>(p + i);
    return nullptr;
}

void __cxa_pure_virtual() { hearth::panic("pure virtual function called"); }
}

namespace std {
inline namespace __1 {
[[noreturn]] void __libcpp_verbose_abort(char const* format, ...) {
    hearth::panic("standard library check failed: {}", format);
}
} // namespace __1
} // namespace std

void operator delete(void*, size_t) noexcept { hearth::panic("operator delete called"); }
void operator delete(void*) noexcept { hearth::panic("operator delete called"); }
