#include "cpu/bringup.h"

#include "arch/apic.h"
#include "arch/context.h"
#include "arch/descriptors.h"
#include "arch/intrinsics.h"
#include "cpu/cpu.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/guest_view.h"
#include "memory/paging.h"
#include "memory/stacks.h"

#include <cstring>

extern "C" {
extern char trampoline_start[], trampoline_end[];
extern uint64_t next_cpu_stack, next_cpu_cr3;
void boot_other_cpu();
}

namespace hearth {
namespace {

constinit uint64_t trampoline_page = 0;
constinit void (*cpu_main)() = nullptr;
constinit unsigned next_id = 0;
constinit uint64_t interrupt_stacks = 0;

void spin(uint64_t tsc_ticks) {
    uint64_t const start = arch::read_tsc();
    while (arch::read_tsc() - start < tsc_ticks)
        arch::pause();
}

} // namespace

void prepare_trampoline(uint64_t physical_page) {
    if (physical_page == 0) // no memory for it: one CPU it is
        return;
    auto const mapped = map_device(PhysicalAddress{physical_page}, page_size);
    if (!mapped)
        return;
    memcpy(*mapped, trampoline_start, static_cast<size_t>(trampoline_end - trampoline_start));
    trampoline_page = physical_page;
}

bool start_cpu(unsigned id, uint32_t apic_id, uint32_t acpi_id, void (*main)()) {
    auto const stack = allocate_stack();
    auto const interrupts = allocate_frames(2);
    if (!stack || !interrupts || !prepare_guest_view(id) || trampoline_page == 0)
        return false;
    Cpu& cpu = cpu_block(id);
    cpu.id = id;
    cpu.apic_id = apic_id;
    cpu.acpi_id = acpi_id;
    interrupt_stacks = reinterpret_cast<uint64_t>(direct<char>(*interrupts));
    bind_stack(*stack + arch::stack_size, cpu);
    bind_stack(interrupt_stacks + arch::stack_size, cpu);
    cpu_main = main;
    next_id = id;
    next_cpu_cr3 = idle_cr3();
    next_cpu_stack = *stack + arch::stack_size - arch::stack_reserved;
    cpu.idle_stack = *stack;
    // INIT, then twice the start-up IPI. (Intel SDM vol. 3A, 9.4.4)
    constexpr uint64_t about_200_us = 500'000;
    arch::apic_send_init(apic_id);
    spin(about_200_us * 10);
    for (unsigned attempt = 0; attempt < 2; ++attempt) {
        arch::apic_send_startup(apic_id, static_cast<uint8_t>(trampoline_page >> page_shift));
        for (unsigned wait = 0; wait < (attempt ? 5000u : 5u); ++wait) {
            if (online_cpus().has(id))
                return true;
            spin(about_200_us);
        }
    }
    return online_cpus().has(id);
}

} // namespace hearth

void boot_other_cpu() {
    using namespace hearth;
    Cpu& cpu = this_cpu();
    arch::initialise_descriptor_tables(cpu.id, interrupt_stacks, &cpu.stack_top_word);
    cpu_main();
}
