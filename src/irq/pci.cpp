#include "irq/pci.h"

#include "arch/port_io.h"
#include "base/bits.h"
#include "base/lock.h"
#include "cpu/features.h"
#include "memory/own_devices.h"
#include "memory/page.h"
#include "memory/paging.h"

namespace hearth {
namespace {

constinit SpinLock<Rank::pci> config_lock;

constexpr uint16_t address_port = 0xcf8, data_port = 0xcfc;
constexpr uint8_t status_register = 0x06, capability_pointer = 0x34;
constexpr uint8_t capability_msi = 0x05, capability_msix = 0x11;
constexpr uint32_t status_has_capabilities = 0x10, msi_enabled = 1;

uint32_t port_in(uint16_t port, unsigned size) {
    return size == 1 ? arch::in8(port) : size == 2 ? arch::in16(port) : arch::in32(port);
}
void port_out(uint16_t port, unsigned size, uint32_t value) {
    if (size == 1)
        arch::out8(port, static_cast<uint8_t>(value));
    else if (size == 2)
        arch::out16(port, static_cast<uint16_t>(value));
    else
        arch::out32(port, value);
}

uint32_t config_address(PciAddress d, uint8_t offset) {
    return 0x80000000u | uint32_t{d.bus} << 16 | uint32_t{d.devfn} << 8 | (offset & 0xfcu);
}

/// The capability's offset, or 0. Bounded: a list that loops ends.
uint8_t find_capability(PciAddress d, uint8_t wanted) {
    if (pci_read(d, 0, 2) == 0xffff || !(pci_read(d, status_register, 2) & status_has_capabilities))
        return 0;
    uint8_t at = static_cast<uint8_t>(pci_read(d, capability_pointer, 1) & 0xfc);
    for (unsigned steps = 0; steps < 48 && at >= 0x40; ++steps) {
        if (pci_read(d, at, 1) == wanted)
            return at;
        at = static_cast<uint8_t>(pci_read(d, static_cast<uint8_t>(at + 1), 1) & 0xfc);
    }
    return 0;
}

uint8_t plus(uint8_t offset, unsigned n) { return static_cast<uint8_t>(offset + n); }

/// A device's MSI-X table, mapped on first use and kept.
struct MappedTable {
    PciAddress device;
    uint64_t physical;
    uint32_t volatile* entries;
    unsigned count;
};
constexpr unsigned max_tables = 64;
constinit MappedTable tables[max_tables]{};
constinit unsigned table_count = 0;

/// The table's address as the device's own registers give it: nothing that a guest says is used.
Result<MappedTable*> msix_table(PciAddress d, uint8_t capability) {
    unsigned const count = (pci_read(d, plus(capability, 2), 2) & 0x7ff) + 1;
    uint32_t const table = pci_read(d, plus(capability, 4), 4);
    unsigned const bar = table & 7;
    if (bar > 5)
        return Errno::nodev;
    uint8_t const bar_offset = static_cast<uint8_t>(0x10 + bar * 4);
    uint32_t const low = pci_read(d, bar_offset, 4);
    if (low & 1)
        return Errno::nodev;
    uint64_t base = low & ~0xfu;
    if ((low & 6) == 4 && bar < 5)
        base |= uint64_t{pci_read(d, plus(bar_offset, 4), 4)} << 32;
    uint64_t const physical = base + (table & ~7u);
    // Only device memory, and nothing of Hearth's: a register that claims otherwise would have
    // interrupts written over somebody's data.
    uint64_t const end = physical + count * 16;
    if (end < physical || (end - 1) >> physical_address_bits() != 0)
        return Errno::nodev;
    if (meets_own_device(frame_of(PhysicalAddress{physical}), frame_of(PhysicalAddress{end - 1})))
        return Errno::nodev;
    for (uint64_t at = physical; at < end; at = align_up(at + 1, page_size))
        if (is_ram(frame_of(PhysicalAddress{at})))
            return Errno::nodev;
    for (unsigned i = 0; i < table_count; ++i)
        if (tables[i].device.bus == d.bus && tables[i].device.devfn == d.devfn) {
            if (tables[i].physical == physical && tables[i].count == count)
                return &tables[i];
            void* const moved = TRY(map_device(PhysicalAddress{physical}, count * 16));
            tables[i] = {d, physical, static_cast<uint32_t volatile*>(moved), count};
            return &tables[i];
        }
    if (table_count == max_tables)
        return Errno::nospc;
    void* const mapped = TRY(map_device(PhysicalAddress{physical}, count * 16));
    tables[table_count] = {d, physical, static_cast<uint32_t volatile*>(mapped), count};
    return &tables[table_count++];
}

} // namespace

uint32_t pci_read_by_address(uint32_t address, uint16_t port, unsigned size) {
    LockGuard guard{config_lock};
    arch::out32(address_port, address);
    return port_in(port, size);
}
void pci_write_by_address(uint32_t address, uint16_t port, unsigned size, uint32_t value) {
    LockGuard guard{config_lock};
    arch::out32(address_port, address);
    port_out(port, size, value);
}

uint32_t pci_read(PciAddress d, uint8_t offset, unsigned size) {
    return pci_read_by_address(config_address(d, offset),
                               static_cast<uint16_t>(data_port + (offset & 3)), size);
}
void pci_write(PciAddress d, uint8_t offset, unsigned size, uint32_t value) {
    pci_write_by_address(config_address(d, offset), static_cast<uint16_t>(data_port + (offset & 3)),
                         size, value);
}

Result<> msi_write(PciAddress d, Message const& m) {
    uint8_t const at = find_capability(d, capability_msi);
    if (!at)
        return Errno::nodev;
    uint32_t const control = pci_read(d, plus(at, 2), 2);
    bool const wide = control & 0x80;
    pci_write(d, plus(at, 4), 4, static_cast<uint32_t>(m.address));
    if (wide)
        pci_write(d, plus(at, 8), 4, static_cast<uint32_t>(m.address >> 32));
    pci_write(d, plus(at, wide ? 12 : 8), 2, m.data);
    if (control & 0x100) // per-vector masks: none set
        pci_write(d, plus(at, wide ? 16 : 12), 4, 0);
    return {};
}

void msi_turn_off(PciAddress d) {
    if (uint8_t const at = find_capability(d, capability_msi)) {
        uint32_t const control = pci_read(d, plus(at, 2), 2);
        pci_write(d, plus(at, 2), 2, control & ~msi_enabled);
    }
}

unsigned msi_capacity(PciAddress d) {
    uint8_t const at = find_capability(d, capability_msi);
    return at ? 1u << bits(pci_read(d, plus(at, 2), 2), 1, 3) : 0;
}

Result<> msi_set_count(PciAddress d, unsigned count_log2) {
    uint8_t const at = find_capability(d, capability_msi);
    if (!at)
        return Errno::nodev;
    uint32_t const control = pci_read(d, plus(at, 2), 2);
    pci_write(d, plus(at, 2), 2, (control & ~0x70u) | count_log2 << 4);
    return {};
}

Result<> msix_write(PciAddress d, unsigned entry, Message const& m, bool masked) {
    uint8_t const at = find_capability(d, capability_msix);
    if (!at)
        return Errno::nodev;
    MappedTable* const table = TRY(msix_table(d, at));
    if (entry >= table->count)
        return Errno::inval;
    // The table answers only while the device decodes memory.
    uint32_t const command = pci_read(d, 4, 2);
    if (!(command & 2))
        pci_write(d, 4, 2, command | 2);
    uint32_t volatile* const slot = table->entries + entry * 4;
    slot[3] = 1;
    slot[0] = static_cast<uint32_t>(m.address);
    slot[1] = static_cast<uint32_t>(m.address >> 32);
    slot[2] = m.data;
    slot[3] = masked ? 1 : 0;
    return {};
}

} // namespace hearth
