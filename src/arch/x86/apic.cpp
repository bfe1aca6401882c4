#include "arch/apic.h"

#include "arch/x86/intrinsics.h"

namespace hearth::arch {
namespace {

// Register offsets (Intel SDM vol. 3A, table 11-1); an x2APIC's MSR is 0x800 + offset / 16.
constexpr unsigned reg_id = 0x20, reg_task_priority = 0x80, reg_eoi = 0xb0, reg_ldr = 0xd0,
                   reg_dfr = 0xe0, reg_spurious = 0xf0, reg_icr_low = 0x300, reg_icr_high = 0x310,
                   reg_lvt_timer = 0x320, reg_lvt_lint0 = 0x350, reg_lvt_lint1 = 0x360,
                   reg_lvt_error = 0x370, reg_timer_initial = 0x380, reg_timer_current = 0x390,
                   reg_timer_divide = 0x3e0;
constexpr uint32_t lvt_masked = 1u << 16, lvt_nmi = 4u << 8;
constexpr uint32_t lvt_tsc_deadline = 2u << 17;
constexpr uint32_t icr_init = 0x4500, icr_startup = 0x4600, icr_nmi = 0x4400, icr_fixed = 0x4000,
                   icr_self = 1u << 18, icr_pending = 1u << 12;

constinit uint32_t volatile* mmio = nullptr;
constinit bool x2apic = false;
constinit bool tsc_deadline_mode = false;

uint32_t read(unsigned reg) {
    return x2apic ? static_cast<uint32_t>(read_msr(0x800 + reg / 16)) : mmio[reg / 4];
}
void write(unsigned reg, uint32_t value) {
    if (x2apic)
        write_msr(0x800 + reg / 16, value);
    else
        mmio[reg / 4] = value;
}

void wait_until_sent() {
    while (mmio[reg_icr_low / 4] & icr_pending)
        pause();
}

void send_command(uint32_t target, uint32_t command) {
    if (x2apic) {
        asm volatile("mfence; lfence" : : : "memory"); // x2APIC writes are not serialising
        write_msr(0x800 + reg_icr_low / 16, uint64_t{target} << 32 | command);
        return;
    }
    wait_until_sent();
    mmio[reg_icr_high / 4] = target << 24;
    mmio[reg_icr_low / 4] = command;
}

} // namespace

PhysicalAddress apic_address() {
    constexpr uint64_t address_bits = 0x000ffffffffff000;
    return PhysicalAddress{read_msr(msr::apic_base) & address_bits};
}

bool apic_setup(void* registers, bool allow_x2apic) {
    mmio = static_cast<uint32_t volatile*>(registers);
    uint64_t const base = read_msr(msr::apic_base);
    bool const already = base & bit(10);
    x2apic = already || (allow_x2apic && (cpuid(1).ecx & bit(21)));
    return x2apic;
}

void apic_initialise_cpu(bool takes_nmi_line) {
    uint64_t const base = read_msr(msr::apic_base);
    write_msr(msr::apic_base, base | bit(11) | (x2apic ? bit(10) : 0));
    if (!x2apic) {
        write(reg_dfr, 0xffffffff);
        write(reg_ldr, 0);
    }
    write(reg_task_priority, 0);
    write(reg_spurious, 0x100 | vector_spurious);
    write(reg_lvt_error, vector_error);
    write(reg_lvt_lint0, lvt_masked);
    write(reg_lvt_lint1, takes_nmi_line ? lvt_nmi : lvt_masked);
    write(reg_timer_divide, 0x3); // by 16
    write(reg_lvt_timer, vector_timer | (tsc_deadline_mode ? lvt_tsc_deadline : 0));
}

bool apic_can_reach(uint32_t id) {
    constexpr uint32_t everybody = 0xff;
    return x2apic || id < everybody;
}
uint32_t apic_id() { return x2apic ? read(reg_id) : read(reg_id) >> 24; }
void apic_send(uint32_t target, uint8_t vector) { send_command(target, icr_fixed | vector); }
void apic_send_init(uint32_t target) { send_command(target, icr_init); }
void apic_send_startup(uint32_t target, uint8_t page) { send_command(target, icr_startup | page); }
void apic_send_nmi(uint32_t target) { send_command(target, icr_nmi); }
void apic_send_self_from_nmi(uint8_t vector) {
    if (x2apic)
        return write_msr(0x800 + reg_icr_low / 16, icr_self | icr_fixed | vector);
    // A shorthand does not use the high half, which the interrupted code may have written.
    wait_until_sent();
    mmio[reg_icr_low / 4] = icr_self | icr_fixed | vector;
    wait_until_sent();
}
void apic_end_of_interrupt() { write(reg_eoi, 0); }

void apic_timer_start(uint32_t ticks) { write(reg_timer_initial, ticks); }
uint32_t apic_timer_remaining() { return read(reg_timer_current); }

void apic_use_tsc_deadline() {
    tsc_deadline_mode = true;
    write(reg_lvt_timer, vector_timer | lvt_tsc_deadline);
    asm volatile("mfence" : : : "memory"); // SDM vol. 3A, 11.5.4.1: before the first deadline
}
void apic_timer_deadline(uint64_t tsc) { write_msr(msr::tsc_deadline, tsc); }

} // namespace hearth::arch
