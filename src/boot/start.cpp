// Start-up, as a table of contents. Each step returns what later steps need, so the wrong order
// does not compile.
#include "boot/start.h"

#include "acpi/tables.h"
#include "arch/apic.h"
#include "arch/context.h"
#include "arch/descriptors.h"
#include "arch/fpu.h"
#include "arch/intrinsics.h"
#include "boot/boot_info.h"
#include "boot/command_line.h"
#include "boot/domain0.h"
#include "boot/efi.h"
#include "boot/multiboot.h"
#include "boot/multiboot2.h"
#include "console/console.h"
#include "console/log.h"
#include "control/control.h"
#include "control/cpu_pool.h"
#include "control/debug_keys.h"
#include "control/domain_lifetime.h"
#include "cpu/bringup.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "cpu/features.h"
#include "cpuid/pv_msr.h"
#include "grant/grant.h"
#include "irq/irq.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/guest_view.h"
#include "memory/image.h"
#include "memory/layout.h"
#include "memory/own_devices.h"
#include "memory/paging.h"
#include "memory/tlb.h"
#include "pv/contents.h"
#include "pv/privileged.h"
#include "time/calibrate.h"
#include "time/timer.h"
#include "time/watchdog.h"

#include <algorithm>
#include <bit>

extern "C" {
extern char boot_stack[];
}

namespace hearth {
namespace {

constexpr uint64_t low_memory_end = 1_MiB; // firmware's, and devices'; never handed out

alignas(arch::stack_size) constinit char first_interrupt_stacks[arch::stack_size]{};

// Too large for a stack.
constinit BootInfo boot_info{};
constinit acpi::Tables acpi_tables{};
constinit MemoryMap usable_memory{};
constinit uint64_t first_tsc = 0;

/// The first 4 GiB, which the boot page tables map whole.
class LowMemory final : public PhysicalView {
public:
    Bytes view(PhysicalAddress start, uint64_t size) override {
        if (start.raw() >= 4_GiB || size > 4_GiB - start.raw())
            return {};
        return {direct<std::byte>(start), static_cast<size_t>(size)};
    }
};

[[noreturn]] void stop(std::string_view reason) {
    // A reboot would only lead back here.
    log_error("cannot start: {}", reason);
    arch::halt_forever();
}

// --- What the boot loader says, and how we are to talk
// -----------------------------------------------------------

struct Told {
    Options options;
};

class ReportToLog final : public CommandLineReport {
public:
    void report(Severity severity, std::string_view word, std::string_view message) override {
        log(severity == Severity::warning ? Level::warning : Level::info, "command line: {}: {}",
            word, message);
    }
};
class NoReport final : public CommandLineReport {
    void report(Severity, std::string_view, std::string_view) override {}
};

void open_console(Options const& o) {
    console_initialise({.com1 = o.console_com1,
                        .com2 = o.console_com2,
                        .vga = o.console_vga && !boot_info.efi.booted_by_efi,
                        .com1_settings = o.com1,
                        .com2_settings = o.com2});
    // Start-up is worth seeing, and so is how it ends.
    LogThreshold const always = std::max(LogThreshold::info, o.loglvl.always);
    set_log_thresholds(LogSource::hearth, {always, std::max(always, o.loglvl.rate_limited)});
    set_log_thresholds(LogSource::guest, o.guest_loglvl);
    set_log_clock(nullptr, o.console_timestamps);
    set_reboot_on_panic(!o.noreboot);
    set_reset_method(o.reboot);
    set_nmi_action(o.nmi);
}

/// What the loader gave and there was no room for.
void report_losses() {
    if (boot_info.command_line.truncated())
        log_warning("command line: too long; its end is lost");
    for (BootModule const& module : boot_info.modules())
        if (module.command_line.truncated())
            log_warning("command line of a module: too long; its end is lost");
    if (boot_info.modules_dropped != 0)
        log_warning("{} of the boot loader's modules are too many, and ignored",
                    boot_info.modules_dropped);
}

Told listen_to_loader(uint32_t magic, uint32_t information) {
    LowMemory memory;
    BootResult<> read = BootError{"started by neither multiboot nor multiboot2"};
    if (magic == multiboot_magic)
        read = read_multiboot(memory, PhysicalAddress{information}, boot_info);
    else if (magic == multiboot2_magic)
        read = read_multiboot2(memory, PhysicalAddress{information}, boot_info);
    NoReport quiet;
    Options options = parse_command_line(boot_info.command_line.view(), quiet);
    open_console(options);
    log_info("Hearth, a hypervisor. {} {}", boot_info.loader_name.view(),
             boot_info.command_line.view());
    ReportToLog loud;
    (void)parse_command_line(boot_info.command_line.view(), loud);
    if (!read)
        stop(read.error().reason);
    report_losses();
    return {options};
}

// --- EFI: where the root pointer is, since there is no BIOS area for Domain 0 to find it in
// ---------------------------

constinit uint64_t efi_root = 0;
std::optional<uint64_t> efi_root_pointer() {
    return efi_root ? std::optional{efi_root} : std::nullopt;
}

// --- Memory
// --------------------------------------------------------------------------------------------------------

struct MemoryReady {
    uint64_t trampoline_page = 0;
};

/// Takes from the top of the highest memory below 4 GiB that the boot page tables reach.
class EarlyAllocator final : public BootAllocator {
public:
    Mfn take(unsigned order) override {
        uint64_t const size = page_size << order;
        auto const regions = usable_memory.regions();
        for (size_t i = regions.size(); i-- > 0;) {
            MemoryRegion const& r = regions[i];
            uint64_t const end = std::min(r.end(), 4_GiB);
            if (r.type != MemoryType::usable || r.start.raw() >= end || end - r.start.raw() < size)
                continue;
            uint64_t const start = align_down(end - size, size);
            if (start < r.start.raw())
                continue;
            if (!usable_memory.reserve(PhysicalAddress{start}, size))
                stop("the memory map is too fragmented");
            return Mfn{start >> page_shift};
        }
        stop("not enough memory below 4 GiB for Hearth's own tables");
    }
};

uint64_t find_trampoline_page() {
    for (MemoryRegion const& r : usable_memory)
        if (r.type == MemoryType::usable && r.start.raw() < 0x9f000 && r.end() >= 0x10000)
            return align_down(std::min<uint64_t>(r.end(), 0x9f000) - page_size, page_size);
    return 0;
}

void limit_memory(uint64_t bytes) {
    if (!usable_memory.limit_usable(bytes))
        stop("the memory map is too fragmented");
}

/// Keeps whole pages from being given out; how many bytes that is.
uint64_t keep(PhysicalAddress start, uint64_t size) {
    uint64_t const first = align_down(start.raw(), page_size);
    uint64_t const bytes = align_up(start.raw() + size, page_size) - first;
    if (!usable_memory.reserve(PhysicalAddress{first}, bytes))
        stop("the memory map is too fragmented");
    return bytes;
}

/// Each module has to lie in memory that nobody else has: what it lies in is given away later.
uint64_t keep_modules() {
    uint64_t bytes = 0;
    for (BootModule const& module : boot_info.modules()) {
        if (module.size == 0)
            continue;
        if (!usable_memory.covers(module.start, module.size, MemoryType::usable))
            stop("a module does not lie in memory of its own, says the boot loader");
        bytes += keep(module.start, module.size);
    }
    return bytes;
}

/// The log's size, and where it lies: at the same place at each start of a machine, and away from
/// the upper end, which firmware uses while it starts. 0: nowhere.
struct LogPlace {
    uint64_t size = 0, address = 0;
};
LogPlace find_log_place(Told const& told) {
    constexpr uint64_t smallest = 16_KiB, largest = 16_MiB, from_the_end = 64_MiB;
    LogPlace place{std::bit_floor(std::clamp(told.options.conring_size, smallest, largest)), 0};
    for (MemoryRegion const& r : boot_info.memory_map) {
        uint64_t const end = std::min(r.end(), 4_GiB);
        if (r.type == MemoryType::usable && r.start.raw() < end &&
            end - r.start.raw() >= 2 * from_the_end)
            place.address = align_down(end - from_the_end - place.size, page_size) - page_size;
    }
    return place;
}

/// Takes the log's place, if no module lies there.
bool keep_log(LogPlace const& place) {
    if (place.address == 0 || !usable_memory.covers(PhysicalAddress{place.address},
                                                    page_size + place.size, MemoryType::usable))
        return false;
    keep(PhysicalAddress{place.address}, page_size + place.size);
    return true;
}

/// Moves the log there, with what was left behind by a crash.
void settle_log(LogPlace const& place) {
    uint64_t const scratch_size = place.size / 2;
    auto const scratch = allocate_bytes(scratch_size);
    if (!scratch)
        return;
    if (console_ring_move(*direct<LogRing::Header>(PhysicalAddress{place.address}),
                          {direct<char>(PhysicalAddress{place.address + page_size}), place.size},
                          {static_cast<char*>(*scratch), scratch_size}))
        log_warning("the machine restarted without being told to; the log has what came before");
    free_bytes(*scratch);
}

/// The console's own needs, now that there is memory: the screen mapped anew.
void settle_console() {
    constexpr PhysicalAddress vga_text{0xb8000};
    constexpr uint64_t vga_size = 0x8000;
    if (auto const cells = map_device(vga_text, vga_size))
        console_move_vga(*cells);
}

MemoryReady take_memory(Told const& told) {
    uint64_t end = 4_GiB; // there are devices and firmware below, whatever the map says
    for (MemoryRegion const& r : boot_info.memory_map) {
        add_machine_memory(r.start.raw(), r.size, static_cast<uint32_t>(r.type));
        end = std::max(end, r.end());
    }
    pv::note_end_of_memory(PhysicalAddress{end});
    boot_info.memory_map.normalise();
    usable_memory = boot_info.memory_map;
    // Whatever is said to lie where no processor or no mapping of ours reaches is of no use.
    limit_memory(std::min(uint64_t{1} << physical_address_bits(), layout::direct_map_size));
    MemoryReady ready{find_trampoline_page()};
    keep(PhysicalAddress{0}, low_memory_end);
    static constinit RamRange ram[MemoryMap::capacity]{};
    size_t ranges = 0;
    for (MemoryRegion const& r : usable_memory)
        if (r.type == MemoryType::usable)
            ram[ranges++] = {Mfn{r.start.raw() >> page_shift}, Mfn{r.end() >> page_shift}};
    uint64_t const image_bytes = keep(image_start(), image_end().raw() - image_start().raw());
    uint64_t const module_bytes = keep_modules();
    LogPlace const log_place = find_log_place(told);
    bool const log_kept = keep_log(log_place);
    // All of it is mapped, since modules may lie anywhere; mem= limits what is given out.
    if (told.options.mem)
        limit_memory(*told.options.mem);
    uint64_t const free = usable_memory.usable_bytes();
    EarlyAllocator early;
    build_hypervisor_tables({ram, ranges}, early);
    for (MemoryRegion const& r : usable_memory)
        if (r.type == MemoryType::usable)
            donate_frames(Mfn{r.start.raw() >> page_shift}, Mfn{r.end() >> page_shift});
    settle_console();
    if (log_kept)
        settle_log(log_place);
    uint64_t const kept = free - usable_memory.usable_bytes() + image_bytes;
    log_info("memory: {} MiB in {} ranges; Hearth keeps {} KiB of it",
             (free + image_bytes + module_bytes) >> 20, ranges, kept >> 10);
    return ready;
}

// --- The machine
// ---------------------------------------------------------------------------------------------------

struct TablesRead {};

TablesRead read_firmware_tables() {
    LowMemory memory;
    if (boot_info.efi.system_table)
        efi_root = find_efi_root_pointer(memory, *boot_info.efi.system_table)
                       .value_or(PhysicalAddress{0})
                       .raw();
    if (!acpi::read_tables(memory, boot_info.root_pointer, acpi_tables))
        log_warning("ACPI: no sound tables; one CPU, and devices by the PC's old ways");
    for (std::string_view warning : acpi_tables.warnings)
        log_warning("ACPI: {}", warning);
    acpi::FixedHardware const& fixed = acpi_tables.fixed;
    if (fixed.reset_register && fixed.reset_register->space == acpi::RegisterAddress::Space::ports)
        set_reset_register(static_cast<uint16_t>(fixed.reset_register->address), fixed.reset_value);
    if (acpi_tables.has_dmar() || acpi_tables.has_ivrs())
        log_info("ACPI: there is an IOMMU, which is not used yet");
    return {};
}

struct InterruptsReady {};

InterruptsReady take_interrupts(Told const& told, TablesRead, MemoryReady) {
    PhysicalAddress const address = arch::apic_address();
    auto const registers = map_device(address, page_size);
    if (!registers)
        stop("the local APIC's registers cannot be mapped");
    if (acpi_tables.has_madt && acpi_tables.local_apic_address != address)
        log_warning("ACPI: MADT: the local APIC is not at {:x}", acpi_tables.local_apic_address);
    irq_silence_legacy_controllers();
    bool const x2apic = arch::apic_setup(*registers, told.options.x2apic.value_or(true));
    arch::apic_initialise_cpu(true);
    cpu_block(0).apic_id = arch::apic_id();
    log_info("local APIC {} at {:x}{}", arch::apic_id(), address, x2apic ? ", x2APIC mode" : "");

    IoApicDescription controllers[16];
    size_t count = 0;
    claim_device_frames(Mfn{0xfee00}, Mfn{0xfeeff});
    for (acpi::IoApic const& io_apic : acpi_tables.io_apics) {
        controllers[count++] = {io_apic.address, io_apic.first_interrupt};
        claim_device_frames(frame_of(io_apic.address), frame_of(io_apic.address));
    }
    IsaOverride overrides[32];
    size_t override_count = 0;
    for (acpi::InterruptOverride const& o : acpi_tables.overrides)
        overrides[override_count++] = {o.source, o.interrupt,
                                       o.mode.trigger == acpi::InterruptMode::Trigger::level,
                                       o.mode.polarity == acpi::InterruptMode::Polarity::low};
    irq_initialise({controllers, count}, {overrides, override_count});
    return {};
}

struct TimeReady {
    Calibration calibration;
};

/// Reads nothing where there is no such counter.
ReferenceCounter find_counter(ClockChoice choice) {
    acpi::FixedHardware const& fixed = acpi_tables.fixed;
    switch (choice) {
    case ClockChoice::hpet: {
        if (!acpi_tables.hpet)
            return {};
        auto const mapped = map_device(acpi_tables.hpet->address, page_size);
        ReferenceCounter const hpet = mapped ? hpet_counter(*mapped) : ReferenceCounter{};
        if (counts(hpet))
            return hpet;
        log_warning("ACPI: HPET: nothing counts at {:x}", acpi_tables.hpet->address);
        return {};
    }
    case ClockChoice::acpi: {
        if (!fixed.pm_timer.present() ||
            fixed.pm_timer.space != acpi::RegisterAddress::Space::ports)
            return {};
        auto const port = static_cast<uint16_t>(fixed.pm_timer.address);
        ReferenceCounter const timer = pm_timer_counter(port, fixed.pm_timer_32_bits);
        if (counts(timer))
            return timer;
        log_warning("ACPI: FADT: nothing counts at port {:x}", port);
        return {};
    }
    case ClockChoice::tsc:
        return tsc_counter();
    case ClockChoice::pit:
        if (ReferenceCounter const timer = pit_counter(); counts(timer))
            return timer;
        log_warning("time: the interval timer (8254) does not count");
        return {};
    case ClockChoice::automatic:
        break;
    }
    return {};
}

ReferenceCounter choose_reference(ClockChoice wanted) {
    if (wanted != ClockChoice::automatic) {
        if (ReferenceCounter const counter = find_counter(wanted); counter.read)
            return counter;
        log_warning("time: no such clock as clocksource= names; another one is taken");
    }
    for (ClockChoice const choice :
         {ClockChoice::hpet, ClockChoice::acpi, ClockChoice::pit, ClockChoice::tsc})
        if (ReferenceCounter const counter = find_counter(choice); counter.read)
            return counter;
    stop("no clock to measure the processor's by: neither HPET, ACPI timer nor 8254 counts");
}

TimeReady take_time(Options const& options, InterruptsReady) {
    Calibration const calibration = Calibration::begin(choose_reference(options.clocksource));
    clock_start(calibration.rough().tsc_hertz);
    set_log_clock(now_ns, options.console_timestamps);
    wall_clock_from_rtc();
    timers_initialise(has_tsc_deadline() ? 0 : calibration.rough().apic_hertz);
    timers_initialise_cpu();
    return {calibration};
}

// --- CPUs
// ----------------------------------------------------------------------------------------------------------

struct IdleThread final : Thread {
    constexpr IdleThread() = default;
};
constinit IdleThread idle_threads[max_cpus]{};
constinit FeatureSwitches feature_switches{};
constinit Defences defences{};

void other_cpu_main() {
    enable_cpu_features(feature_switches, false);
    apply_defences(defences, false);
    arch::fpu_initialise_cpu(feature_switches.xsave);
    load_address_space(idle_cr3());
    arch::apic_initialise_cpu(false);
    timers_initialise_cpu();
    Cpu& cpu = this_cpu();
    scheduler_adopt_idle(idle_threads[cpu.id], cpu.idle_stack);
    set_online(cpu.id);
    idle_loop();
}

void take_defences(Told const& told) {
    ProcessorFacts const facts = processor_facts();
    defences = chosen_defences(facts, told.options.defences);
    apply_defences(defences, true);
    if (defences.isolation) {
        if (!isolate_guests())
            stop("no memory for what guests are to see instead of Hearth");
        arch::use_airlocks();
    }
    TextBuffer<128> text;
    describe(text, defences);
    log_info("speculation: defences:{}", text.view());
    if (Exposure const exposure = exposure_of(facts, defences); exposure.any()) {
        TextBuffer<128> open;
        describe(open, exposure);
        log_warning("speculation: guests can read what is not theirs by:{}", open.view());
    }
}

struct CpusReady {
    unsigned count = 1;
};

CpusReady take_cpus(Told const& told, MemoryReady memory, TimeReady const&) {
    scheduler_adopt_idle(idle_threads[0], reinterpret_cast<uint64_t>(boot_stack));
    set_online(0);
    prepare_trampoline(memory.trampoline_page);
    unsigned count = 1;
    unsigned const most = std::clamp<unsigned>(told.options.maxcpus, 1, max_cpus);
    for (acpi::LocalApic const& cpu : acpi_tables.cpus) {
        if (cpu.id == cpu_block(0).apic_id) {
            cpu_block(0).acpi_id = cpu.processor_uid;
            continue;
        }
        if (!cpu.enabled || count == most)
            continue;
        if (!arch::apic_can_reach(cpu.id)) {
            log_warning("CPU with APIC id {} needs x2APIC mode: going on without it", cpu.id);
            continue;
        }
        if (!start_cpu(count, cpu.id, cpu.processor_uid, other_cpu_main)) {
            // Should it answer later, it must not meet another on its stack.
            log_warning(
                "CPU with APIC id {} does not answer: going on without it and those after it",
                cpu.id);
            break;
        }
        ++count;
    }
    if (!start_reaper() || !start_debug_keys())
        stop("no memory for a thread of Hearth's own");
    log_info("{} CPUs online:{}", count, enabled_features());
    return {count};
}

// --- Domain 0
// ------------------------------------------------------------------------------------------------------

void modules_are_free() {
    for (BootModule const& module : boot_info.modules()) {
        Mfn const first{align_up(module.start.raw(), page_size) >> page_shift};
        Mfn const end{(module.start.raw() + module.size) >> page_shift};
        if (first < end)
            donate_frames(first, end);
    }
}

Bytes contents(BootModule const& module) {
    return {direct<std::byte>(module.start), static_cast<size_t>(module.size)};
}

uint64_t initial_pages(Options const& o, uint64_t& maximum) {
    uint64_t const total = total_frame_count() << page_shift;
    uint64_t const available = free_frame_count() << page_shift;
    uint64_t const kept_back = std::min(total / 16, 128_MiB);
    uint64_t bytes =
        o.dom0_mem ? o.dom0_mem->resolve(total) : available - std::min(kept_back, available);
    if (o.dom0_mem_min)
        bytes = std::max(bytes, o.dom0_mem_min->resolve(total));
    if (o.dom0_mem_max)
        bytes = std::min(bytes, o.dom0_mem_max->resolve(total));
    maximum = (o.dom0_mem_max ? o.dom0_mem_max->resolve(total) : bytes) >> page_shift;
    return bytes >> page_shift;
}

Domain& make_domain0(Told const& told, CpusReady const& cpus) {
    if (boot_info.module_count == 0)
        stop("no Domain 0 kernel: the boot loader gave no module");
    auto const modules = boot_info.modules();
    static constinit TextBuffer<1024> command_line;
    command_line.put(modules[0].command_line.view());
    if (!told.options.for_dom0.empty())
        format(command_line, " {}", told.options.for_dom0);
    if (auto const root = efi_root_pointer(); root && boot_info.efi.booted_by_efi)
        format(command_line, " acpi_rsdp=0x{:x}", *root);
    limit_grants(told.options.gnttab_max_frames, told.options.gnttab_max_maptrack_frames);
    Domain0Request request;
    request.kernel_file = contents(modules[0]);
    request.ramdisk = modules.size() > 1 ? contents(modules[1]) : Bytes{};
    request.command_line = command_line.view();
    request.pages = initial_pages(told.options, request.max_pages);
    request.vcpus = std::clamp(
        std::clamp(cpus.count, told.options.dom0_max_vcpus_min, told.options.dom0_max_vcpus_max),
        1u, max_domain_vcpus);
    request.vga_text = !boot_info.efi.booted_by_efi;
    auto const built = build_domain0(request, modules_are_free);
    if (!built)
        stop(built.error().reason);
    return **built;
}

void hand_over_devices(Told const& told) {
    forbid_ports(0x20, 0x21); // interrupt controllers
    forbid_ports(0xa0, 0xa1);
    forbid_ports(0x40, 0x43); // interval timer
    auto const keep_port = [](UartSettings const& s) {
        forbid_ports(s.port, static_cast<uint16_t>(s.port + 7));
    };
    if (told.options.console_com1)
        keep_port(told.options.com1);
    if (told.options.console_com2)
        keep_port(told.options.com2);
}

void serve_console(void*, unsigned irq) {
    console_service();
    irq_end(irq);
}

/// For serial ports that have no interrupt: looks for keys every 10 ms.
void poll_console() {
    constexpr uint64_t period = 10'000'000;
    [[clang::no_destroy]] static constinit Timer timer{[](void*) {
                                                           console_service();
                                                           timer.set(now_ns() + period);
                                                       },
                                                       nullptr};
    timer.set(now_ns() + period);
}

void connect_console(Domain& domain0, bool synchronous) {
    static constinit Domain* listener = nullptr;
    listener = &domain0;
    console_set_input_sinks(
        {.guest_input_ready = [] { send_domain_virq(*listener, abi::virq_console); },
         .debug_key = debug_key_typed});
    uint8_t lines[2];
    unsigned const count = console_interrupt_lines(lines);
    bool poll = false;
    for (unsigned i = 0; i < count; ++i) {
        if (lines[i] == 0) {
            poll = true;
            continue;
        }
        unsigned const gsi = gsi_of_isa(lines[i]);
        if (!irq_bind(gsi, serve_console, nullptr)) {
            log_warning("console: no interrupt for the serial port's line {}: polling", gsi);
            poll = true;
        }
    }
    console_enable_interrupts(!poll && !synchronous);
    if (poll)
        poll_console();
}

/// All that came before was long enough to measure the clock well; Domain 0 hears only of the
/// result.
void settle_time(TimeReady const& time, Domain& domain0) {
    Frequencies const f = time.calibration.finish();
    clock_refine(f.tsc_hertz);
    if (!has_tsc_deadline())
        timers_initialise(f.apic_hertz);
    wall_clock_from_rtc();
    update_wall_clock(domain0);
    for (unsigned i = 0; i < domain0.vcpu_count; ++i)
        update_time_info(*domain0.vcpus[i]);
    log_info("time: TSC {} kHz, by a {} kHz counter; timer by {}, {} kHz", f.tsc_hertz / 1000,
             time.calibration.reference_hertz() / 1000,
             has_tsc_deadline() ? "TSC deadline" : "APIC",
             (has_tsc_deadline() ? f.tsc_hertz : f.apic_hertz) / 1000);
}

void report_nmis(Domain& domain0) {
    static constinit Domain* listener = nullptr;
    listener = &domain0;
    set_nmi_listener([](uint32_t reasons) {
        __atomic_fetch_or(&listener->shared_info->nmi_reason, reasons, __ATOMIC_SEQ_CST);
        send_nmi(*listener->vcpus[0]);
    });
}

void start_watchdog(uint32_t seconds) {
    if (watchdog_start(seconds))
        log_info("watchdog: a CPU may take {} s", seconds);
    else
        log_warning(
            "watchdog: the interval timer's interrupt does not arrive as an NMI; it is off");
}

void let_run(Domain& domain0, Options const& options) {
    acpi::FixedHardware const& fixed = acpi_tables.fixed;
    set_machine_facts({.command_line = boot_info.command_line.view(),
                       .pm1a_control = fixed.pm1a_control.port(),
                       .pm1b_control = fixed.pm1b_control.port(),
                       .cpu_count = online_cpus().count(),
                       .has_io_apics = acpi_tables.io_apics.size() != 0});
    cpu_pools_initialise(options.sched_ratelimit_us);
    if (!join_cpu_pool(domain0, 0))
        panic("no CPU for Domain 0");
    for (unsigned i = 0; options.dom0_vcpus_pin && i < domain0.vcpu_count; ++i) {
        domain0.vcpus[i]->hard_affinity = CpuMask::of(i % online_cpus().count());
        place(*domain0.vcpus[i]);
    }
    Vcpu& first = *domain0.vcpus[0];
    first.online.store(true);
    console_move_vga(nullptr); // the screen is Domain 0's now
    run_periodic_timer(first);
    report_nmis(domain0);
    if (options.watchdog)
        start_watchdog(options.watchdog_timeout);
    log_info("Domain 0 starts {} TSC ticks after Hearth", arch::read_tsc() - first_tsc);
    start(first);
}

} // namespace

} // namespace hearth

void boot_first_cpu(uint32_t magic, uint32_t information) {
    using namespace hearth;
    bind_stack(reinterpret_cast<uint64_t>(boot_stack) + arch::stack_size, cpu_block(0));
    bind_stack(reinterpret_cast<uint64_t>(first_interrupt_stacks) + arch::stack_size, cpu_block(0));
    arch::initialise_descriptor_tables(0, reinterpret_cast<uint64_t>(first_interrupt_stacks),
                                       &cpu_block(0).stack_top_word);

    first_tsc = arch::read_tsc();
    auto const told = listen_to_loader(magic, information);
    auto const tables = read_firmware_tables();
    auto const memory = take_memory(told);
    feature_switches = {.pat = pv_pat,
                        .smep = told.options.smep,
                        .smap = told.options.smap,
                        .pcid = told.options.pcid,
                        .fsgsbase = told.options.fsgsbase,
                        .xsave = told.options.xsave};
    enable_cpu_features(feature_switches, true);
    take_defences(told);
    // Bits beyond the machine's width are reserved in an entry.
    claim_device_frames(Mfn{uint64_t{1} << (physical_address_bits() - page_shift)},
                        Mfn{~uint64_t{0}});
    arch::fpu_initialise_cpu(told.options.xsave);
    auto const interrupts = take_interrupts(told, tables, memory);
    auto const time = take_time(told.options, interrupts);
    auto const cpus = take_cpus(told, memory, time);
    Domain& domain0 = make_domain0(told, cpus);
    hand_over_devices(told);
    connect_console(domain0, told.options.sync_console);
    settle_time(time, domain0);
    let_run(domain0, told.options);
    idle_loop();
}
