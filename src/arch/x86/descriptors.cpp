#include "arch/x86/descriptors.h"

#include "arch/registers.h"
#include "arch/x86/airlock.h"
#include "arch/x86/asm.h"
#include "arch/x86/intrinsics.h"

#include <initializer_list>
#include <iterator>
#include <utility>

extern "C" {
extern char vector_stubs[], syscall_stubs[], syscall32_stubs[], sysenter_entry[];
extern char airlock_vector_stubs[], airlock_syscall_stubs[], airlock_syscall32_stubs[],
    airlock_sysenter[], airlock_text_start[], airlock_text_end[];
struct alignas(64) SyscallSlot {
    uint64_t guest_rsp, stack_top, unused[6];
};
extern SyscallSlot syscall_slots[];
}

namespace hearth::arch {
namespace {

constexpr unsigned max_cpus = MAX_CPUS;

/// The slots from selector 0xe000 on. (public/arch-x86/xen-x86_64.h: FLAT_RING3_*)
enum GdtSlot {
    null_slot,
    hypervisor_code,
    hypervisor_data,
    unused,
    user_code32,
    user_data,
    user_code64,
    unused2,
    tss_low,
    tss_high,
    ldt_low,
    ldt_high,
    gdt_slots
};
constexpr uint64_t reserved_start = 0xe000;
constexpr uint64_t selector(GdtSlot slot, unsigned rpl) { return reserved_start + slot * 8 + rpl; }
static_assert(selector(hypervisor_code, 0) == HYPERVISOR_CS);
static_assert(selector(hypervisor_data, 0) == HYPERVISOR_DS);
static_assert(selector(user_code32, 3) == RING3_CS32, "FLAT_RING3_CS32 is guest ABI");
static_assert(selector(user_data, 3) == RING3_DS, "FLAT_RING3_DS is guest ABI");
static_assert(selector(user_code64, 3) == RING3_CS64, "FLAT_RING3_CS64 is guest ABI");
static_assert(selector(tss_low, 0) == HYPERVISOR_TSS);

struct GdtPage {
    alignas(page_size) uint64_t entries[page_size / 8];
};
constexpr GdtPage make_reserved_page() {
    GdtPage page{};
    page.entries[hypervisor_code] = 0x00af9b000000ffff;
    page.entries[hypervisor_data] = 0x00cf93000000ffff;
    page.entries[user_code32] = 0x00cffb000000ffff;
    page.entries[user_data] = 0x00cff3000000ffff;
    page.entries[user_code64] = 0x00affb000000ffff;
    return page;
}
// Read-only memory: a guest's selector loads only read it, since every accessed bit is set.
constinit GdtPage const reserved_page = make_reserved_page();

struct [[gnu::packed]] Tss {
    uint32_t reserved0 = 0;
    uint64_t rsp[3]{};
    uint64_t reserved1 = 0;
    uint64_t ist[7]{};
    uint64_t reserved2 = 0;
    uint16_t reserved3 = 0;
    uint16_t io_map = sizeof(Tss); // beyond the limit: no port is open to ring 3
};
static_assert(sizeof(Tss) == 104);

struct IdtGate {
    uint64_t low = 0, high = 0;
};

// Pages of their own, since guests may have them mapped.
struct alignas(page_size) Idt {
    IdtGate gates[256]{};
};
constinit Idt idt{};
struct alignas(16) CpuTables {
    Tss tss{};
    uint64_t gdt[gdt_slots]{};
};
struct alignas(page_size) AllTables {
    CpuTables of[max_cpus]{};
};
constinit AllTables tables{};
constinit bool airlocks_in_use = false;

constexpr unsigned ist_nmi = 1, ist_double_fault = 2, ist_machine_check = 3;
constexpr unsigned ist_debug = 4;
constexpr uint64_t interrupt_stack_part = 0xff0;

struct [[gnu::packed]] TablePointer {
    uint16_t limit;
    uint64_t base;
};

uint64_t address_of_code(char const* label) { return reinterpret_cast<uint64_t>(label); }

IdtGate make_gate(unsigned vector) {
    uint64_t const target =
        address_of_code(airlocks_in_use ? airlock_vector_stubs : vector_stubs) + vector * 16;
    uint64_t ist = 0;
    if (vector == 2)
        ist = ist_nmi;
    else if (vector == 8)
        ist = ist_double_fault;
    else if (vector == 18)
        ist = ist_machine_check;
    else if (vector == 1)
        ist = ist_debug;
    // int3, into and int 0x80 may come from ring 3; every other `int n` faults and is looked up in
    // the guest's table.
    uint64_t const dpl = vector == 3 || vector == 4 || vector == 0x80 ? 3 : 0;
    uint64_t const interrupt_gate = 0x8e00 | dpl << 13 | ist;
    return {(target & 0xffff) | uint64_t{HYPERVISOR_CS} << 16 | interrupt_gate << 32 |
                (target >> 16 & 0xffff) << 48,
            target >> 32};
}

void load_tables(unsigned cpu) {
    CpuTables& t = tables.of[cpu];
    for (unsigned i = 0; i < tss_low; ++i)
        t.gdt[i] = reserved_page.entries[i];
    uint64_t const base = reinterpret_cast<uint64_t>(&t.tss);
    t.gdt[tss_low] = (sizeof(Tss) - 1) | (base & 0xffffff) << 16 | uint64_t{0x89} << 40 |
                     (base >> 24 & 0xff) << 56;
    t.gdt[tss_high] = base >> 32;
    load_gdt_window(reinterpret_cast<uint64_t>(t.gdt) - reserved_start);
    TablePointer const pointer{sizeof idt - 1, reinterpret_cast<uint64_t>(&idt)};
    asm volatile("lidt %0" : : "m"(pointer));
    // SAFETY: the new GDT maps the flat code segment at HYPERVISOR_CS, so the far return lands in
    // this function.
    asm volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:"
                 :
                 : "i"(HYPERVISOR_CS)
                 : "rax", "memory");
    asm volatile("mov %0, %%ss" : : "r"(uint32_t{0}));
    asm volatile("ltr %w0" : : "r"(HYPERVISOR_TSS));
}

void fill_idt() {
    for (unsigned v = 0; v < 256; ++v)
        idt.gates[v] = make_gate(v);
}

/// The stacks that the processor takes by itself become the airlock's, which lead on to those that
/// it would have taken.
void arrive_in_airlock(unsigned cpu) {
    Tss& tss = tables.of[cpu].tss;
    Airlock& airlock = airlocks[cpu];
    auto const arrive = [](uint64_t& stack, Landing& landing) {
        landing.cr3 = read_cr3();
        landing.stack = std::exchange(stack, reinterpret_cast<uint64_t>(&landing.stack));
    };
    arrive(tss.rsp[0], airlock.entry);
    arrive(tss.ist[ist_nmi - 1], airlock.nmi);
    arrive(tss.ist[ist_double_fault - 1], airlock.double_fault);
    arrive(tss.ist[ist_machine_check - 1], airlock.machine_check);
    arrive(tss.ist[ist_debug - 1], airlock.debug);
}

/// Where `syscall` and `sysenter` lead.
struct CallEntries {
    uint64_t syscall, syscall32, sysenter, sysenter_stack;
};
CallEntries airlock_calls(unsigned cpu) {
    return {address_of_code(airlock_syscall_stubs) + cpu * 64,
            address_of_code(airlock_syscall32_stubs) + cpu * 64, address_of_code(airlock_sysenter),
            reinterpret_cast<uint64_t>(&airlocks[cpu].entry.stack)};
}
void point_calls(CallEntries const& entries) {
    write_msr(msr::lstar, entries.syscall);
    write_msr(msr::cstar, entries.syscall32);
    uint64_t ignored;
    if (try_read_msr(msr::sysenter_cs, &ignored)) {
        write_msr(msr::sysenter_cs, HYPERVISOR_CS);
        write_msr(msr::sysenter_esp, entries.sysenter_stack);
        write_msr(msr::sysenter_eip, entries.sysenter);
    }
}

} // namespace

void initialise_descriptor_tables(unsigned cpu, uint64_t interrupt_stacks,
                                  uint64_t* stack_top_word) {
    if (cpu == 0)
        fill_idt();
    uint64_t top = interrupt_stacks + STACK_SIZE - STACK_RESERVED;
    for (unsigned ist : {ist_nmi, ist_double_fault, ist_machine_check, ist_debug}) {
        tables.of[cpu].tss.ist[ist - 1] = top;
        top -= interrupt_stack_part;
    }
    if (airlocks_in_use)
        arrive_in_airlock(cpu);
    load_tables(cpu);
    write_msr(msr::star, uint64_t{RING3_CS32} << 48 | uint64_t{HYPERVISOR_CS} << 32);
    write_msr(msr::syscall_mask, rflags::interrupts | rflags::tf | rflags::df | rflags::ac |
                                     rflags::nt | rflags::iopl | rflags::rf);
    if (airlocks_in_use)
        point_calls(airlock_calls(cpu));
    else
        point_calls({address_of_code(syscall_stubs) + cpu * 64,
                     address_of_code(syscall32_stubs) + cpu * 64, address_of_code(sysenter_entry),
                     reinterpret_cast<uint64_t>(stack_top_word)});
}

void use_airlocks() {
    airlocks_in_use = true;
    arrive_in_airlock(0);
    fill_idt();
    point_calls(airlock_calls(0));
}

void empty_airlock(unsigned cpu) {
    if (!airlocks_in_use)
        return;
    Airlock& airlock = airlocks[cpu];
    for (Landing* const landing : {&airlock.entry, &airlock.nmi, &airlock.double_fault,
                                   &airlock.machine_check, &airlock.debug})
        fill_quads(landing->room, 0, std::size(landing->room));
    airlock.guest_rsp = 0;
}

PartsForEntry parts_for_entry(unsigned cpu) {
    auto const range = [](auto const& object) {
        uint64_t const start = reinterpret_cast<uint64_t>(&object);
        return AddressRange{start, start + sizeof object};
    };
    return {{{address_of_code(airlock_text_start), address_of_code(airlock_text_end)},
             range(idt),
             range(tables),
             range(airlocks[cpu])}};
}

void set_entry_stack(unsigned cpu, uint64_t top) {
    syscall_slots[cpu].stack_top = top;
    if (airlocks_in_use)
        airlocks[cpu].entry.stack = top;
    else
        tables.of[cpu].tss.rsp[0] = top;
}

uint64_t entry_stack(unsigned cpu) { return syscall_slots[cpu].stack_top; }

void const* reserved_gdt_page() { return &reserved_page; }

void load_ldt(unsigned cpu, uint64_t base, unsigned entries) {
    uint16_t chosen = 0;
    if (entries != 0) {
        // The descriptor stands in this CPU's own GDT, the only one that may hold a system segment.
        uint64_t* const gdt = tables.of[cpu].gdt;
        gdt[ldt_low] = (entries * 8 - 1) | (base & 0xffffff) << 16 | uint64_t{0x82} << 40 |
                       (base >> 24 & 0xff) << 56;
        gdt[ldt_high] = base >> 32;
        load_gdt_window(reinterpret_cast<uint64_t>(gdt) - reserved_start);
        chosen = selector(ldt_low, 0);
    }
    asm volatile("lldt %w0" : : "r"(static_cast<uint32_t>(chosen)));
}

void load_gdt_window(uint64_t base) {
    TablePointer const pointer{0xffff, base};
    asm volatile("lgdt %0" : : "m"(pointer));
}

} // namespace hearth::arch
