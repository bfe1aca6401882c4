#include "acpi/parse.h"

#include <algorithm>

namespace hearth::acpi {
namespace {

/// Calls visit(type, entry) for entries that start with a type and a length, a byte each. False
/// when one does not fit; those before it have been visited.
template <class Visit>
bool for_each_entry(Bytes table, uint64_t at, Visit visit) {
    while (at < table.size()) {
        auto type = load<uint8_t>(table, at);
        auto length = load<uint8_t>(table, at + 1);
        auto entry = length ? slice(table, at, *length) : std::nullopt;
        if (!entry || *length < 2)
            return false;
        visit(*type, *entry);
        at += *length;
    }
    return true;
}

/// The fields of an entry or a table; those beyond its end are zero.
struct Fields {
    Bytes bytes;

    [[nodiscard]] uint8_t u8(uint64_t at) const { return load_or_zero<uint8_t>(bytes, at); }
    [[nodiscard]] uint16_t u16(uint64_t at) const { return load_or_zero<uint16_t>(bytes, at); }
    [[nodiscard]] uint32_t u32(uint64_t at) const { return load_or_zero<uint32_t>(bytes, at); }
    [[nodiscard]] uint64_t u64(uint64_t at) const { return load_or_zero<uint64_t>(bytes, at); }
};

InterruptMode mode_of(uint16_t flags) {
    // 2 is reserved in both fields; taken as conforming.
    auto field = [&](unsigned shift) {
        unsigned value = flags >> shift & 3;
        return static_cast<uint8_t>(value == 2 ? 0 : value);
    };
    return {static_cast<InterruptMode::Polarity>(field(0)),
            static_cast<InterruptMode::Trigger>(field(2))};
}

/// Table 5.45.
enum MadtType : uint8_t {
    madt_local_apic = 0,
    madt_io_apic = 1,
    madt_override = 2,
    madt_nmi_source = 3,
    madt_local_nmi = 4,
    madt_local_apic_address = 5,
    madt_local_x2apic = 9,
    madt_local_x2apic_nmi = 10,
};

/// The shortest entry that has all the fields we read.
size_t madt_entry_size(uint8_t type) {
    switch (type) {
    case madt_local_apic:
    case madt_nmi_source:
        return 8;
    case madt_io_apic:
    case madt_local_apic_address:
    case madt_local_x2apic_nmi:
        return 12;
    case madt_override:
        return 10;
    case madt_local_nmi:
        return 6;
    case madt_local_x2apic:
        return 16;
    default:
        return 2;
    }
}

void add_cpu(Tables& tables, uint32_t id, uint32_t uid, uint32_t flags) {
    LocalApic cpu{id, uid, (flags & 1) != 0, (flags & 2) != 0};
    if (!cpu.enabled && !cpu.online_capable)
        return;
    // Some firmware lists a CPU both as a local APIC and as a local x2APIC.
    if (std::ranges::find(tables.cpus, id, &LocalApic::id) == tables.cpus.end())
        tables.cpus.add(cpu);
}

void add_madt_entry(Tables& tables, uint8_t type, Fields entry) {
    constexpr uint8_t no_apic = 0xff;
    constexpr uint8_t all = 0xff;
    switch (type) {
    case madt_local_apic:
        if (entry.u8(3) != no_apic)
            add_cpu(tables, entry.u8(3), entry.u8(2), entry.u32(4));
        break;
    case madt_local_x2apic:
        if (entry.u32(4) != ~uint32_t{0})
            add_cpu(tables, entry.u32(4), entry.u32(12), entry.u32(8));
        break;
    case madt_io_apic:
        tables.io_apics.add({entry.u8(2), PhysicalAddress{entry.u32(4)}, entry.u32(8)});
        break;
    case madt_override:
        if (entry.u8(2) != 0 || entry.u8(3) > 15)
            tables.warnings.add("MADT: an override of something that is not an ISA interrupt");
        else
            tables.overrides.add({entry.u8(3), entry.u32(4), mode_of(entry.u16(8))});
        break;
    case madt_nmi_source:
        tables.nmi_sources.add({entry.u32(4), mode_of(entry.u16(2))});
        break;
    case madt_local_nmi:
        tables.local_nmis.add({entry.u8(2) == all ? LocalNmi::all_processors : entry.u8(2),
                               entry.u8(5), mode_of(entry.u16(3))});
        break;
    case madt_local_x2apic_nmi:
        tables.local_nmis.add({entry.u32(4), entry.u8(8), mode_of(entry.u16(2))});
        break;
    case madt_local_apic_address:
        tables.local_apic_address = PhysicalAddress{entry.u64(4)};
        break;
    default:
        break;
    }
}

RegisterAddress register_at(Fields table, uint64_t at) {
    return {static_cast<RegisterAddress::Space>(table.u8(at)), table.u8(at + 1), table.u64(at + 4)};
}

/// The 64-bit form where it is filled in, else a port (5.2.9 has both of each).
RegisterAddress either(Fields table, uint64_t extended_at, uint64_t port_at, uint8_t port_bytes) {
    auto extended = register_at(table, extended_at);
    if (extended.present())
        return extended;
    return {RegisterAddress::Space::ports, static_cast<uint8_t>(port_bytes * 8),
            table.u32(port_at)};
}

} // namespace

/// 5.2.12
void parse_madt(Bytes table, Tables& tables) {
    constexpr uint64_t entries_at = 44;
    if (table.size() < entries_at) {
        tables.warnings.add("MADT: too short");
        return;
    }
    Fields fields{table};
    tables.has_madt = true;
    if (fields.u32(36) != 0)
        tables.local_apic_address = PhysicalAddress{fields.u32(36)};
    tables.has_legacy_pics = (fields.u32(40) & 1) != 0;
    bool sound = for_each_entry(table, entries_at, [&](uint8_t type, Bytes entry) {
        if (entry.size() < madt_entry_size(type))
            tables.warnings.add("MADT: an entry is too short");
        else
            add_madt_entry(tables, type, Fields{entry});
    });
    if (!sound)
        tables.warnings.add("MADT: an entry does not fit; it and the rest are ignored");
}

/// 5.2.9
void parse_fadt(Bytes table, Tables& tables) {
    constexpr uint64_t size_of_version_1 = 116;
    constexpr uint32_t timer_is_32_bits = 1u << 8, reset_supported = 1u << 10, reduced = 1u << 20;
    if (table.size() < size_of_version_1) {
        tables.warnings.add("FADT: too short");
        return;
    }
    Fields f{table};
    auto& fixed = tables.fixed;
    fixed.present = true;
    fixed.revision = f.u8(8);
    fixed.sci_interrupt = f.u16(46);
    fixed.smi_command_port = f.u32(48);
    fixed.acpi_enable = f.u8(52);
    fixed.century_register = f.u8(108);
    fixed.boot_architecture = f.u16(109);
    fixed.flags = f.u32(112);
    fixed.hardware_reduced = (fixed.flags & reduced) != 0;
    fixed.pm1a_event = either(f, 148, 56, f.u8(88));
    fixed.pm1b_event = either(f, 160, 60, f.u8(88));
    fixed.pm1a_control = either(f, 172, 64, f.u8(89));
    fixed.pm1b_control = either(f, 184, 68, f.u8(89));
    fixed.pm_timer_32_bits = (fixed.flags & timer_is_32_bits) != 0;
    // Without a timer, its length is 0 (4.8.3.3).
    if (f.u8(91) == 4 || register_at(f, 208).present())
        fixed.pm_timer = either(f, 208, 76, 4);
    if ((fixed.flags & reset_supported) != 0 && register_at(f, 116).present()) {
        fixed.reset_register = register_at(f, 116);
        fixed.reset_value = f.u8(128);
    }
    fixed.facs = PhysicalAddress{f.u64(132) != 0 ? f.u64(132) : f.u32(36)};
    fixed.dsdt = PhysicalAddress{f.u64(140) != 0 ? f.u64(140) : f.u32(40)};
}

void parse_hpet(Bytes table, Tables& tables) {
    constexpr uint64_t size = 56;
    Fields fields{table};
    auto base = register_at(fields, 40);
    if (table.size() < size || base.space != RegisterAddress::Space::memory || !base.present()) {
        tables.warnings.add("HPET: too short, or not in memory");
        return;
    }
    tables.hpet =
        Hpet{PhysicalAddress{base.address}, fields.u8(52), fields.u16(53), fields.u32(36)};
}

void parse_mcfg(Bytes table, Tables& tables) {
    constexpr uint64_t entries_at = 44, entry_size = 16;
    for (uint64_t at = entries_at; auto entry = slice(table, at, entry_size); at += entry_size) {
        Fields f{*entry};
        PciSegment segment{PhysicalAddress{f.u64(0)}, f.u16(8), f.u8(10), f.u8(11)};
        // A bus has 1 MiB of configuration space.
        constexpr uint64_t highest = (uint64_t{1} << 52) - 256_MiB;
        if (segment.first_bus > segment.last_bus || segment.base.raw() > highest ||
            segment.base.raw() == 0)
            tables.warnings.add("MCFG: an entry makes no sense");
        else
            tables.pci_segments.add(segment);
    }
}

/// 5.2.16
void parse_srat(Bytes table, Tables& tables) {
    constexpr uint64_t entries_at = 48;
    enum : uint8_t { local_apic = 0, memory = 1, local_x2apic = 2 };
    constexpr uint32_t enabled = 1, hot_pluggable = 2;
    // Before revision 2 only the low byte of a proximity domain is defined.
    uint32_t mask = Fields{table}.u8(8) >= 2 ? ~uint32_t{0} : 0xff;
    bool sound = for_each_entry(table, entries_at, [&](uint8_t type, Bytes entry) {
        Fields f{entry};
        if (type == local_apic && entry.size() >= 16 && (f.u32(4) & enabled) != 0) {
            uint32_t high = f.u8(9) | uint32_t{f.u16(10)} << 8;
            tables.cpu_affinity.add({f.u8(3), (f.u8(2) | high << 8) & mask});
        } else if (type == local_x2apic && entry.size() >= 24 && (f.u32(12) & enabled) != 0) {
            tables.cpu_affinity.add({f.u32(8), f.u32(4)});
        } else if (type == memory && entry.size() >= 40 && (f.u32(28) & enabled) != 0) {
            uint64_t end;
            if (__builtin_add_overflow(f.u64(8), f.u64(16), &end))
                tables.warnings.add("SRAT: a memory range wraps around");
            else
                tables.memory_affinity.add({PhysicalAddress{f.u64(8)}, f.u64(16), f.u32(2) & mask,
                                            (f.u32(28) & hot_pluggable) != 0});
        }
    });
    if (!sound)
        tables.warnings.add("SRAT: an entry does not fit; it and the rest are ignored");
}

} // namespace hearth::acpi
