#include "cpu/crash.h"

#include "arch/apic.h"
#include "arch/context.h"
#include "arch/intrinsics.h"
#include "arch/symbols.h"
#include "console/console.h"
#include "console/log.h"
#include "cpu/cpu.h"
#include "memory/layout.h"

#include <atomic>

namespace hearth {
namespace {

constinit std::atomic<bool> crashing{false};
constinit bool reboot_on_panic = true;
constinit uint16_t reset_port = 0;
constinit uint8_t reset_value = 0;

void print_address(uint64_t address) {
    Symbol const symbol = find_symbol(address);
    log_error("  [{:016x}] {} + {:x}", address, symbol.name, symbol.offset);
}

/// Follows frame pointers on the hypervisor's own stack only, that of `rsp`: the first of them may
/// be a guest's.
void print_stack_trace(uint64_t rip, uint64_t rsp, uint64_t rbp) {
    log_error("Stack trace:");
    print_address(rip);
    for (unsigned depth = 0; depth < 24; ++depth) {
        if (rbp < rsp || rbp >= align_down(rsp, arch::stack_size) + arch::stack_size - 16 ||
            rbp % 8 != 0)
            return;
        auto const* const frame = reinterpret_cast<uint64_t const*>(rbp);
        if (!layout::is_ours(frame[1]))
            return;
        print_address(frame[1]);
        if (frame[0] <= rbp)
            return;
        rbp = frame[0];
    }
}

/// Only the first CPU to crash reports; others stop here.
void enter_crash() {
    arch::disable_interrupts();
    if (crashing.exchange(true))
        arch::halt_forever();
    console_break_lock();
    set_log_level(Level::debug);
}

[[noreturn]] void finish_crash() {
    unsigned const self = this_cpu_id();
    online_cpus().each([&](unsigned cpu) {
        log_error("CPU {}: {}{}", cpu, describe_running(cpu), cpu == self ? " (reporting)" : "");
        if (cpu != self)
            arch::apic_send_nmi(cpu_block(cpu).apic_id);
    });
    leave_machine_after_crash();
}

} // namespace

void leave_machine_after_crash() {
    if (!reboot_on_panic) {
        log_error("Stopped; reset the machine to go on.");
        arch::halt_forever();
    }
    log_error("Rebooting.");
    reset_machine();
}

void set_reboot_on_panic(bool reboot) { reboot_on_panic = reboot; }
void set_reset_register(uint16_t port, uint8_t value) {
    reset_port = port;
    reset_value = value;
}

void print_registers(Registers const& r) {
    log_error("rip {:016x} cs {:04x} rflags {:08x} rsp {:016x} ss {:04x}", r.rip, r.cs, r.rflags,
              r.rsp, r.ss);
    log_error("rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx);
    log_error("rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", r.rsi, r.rdi, r.rbp, r.r8);
    log_error("r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", r.r9, r.r10, r.r11, r.r12);
    log_error("r13 {:016x} r14 {:016x} r15 {:016x} vector {} error {:x}", r.r13, r.r14, r.r15,
              r.vector, r.error_code);
    log_error("cr2 {:016x} cr3 {:016x}", arch::read_cr2(), arch::read_cr3());
}

void crash_report(Registers const& frame, std::string_view reason) {
    enter_crash();
    log_error("PANIC on CPU {}: {}", this_cpu_id(), reason);
    print_registers(frame);
    print_stack_trace(frame.rip, frame.rsp, frame.rbp);
    finish_crash();
}

void panic_text(std::string_view text) {
    enter_crash();
    log_error("PANIC on CPU {}: {}", this_cpu_id(), text);
    auto const frame = reinterpret_cast<uint64_t>(__builtin_frame_address(0));
    print_stack_trace(reinterpret_cast<uint64_t>(__builtin_return_address(0)), frame, frame);
    finish_crash();
}

void handle_nmi(Registers&) {
    if (crashing.load())
        arch::halt_forever();
    // An NMI that nobody asked for: reported once, by the log's own lock-free path being absent, as
    // little as possible.
}

void reset_machine() {
    console_flush();
    if (reset_port != 0)
        arch::out8(reset_port, reset_value);
    arch::out8(0xcf9, 0x06); // chipset reset
    for (unsigned i = 0; i < 1000; ++i)
        arch::pause();
    arch::out8(0x64, 0xfe); // keyboard controller
    arch::halt_forever();
}

} // namespace hearth
