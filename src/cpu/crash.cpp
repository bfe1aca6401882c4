#include "cpu/crash.h"

#include "arch/apic.h"
#include "arch/context.h"
#include "arch/intrinsics.h"
#include "arch/symbols.h"
#include "console/console.h"
#include "console/log.h"
#include "cpu/cpu.h"
#include "memory/layout.h"

#include <array>
#include <atomic>
#include <utility>

namespace hearth {
namespace {

constexpr unsigned nobody = ~0u;
constinit std::atomic<unsigned> reporter{nobody}, stopped{0};
constinit bool gave_up = false;
constinit bool reboot_on_panic = true;
constinit ResetMethod reset_method = ResetMethod::automatic;
constinit uint16_t reset_port = 0;
constinit uint8_t reset_value = 0;

constexpr unsigned a_tenth_of_a_second = 100'000; // us
/// A port takes about as long, whether there is something or not.
void wait_a_microsecond() {
    constexpr uint16_t unused_port = 0x80;
    (void)arch::in8(unused_port);
}

void print_address(uint64_t address) {
    Symbol const symbol = find_symbol(address);
    log_error("  [{:016x}] {} + {:x}", address, symbol.name, symbol.offset);
}

/// Follows frame pointers upwards on the hypervisor's own stack. They may be anything: a stack that
/// ran over ends where nothing is mapped.
void print_stack_trace(uint64_t rip, uint64_t rsp, uint64_t rbp) {
    log_error("Stack trace:");
    print_address(rip);
    uint64_t const end = rsp + arch::stack_size;
    for (unsigned depth = 0; depth < 24; ++depth) {
        std::array<uint64_t, 2> frame;
        if (!layout::is_ours(rbp) || rbp < rsp || rbp % 8 != 0 || rbp >= end ||
            !arch::load_from_guest(frame, rbp) || !layout::is_ours(frame[1]))
            return;
        print_address(frame[1]);
        if (frame[0] <= rbp)
            return;
        rbp = frame[0];
    }
}

[[noreturn]] void stop_this_cpu() {
    stopped.fetch_add(1);
    arch::halt_forever();
}

/// Before the console's lock is broken, which they may hold. One that does not hear of it, since it
/// is in an NMI itself, is not waited for.
void stop_other_cpus() {
    CpuMask const others = online_cpus().without(this_cpu_id());
    others.each([](unsigned cpu) { arch::apic_send_nmi(cpu_block(cpu).apic_id); });
    for (unsigned i = 0; i < a_tenth_of_a_second && stopped.load() < others.count(); ++i)
        wait_a_microsecond();
}

/// Reporting has failed, too: nothing more is tried than to leave, and that once.
[[noreturn]] void give_up_reporting() {
    if (std::exchange(gave_up, true))
        arch::halt_forever();
    leave_machine_after_crash();
}

/// Only the first CPU to crash reports; others stop here.
void enter_crash() {
    arch::disable_interrupts();
    unsigned const self = this_cpu_id();
    if (unsigned expected = nobody; !reporter.compare_exchange_strong(expected, self)) {
        if (expected != self)
            stop_this_cpu();
        give_up_reporting();
    }
    stop_other_cpus();
    console_break_lock();
    set_log_thresholds(LogSource::hearth, {LogThreshold::debug, LogThreshold::debug});
}

[[noreturn]] void finish_crash() {
    unsigned const self = this_cpu_id();
    online_cpus().each([&](unsigned cpu) {
        log_error("CPU {}: {}{}", cpu, describe_running(cpu), cpu == self ? " (reporting)" : "");
    });
    leave_machine_after_crash();
}

/// Returns if it did not work.
void try_reset(ResetMethod method) {
    switch (method) {
    case ResetMethod::acpi:
        if (reset_port != 0)
            arch::out8(reset_port, reset_value);
        break;
    case ResetMethod::pci:
        arch::out8(0xcf9, 0x06); // the chipset's register: reset, and the CPUs too
        break;
    case ResetMethod::keyboard:
        arch::out8(0x64, 0xfe); // its controller has the CPU's reset line
        break;
    case ResetMethod::triple_fault:
        arch::triple_fault();
        break;
    case ResetMethod::automatic:
    case ResetMethod::none:
        break;
    }
    for (unsigned i = 0; i < a_tenth_of_a_second; ++i) // a reset takes its time
        wait_a_microsecond();
}

} // namespace

bool crash_in_progress() { return reporter.load() != nobody; }

void stop_for_crash() {
    if (reporter.load() != this_cpu_id())
        stop_this_cpu();
}

void leave_machine_after_crash() {
    if (!reboot_on_panic) {
        log_error("Stopped; reset the machine to go on.");
        console_flush();
        arch::halt_forever();
    }
    log_error("Rebooting.");
    reset_machine();
}

void set_reboot_on_panic(bool reboot) { reboot_on_panic = reboot; }
void set_reset_method(ResetMethod method) { reset_method = method; }
void set_reset_register(uint16_t port, uint8_t value) {
    reset_port = port;
    reset_value = value;
}

void print_registers(LogSource source, Registers const& r) {
    auto const line = [&](std::string_view pattern, auto... values) {
        log(source, Level::error, pattern, values...);
    };
    line("rip {:016x} cs {:04x} rflags {:08x} rsp {:016x} ss {:04x}", r.rip, r.cs, r.rflags, r.rsp,
         r.ss);
    line("rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx);
    line("rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", r.rsi, r.rdi, r.rbp, r.r8);
    line("r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", r.r9, r.r10, r.r11, r.r12);
    line("r13 {:016x} r14 {:016x} r15 {:016x} vector {} error {:x}", r.r13, r.r14, r.r15, r.vector,
         r.error_code);
    line("cr2 {:016x} cr3 {:016x}", arch::read_cr2(), arch::read_cr3());
}

void crash_report(Registers const& frame, std::string_view reason) {
    enter_crash();
    log_error("PANIC on CPU {}: {}", this_cpu_id(), reason);
    print_registers(LogSource::hearth, frame);
    if ((frame.cs & 3) == 0) // else it is a guest's, and so is its stack
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

void reset_machine() {
    console_flush();
    if (reset_method == ResetMethod::none) {
        log_error("Stopped, since reboot=no; reset the machine to go on.");
        console_flush();
        arch::halt_forever();
    }
    if (reset_method != ResetMethod::automatic)
        try_reset(reset_method);
    for (ResetMethod const method :
         {ResetMethod::acpi, ResetMethod::pci, ResetMethod::keyboard, ResetMethod::triple_fault})
        try_reset(method);
    arch::halt_forever();
}

} // namespace hearth
