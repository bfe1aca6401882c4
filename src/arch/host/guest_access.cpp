// The processor's view of guest memory: page tables walked as hardware does, from the CR3 that was
// last written.
#include "arch/host/machine.h"
#include "arch/intrinsics.h"
#include "memory/direct_map.h"
#include "memory/page.h"

extern "C" bool resolve_guest_fault(uint64_t address, uint32_t error_code);

namespace hearth {
namespace host {

void (*walk_observer)(Mfn table, unsigned level) = nullptr;
void (*guest_access)(void const* from, size_t size) = nullptr;

namespace {
/// Guests of the fake machine live where the process itself has nothing, so that a pointer is never
/// mistaken.
bool is_guest_address(uint64_t address) {
    return address < uint64_t{1} << 44 || address >= 0xffff880000000000;
}
} // namespace

void* guest_memory_at(uint64_t address, bool write) {
    if (!is_guest_address(address))
        return nullptr;
    Mfn table = frame_of(PhysicalAddress{cpu_state(current_cpu()).cr3});
    for (unsigned level = 4; level >= 1; --level) {
        if (!is_ram(table))
            return nullptr;
        if (walk_observer)
            walk_observer(table, level);
        uint64_t* const entry = &direct<uint64_t>(table)[table_index(address, level)];
        Pte const value{__atomic_load_n(entry, __ATOMIC_ACQUIRE)};
        if (!value.present() || !(value.v & pte::user) || (write && !value.writable()))
            return nullptr;
        __atomic_fetch_or(entry, pte::accessed | (write && level == 1 ? pte::dirty : 0),
                          __ATOMIC_RELAXED);
        table = value.mfn();
    }
    if (!is_ram(table))
        return nullptr;
    return direct<char>(table) + (address & page_mask);
}

} // namespace host

namespace arch {
namespace {
/// As the exception handler does it: what shadow page tables do not have yet they may get.
void* reach(uint64_t address, bool write) {
    constexpr uint32_t write_fault = 2;
    void* const memory = host::guest_memory_at(address, write);
    if (memory || !host::on_cpu_flow() || !resolve_guest_fault(address, write ? write_fault : 0))
        return memory;
    return host::guest_memory_at(address, write);
}
} // namespace

size_t copy_guest(void* to, void const* from, size_t size) {
    // In numbers, not pointers: a guest may well have memory at address 0.
    auto target = reinterpret_cast<uint64_t>(to), source = reinterpret_cast<uint64_t>(from);
    bool const writing = host::is_guest_address(target);
    if (writing == host::is_guest_address(source))
        return size;
    if (host::guest_access)
        host::guest_access(from, writing ? size : 0);
    while (size != 0) {
        uint64_t const address = writing ? target : source;
        size_t const here = page_size - (address & page_mask);
        size_t const part = here < size ? here : size;
        void* const memory = reach(address, writing);
        if (!memory)
            return size;
        memcpy(writing ? memory : reinterpret_cast<void*>(target),
               writing ? reinterpret_cast<void const*>(source) : memory, part);
        target += part;
        source += part;
        size -= part;
    }
    return 0;
}

bool compare_exchange_guest(void* address, uint64_t* expected, uint64_t desired, size_t size) {
    void* const memory = reach(reinterpret_cast<uint64_t>(address), true);
    if (!memory)
        return false;
    uint64_t found = 0;
    memcpy(&found, memory, size);
    if (found == *expected)
        memcpy(memory, &desired, size);
    *expected = found;
    return true;
}

} // namespace arch
} // namespace hearth
