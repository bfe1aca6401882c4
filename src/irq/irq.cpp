#include "irq/irq.h"

#include "arch/apic.h"
#include "arch/port_io.h"
#include "base/lock.h"
#include "console/log.h"
#include "cpu/cpu.h"
#include "irq/pci.h"
#include "memory/paging.h"

#include <algorithm>
#include <bit>

namespace hearth {
namespace {

// An IO-APIC's registers and redirection entries. (Intel 82093AA)
constexpr uint32_t reg_version = 1, reg_redirection = 0x10;
constexpr uint32_t entry_masked = 1u << 16, entry_level = 1u << 15, entry_active_low = 1u << 13;

struct IoApic {
    uint32_t volatile* registers = nullptr;
    uint64_t physical = 0;
    unsigned first_gsi = 0;
    unsigned pins = 0;

    [[nodiscard]] uint32_t read(uint32_t reg) const {
        registers[0] = reg;
        return registers[4];
    }
    void write(uint32_t reg, uint32_t value) const {
        registers[0] = reg;
        registers[4] = value;
    }
};

struct Irq {
    enum class Kind : uint8_t { absent, line, message };
    Kind kind = Kind::absent;
    uint8_t vector = 0;         // 0: not bound
    uint8_t unused_vectors = 0; // behind it: its device may use them without having been told to
    uint8_t cpu = 0;
    bool ended = true; // level-triggered: not waiting for irq_end()
    LineMode mode{};
    MessageSource source{};
    InterruptHandler handler = nullptr;
    void* argument = nullptr;
};

constexpr unsigned max_io_apics = 16;
struct Controllers {
    IoApic io_apics[max_io_apics];
    unsigned io_apic_count = 0;
    unsigned gsi_limit = 0;
    uint32_t isa_gsi[16]{};
    Irq irqs[irq_limit];
    uint16_t by_vector[256]; // irq number, or none
};
constexpr uint16_t none = 0xffff, unused = 0xfffe;
constinit Controllers controllers{};
constinit SpinLock<Rank::irq> lock;

constexpr Controllers& c = controllers;

IoApic* io_apic_of(unsigned gsi) {
    for (unsigned i = 0; i < c.io_apic_count; ++i)
        if (gsi >= c.io_apics[i].first_gsi && gsi - c.io_apics[i].first_gsi < c.io_apics[i].pins)
            return &c.io_apics[i];
    return nullptr;
}

void write_line(unsigned gsi, bool masked) {
    IoApic const* const io_apic = io_apic_of(gsi);
    Irq const& irq = c.irqs[gsi];
    if (!io_apic)
        return;
    uint32_t const index = reg_redirection + 2 * (gsi - io_apic->first_gsi);
    uint32_t const low = irq.vector | (irq.mode.level ? entry_level : 0) |
                         (irq.mode.active_low ? entry_active_low : 0) | (masked ? entry_masked : 0);
    io_apic->write(index, entry_masked);
    io_apic->write(index + 1, cpu_block(irq.cpu).apic_id << 24);
    io_apic->write(index, low);
}

Message message_for(Irq const& irq) {
    // Physical destination, fixed delivery, edge. (Intel SDM vol. 3A, 11.11)
    return {0xfee00000u | cpu_block(irq.cpu).apic_id << 12, irq.vector};
}

/// Messages of one multi-message MSI capability share an address and need consecutive vectors, so
/// they are given vectors when they are allocated; all else gets one when bound.
Result<> write_message(Irq const& irq, bool masked) {
    PciAddress const device{irq.source.bus, irq.source.devfn};
    if (irq.source.extended)
        return msix_write(device, irq.source.entry, message_for(irq), masked);
    return irq.source.entry == 0 ? msi_write(device, message_for(irq)) : Result<>{};
}

/// `count` (a power of two) consecutive free vectors, aligned; 0 when there are none.
uint8_t find_vectors(unsigned count) {
    unsigned const first = static_cast<unsigned>(align_up(arch::first_device_vector, count));
    for (unsigned v = first; v + count - 1 <= arch::last_device_vector; v += count) {
        bool free = true;
        for (unsigned i = 0; i < count; ++i)
            free = free && c.by_vector[v + i] == none && v + i != 0x80 && v + i != 0x82;
        if (free)
            return static_cast<uint8_t>(v);
    }
    return 0;
}

void release_vector(Irq& irq) {
    for (unsigned i = 0; irq.vector && i <= irq.unused_vectors; ++i)
        c.by_vector[irq.vector + i] = none;
    irq.vector = irq.unused_vectors = 0;
}

/// nodev: there is none, or its interrupts have numbers beyond ours.
Result<IoApic> find_io_apic(IoApicDescription const& description) {
    IoApic io_apic;
    io_apic.registers =
        static_cast<uint32_t volatile*>(TRY(map_device(description.registers, page_size)));
    io_apic.physical = description.registers.raw();
    io_apic.first_gsi = description.first_gsi;
    uint32_t const version = io_apic.read(reg_version);
    // The index reads back as written; an address where nothing answers does not.
    if (io_apic.registers[0] != reg_version || version == 0 || version == ~0u ||
        io_apic.first_gsi >= irq_limit / 2)
        return Errno::nodev;
    io_apic.pins = (version >> 16 & 0xff) + 1;
    return io_apic;
}

} // namespace

void irq_silence_legacy_controllers() {
    // Moved out of the exceptions' way, should they ever speak, and silenced. (Intel 8259A)
    arch::out8(0x20, 0x11);
    arch::out8(0xa0, 0x11);
    arch::out8(0x21, 0x20);
    arch::out8(0xa1, 0x28);
    arch::out8(0x21, 0x04);
    arch::out8(0xa1, 0x02);
    arch::out8(0x21, 0x01);
    arch::out8(0xa1, 0x01);
    arch::out8(0x21, 0xff);
    arch::out8(0xa1, 0xff);
}

void irq_initialise(std::span<IoApicDescription const> io_apics,
                    std::span<IsaOverride const> overrides) {
    std::fill(std::begin(c.by_vector), std::end(c.by_vector), none);
    for (IoApicDescription const& description : io_apics) {
        if (c.io_apic_count == max_io_apics)
            break;
        auto const found = find_io_apic(description);
        if (!found) {
            log_warning("ACPI: MADT: no IO-APIC at {:x} for interrupt {} on", description.registers,
                        description.first_gsi);
            continue;
        }
        IoApic const& io_apic = c.io_apics[c.io_apic_count++] = *found;
        c.gsi_limit =
            std::min(irq_limit / 2, std::max(c.gsi_limit, io_apic.first_gsi + io_apic.pins));
        for (unsigned pin = 0; pin < io_apic.pins; ++pin) {
            io_apic.write(reg_redirection + 2 * pin, entry_masked);
            unsigned const gsi = io_apic.first_gsi + pin;
            if (gsi < c.gsi_limit) {
                c.irqs[gsi].kind = Irq::Kind::line;
                c.irqs[gsi].mode = {.level = gsi >= 16, .active_low = gsi >= 16};
            }
        }
    }
    for (unsigned isa = 0; isa < 16; ++isa)
        c.isa_gsi[isa] = isa;
    for (IsaOverride const& o : overrides)
        if (o.isa < 16 && o.gsi < c.gsi_limit) {
            c.isa_gsi[o.isa] = o.gsi;
            c.irqs[o.gsi].mode = {o.level, o.active_low};
        }
    log_info("interrupts: {} IO-APICs, {} lines", c.io_apic_count, c.gsi_limit);
}

unsigned gsi_limit() { return c.gsi_limit; }
unsigned gsi_of_isa(unsigned isa) { return isa < 16 ? c.isa_gsi[isa] : isa; }

Result<> irq_set_line_mode(unsigned gsi, LineMode mode) {
    LockGuard guard{lock};
    if (gsi >= c.gsi_limit || c.irqs[gsi].kind != Irq::Kind::line)
        return Errno::inval;
    Irq& irq = c.irqs[gsi];
    if (irq.vector == 0)
        irq.mode = mode;
    return {};
}

Result<> irq_bind(unsigned number, InterruptHandler handler, void* argument) {
    LockGuard guard{lock};
    if (number >= irq_limit || c.irqs[number].kind == Irq::Kind::absent)
        return Errno::inval;
    Irq& irq = c.irqs[number];
    if (irq.handler)
        return Errno::busy;
    if (irq.vector == 0) {
        irq.vector = find_vectors(1);
        if (irq.vector == 0)
            return Errno::nospc;
        c.by_vector[irq.vector] = static_cast<uint16_t>(number);
    }
    irq.handler = handler;
    irq.argument = argument;
    irq.ended = true;
    if (irq.kind == Irq::Kind::line)
        write_line(number, false);
    else if (auto const written = write_message(irq, false); !written) {
        irq.handler = nullptr;
        return written;
    }
    return {};
}

void irq_unbind(unsigned number) {
    LockGuard guard{lock};
    if (number >= irq_limit || !c.irqs[number].handler)
        return;
    Irq& irq = c.irqs[number];
    if (irq.kind == Irq::Kind::line) {
        write_line(number, true);
        release_vector(irq);
    } else if (irq.source.extended) {
        (void)write_message(irq, true); // a device that is gone sends nothing
    }
    irq.handler = nullptr;
}

Result<> irq_send_as_nmi(unsigned gsi) {
    constexpr uint32_t delivered_as_nmi = 4u << 8, to_all = 0xffu << 24;
    LockGuard guard{lock};
    IoApic const* const io_apic = io_apic_of(gsi);
    if (!io_apic || c.irqs[gsi].kind != Irq::Kind::line)
        return Errno::inval;
    if (c.irqs[gsi].handler)
        return Errno::busy;
    c.irqs[gsi].handler = [](void*, unsigned) {}; // taken
    uint32_t const index = reg_redirection + 2 * (gsi - io_apic->first_gsi);
    io_apic->write(index + 1, to_all);
    io_apic->write(index, delivered_as_nmi);
    return {};
}

void irq_end(unsigned number) {
    LockGuard guard{lock};
    if (number >= c.gsi_limit || c.irqs[number].ended || !c.irqs[number].handler)
        return;
    c.irqs[number].ended = true;
    write_line(number, false);
}

bool irq_needs_end(unsigned number) {
    return number < c.gsi_limit && c.irqs[number].kind == Irq::Kind::line &&
           c.irqs[number].mode.level;
}
bool irq_is_bound(unsigned number) { return number < irq_limit && c.irqs[number].handler; }

Result<unsigned> irq_allocate_message(MessageSource const& source, unsigned count) {
    LockGuard guard{lock};
    unsigned const span = std::bit_ceil(count);
    PciAddress const device{source.bus, source.devfn};
    if (!source.extended && count > msi_capacity(device))
        return count == 1 ? Errno::nodev : Errno::inval;
    unsigned first = c.gsi_limit;
    for (unsigned run = 0; first + run < irq_limit && run < count;)
        if (c.irqs[first + run].kind == Irq::Kind::absent)
            ++run;
        else
            first += run + 1, run = 0;
    uint8_t const vector = find_vectors(span);
    if (first + count > irq_limit || vector == 0)
        return Errno::nospc;
    if (!source.extended)
        TRY(msi_set_count(device, static_cast<unsigned>(std::countr_zero(span))));
    for (unsigned i = 0; i < count; ++i) {
        Irq& irq = c.irqs[first + i];
        irq = {};
        irq.kind = Irq::Kind::message;
        irq.source = source;
        irq.source.entry = static_cast<uint16_t>(source.entry + i);
        irq.vector = static_cast<uint8_t>(vector + i);
        c.by_vector[irq.vector] = static_cast<uint16_t>(first + i);
    }
    c.irqs[first + count - 1].unused_vectors = static_cast<uint8_t>(span - count);
    std::fill_n(&c.by_vector[vector + count], span - count, unused);
    // The message stands in the device before its driver turns it on.
    if (auto const written = write_message(c.irqs[first], source.extended); !written) {
        for (unsigned i = 0; i < count; ++i) {
            release_vector(c.irqs[first + i]);
            c.irqs[first + i] = {};
        }
        return written.error();
    }
    return first;
}

unsigned irq_messages_from(unsigned number) {
    LockGuard guard{lock};
    unsigned count = 1;
    if (number >= irq_limit || c.irqs[number].kind != Irq::Kind::message)
        return count;
    MessageSource const& first = c.irqs[number].source;
    if (first.extended || first.entry != 0)
        return count;
    auto const follows = [&](Irq const& irq) {
        return irq.kind == Irq::Kind::message && !irq.source.extended &&
               irq.source.bus == first.bus && irq.source.devfn == first.devfn &&
               irq.source.entry == count;
    };
    while (number + count < irq_limit && follows(c.irqs[number + count]))
        ++count;
    return count;
}

void irq_free_message(unsigned number) {
    if (number < c.gsi_limit) // a line, whoever has it
        return;
    irq_unbind(number);
    LockGuard guard{lock};
    if (number >= irq_limit || c.irqs[number].kind != Irq::Kind::message)
        return;
    // It could raise the vector's next owner.
    MessageSource const& source = c.irqs[number].source;
    if (!source.extended)
        msi_turn_off({source.bus, source.devfn});
    release_vector(c.irqs[number]);
    c.irqs[number] = {};
}

void irq_restore_messages(uint8_t bus, uint8_t devfn) {
    LockGuard guard{lock};
    for (Irq const& irq : c.irqs)
        if (irq.kind == Irq::Kind::message && irq.source.bus == bus && irq.source.devfn == devfn)
            (void)write_message(irq, !irq.handler);
}

Result<uint32_t> io_apic_read_for_guest(uint64_t base, uint32_t reg) {
    LockGuard guard{lock};
    for (unsigned i = 0; i < c.io_apic_count; ++i)
        if (c.io_apics[i].physical == base) {
            if (reg >= reg_redirection + 2 * c.io_apics[i].pins)
                return Errno::inval;
            return c.io_apics[i].read(reg);
        }
    return Errno::inval;
}

void irq_dispatch(uint8_t vector) {
    uint16_t const number = c.by_vector[vector];
    InterruptHandler handler = nullptr;
    void* argument = nullptr;
    if (number < irq_limit) {
        LockGuard guard{lock};
        Irq& irq = c.irqs[number];
        handler = irq.handler;
        argument = irq.argument;
        if (handler && irq.kind == Irq::Kind::line && irq.mode.level) {
            // Masked until its owner says that the device is quiet; the local APIC hears of the end
            // at once.
            irq.ended = false;
            write_line(number, true);
        }
    }
    arch::apic_end_of_interrupt();
    if (handler)
        handler(argument, number);
}

} // namespace hearth
