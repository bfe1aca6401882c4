// PCI configuration space by ports, and message-signalled interrupts in it. (PCI Local
// Bus 3.0, 6.8)
#pragma once

#include "base/result.h"

#include <cstdint>

namespace hearth {

struct PciAddress {
    uint8_t bus, devfn;
};

/// `offset` within the first 256 bytes; `size` 1, 2 or 4, aligned.
uint32_t pci_read(PciAddress device, uint8_t offset, unsigned size);
void pci_write(PciAddress device, uint8_t offset, unsigned size, uint32_t value);

/// Raw access for a guest that drives 0xcf8/0xcfc itself: `address` is what it wrote to 0xcf8.
uint32_t pci_read_by_address(uint32_t address, uint16_t port, unsigned size);
void pci_write_by_address(uint32_t address, uint16_t port, unsigned size, uint32_t value);

struct Message {
    uint64_t address;
    uint32_t data;
};
/// Programs a device's MSI capability, or one entry of its MSI-X table. nodev: it has none; inval:
/// no such entry.
Result<> msi_write(PciAddress device, Message const& message);
Result<> msix_write(PciAddress device, unsigned entry, Message const& message, bool masked);
/// A device that has none, or is gone, is off.
void msi_turn_off(PciAddress device);
/// How many messages the device can send by plain MSI; 0: none.
unsigned msi_capacity(PciAddress device);
Result<> msi_set_count(PciAddress device, unsigned count_log2);

} // namespace hearth
