// CPUs, their registers, interrupts and ports.
#include "arch/host/machine.h"

#include "arch/apic.h"
#include "arch/descriptors.h"
#include "arch/fpu.h"
#include "arch/intrinsics.h"
#include "arch/symbols.h"
#include "arch/x86/airlock.h"
#include "cpu/cpu.h"
#include "memory/layout.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif

/// Of the coverage build alone.
extern "C" [[gnu::weak]] int __llvm_profile_write_file();

namespace hearth {

namespace host {
namespace {
thread_local unsigned running_cpu = 0;
std::mutex interrupts_mutex;
uint8_t cmos_index = 0;
uint8_t uart_scratch = 0;
} // namespace

std::atomic<uint64_t> tsc = 1'000'000;
uint64_t tsc_step = 0;
void (*urgent_interrupt)(uint8_t vector) = nullptr;
void (*interrupt_window)() = nullptr;
void (*spin)() = nullptr;
uint32_t (*timer_remaining)(uint32_t ticks) = nullptr;
void (*hesitate)() = nullptr;
uint8_t (*read_port)(uint16_t port, uint8_t last_index) = nullptr;
uint32_t (*read_wide_port)(uint16_t port, unsigned size) = nullptr;
void (*write_port)(uint16_t port, unsigned size, uint32_t value) = nullptr;

[[gnu::noinline]] unsigned current_cpu() { return running_cpu; }
[[gnu::noinline]] void set_current_cpu(unsigned cpu) { running_cpu = cpu; }
void post_interrupt(unsigned cpu, uint8_t vector) {
    std::scoped_lock const guard{interrupts_mutex};
    cpu_state(cpu).interrupts.push_back(vector);
}
std::vector<uint8_t> collect_interrupts(unsigned cpu) {
    std::scoped_lock const guard{interrupts_mutex};
    return std::exchange(cpu_state(cpu).interrupts, {});
}
CpuState& cpu_state(unsigned cpu) {
    static CpuState states[cpu_limit];
    return states[cpu];
}
std::map<std::pair<uint32_t, uint32_t>, std::array<uint32_t, 4>>& cpuid_words() {
    static std::map<std::pair<uint32_t, uint32_t>, std::array<uint32_t, 4>> words;
    return words;
}
std::string& serial_output() {
    static std::string text;
    return text;
}

namespace {
std::atomic<uint64_t> left_until_failure{0};
std::atomic<bool> failed{false};
} // namespace
void fail_allocation(uint64_t n) {
    left_until_failure = n;
    if (n != 0)
        failed = false;
}
uint64_t allocations_left() { return left_until_failure; }
bool allocation_failed() { return failed; }

} // namespace host

Cpu& this_cpu() {
    if (host::hesitate)
        host::hesitate();
    return cpu_block(host::current_cpu());
}
void bind_stack(uint64_t, Cpu&) {}
Symbol find_symbol(uint64_t) { return {"?", 0}; }

namespace arch {
namespace {
host::CpuState& mine() { return host::cpu_state(host::current_cpu()); }
constexpr uint16_t com1 = 0x3f8;
} // namespace

uint64_t read_msr(uint32_t index) { return mine().msrs[index]; }
void write_msr(uint32_t index, uint64_t value) { mine().msrs[index] = value; }
uint64_t read_cr2() { return mine().cr2; }
uint64_t read_cr3() { return mine().cr3; }
void write_cr3(uint64_t value) {
    host::CpuState& state = mine();
    state.cr3 = value & ~(cr3::no_flush | page_mask);
    state.tag = value & 7;
    if (value & cr3::no_flush)
        return;
    ++state.cr3_loads;
    ++state.tag_loads[state.tag];
}
uint64_t read_cr4() { return mine().cr4; }
void write_cr4(uint64_t value) {
    mine().cr4 = value;
    ++mine().cr4_writes;
}
uint64_t read_dr6() { return mine().dr6; }
void write_dr6(uint64_t value) { mine().dr6 = value; }
CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) {
    auto const found = host::cpuid_words().find({leaf, subleaf});
    if (found == host::cpuid_words().end())
        return {};
    auto const& [eax, ebx, ecx, edx] = found->second;
    return {eax, ebx, ecx, edx};
}
void set_entry_stack(unsigned cpu, uint64_t top) { host::cpu_state(cpu).entry_stack = top; }
uint64_t entry_stack(unsigned cpu) { return host::cpu_state(cpu).entry_stack; }
void empty_airlock(unsigned cpu) { memset(&airlocks[cpu], 0, sizeof airlocks[cpu]); }
PartsForEntry parts_for_entry(unsigned cpu) {
    uint64_t const text = layout::image, airlock = layout::image + (cpu + 1) * page_size;
    return {{{text, text + page_size}, {airlock, airlock + page_size}}};
}
void invalidate_page(uint64_t) { ++mine().pages_invalidated; }
void invalidate_page_of(unsigned, uint64_t) { ++mine().pages_invalidated; }
uint64_t read_tsc() { return host::tsc.fetch_add(host::tsc_step) + host::tsc_step; }

bool allocation_fails() {
    uint64_t left = host::left_until_failure.load();
    while (left != 0 && !host::left_until_failure.compare_exchange_weak(left, left - 1)) {
    }
    if (left != 1)
        return false;
    host::failed = true;
    return true;
}

void memory_given(void* memory, size_t size) {
#if __has_feature(address_sanitizer)
    ASAN_UNPOISON_MEMORY_REGION(memory, size);
#else
    (void)memory;
    (void)size;
#endif
}
void memory_freed(void* memory, size_t size) {
    memory_given(memory, size); // what of it was free already
    memset(memory, host::canary, size);
#if __has_feature(address_sanitizer)
    ASAN_POISON_MEMORY_REGION(memory, size);
#endif
}

void open_interrupt_window() {
    if (host::interrupt_window)
        host::interrupt_window();
}
void pause() {
    if (host::spin)
        return host::spin();
    if (host::on_cpu_flow())
        host::leave_cpu();
}
void wait_for_interrupt() {
    if (!host::on_cpu_flow()) {
        fputs("a CPU idles, and nobody can wake it\n", stderr);
        halt_forever();
    }
    host::leave_cpu();
}
void halt_forever() {
    fwrite(host::serial_output().data(), 1, host::serial_output().size(), stderr);
    fputs("the fake machine stopped\n", stderr);
    if (__llvm_profile_write_file) // which abort() leaves out
        (void)__llvm_profile_write_file();
    abort();
}

PhysicalAddress apic_address() { return PhysicalAddress{0xfee00000}; }
bool apic_setup(void*, bool) { return false; }
void apic_initialise_cpu() {}
bool apic_can_reach(uint32_t) { return true; }
uint32_t apic_id() { return host::current_cpu(); }
void apic_send(uint32_t target, uint8_t vector) {
    if (vector == vector_flush && host::urgent_interrupt) {
        unsigned const self = host::current_cpu();
        host::set_current_cpu(target);
        host::urgent_interrupt(vector);
        host::set_current_cpu(self);
        return;
    }
    host::post_interrupt(target, vector);
}
void apic_send_init(uint32_t) {}
void apic_send_startup(uint32_t, uint8_t) {}
void apic_send_nmi(uint32_t) {}
void apic_send_self_from_nmi(uint8_t vector) { host::post_interrupt(host::current_cpu(), vector); }
void apic_end_of_interrupt() {}
void apic_timer_start(uint32_t ticks) { mine().timer_ticks = ticks; }
uint32_t apic_timer_remaining() {
    return host::timer_remaining ? host::timer_remaining(mine().timer_ticks) : mine().timer_ticks;
}
void apic_use_tsc_deadline() {}
void apic_timer_deadline(uint64_t deadline) { mine().timer_deadline_tsc = deadline; }

void fpu_initialise_cpu(bool) {}
size_t fpu_area_size() { return 512; }
uint64_t fpu_features() { return 0; }
void fpu_reset_area(void* area) { memset(area, 0, fpu_area_size()); }
void fpu_set_legacy(void* area, uint8_t const (&image)[512]) { memcpy(area, image, sizeof image); }
void fpu_get_legacy(void const* area, uint8_t (&image)[512]) { memcpy(image, area, sizeof image); }
bool fpu_set_area(void*, std::span<std::byte const>) { return false; }
void fpu_save(void*, uint64_t) {}
void fpu_restore(void*, uint64_t) {}
void fpu_set_xcr0(uint64_t) {}
void set_task_switched(bool) {}

uint8_t in8(uint16_t port) {
    if (host::read_port)
        return host::read_port(port, host::cmos_index);
    switch (port) {
    case com1 + 5:
        return 0x60; // ready to transmit
    case com1 + 7:
        return host::uart_scratch;
    default:
        return 0xff;
    }
}
static void written(uint16_t port, unsigned size, uint32_t value) {
    if (host::write_port)
        host::write_port(port, size, value);
}
void out8(uint16_t port, uint8_t value) {
    if (port == 0x70)
        host::cmos_index = value;
    if (port == com1 + 7)
        host::uart_scratch = value;
    if (port == com1)
        host::serial_output().push_back(static_cast<char>(value));
    written(port, 1, value);
}
// Wider reads float high.
uint16_t in16(uint16_t port) {
    return host::read_wide_port ? static_cast<uint16_t>(host::read_wide_port(port, 2)) : 0xffff;
}
uint32_t in32(uint16_t port) {
    return host::read_wide_port ? host::read_wide_port(port, 4) : 0xffffffff;
}
void out16(uint16_t port, uint16_t value) { written(port, 2, value); }
void out32(uint16_t port, uint32_t value) { written(port, 4, value); }

} // namespace arch
} // namespace hearth

namespace hearth {
unsigned physical_address_bits() { return 46; }
} // namespace hearth
