// Physical devices. (public/physdev.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

enum class PhysdevOperation : uint32_t {
    irq_unmask_notify = 4,
    irq_status_query = 5,
    set_iopl = 6,
    set_iobitmap = 7,
    apic_read = 8,
    apic_write = 9,
    alloc_irq_vector = 10,
    free_irq_vector = 11,
    eoi = 12,
    map_pirq = 13,
    unmap_pirq = 14,
    manage_pci_add = 15,
    manage_pci_remove = 16,
    pirq_eoi_gmfn_v1 = 17,
    restore_msi = 19,
    manage_pci_add_ext = 20,
    setup_gsi = 21,
    get_free_pirq = 23,
    pci_mmcfg_reserved = 24,
    pci_device_add = 25,
    pci_device_remove = 26,
    restore_msi_ext = 27,
    pirq_eoi_gmfn_v2 = 28,
    dbgp_op = 29,
    prepare_msix = 30,
    release_msix = 31,
};

struct PhysdevEoi {
    uint32_t irq;
};
struct PirqEoiGmfn {
    uint64_t gmfn;
};
struct IrqStatusQuery {
    uint32_t irq;
    uint32_t flags; // out
};
inline constexpr uint32_t irq_needs_eoi = 1;
inline constexpr uint32_t irq_shared = 2;
struct SetIopl {
    uint32_t iopl;
};
struct SetIobitmap {
    uint64_t bitmap; // pointer; 0: no ports
    uint32_t port_count, padding;
};
struct PhysdevApic {
    uint64_t base;
    uint32_t reg, value;
};
struct PhysdevIrq {
    uint32_t irq, vector;
};
enum class MapPirqType : int32_t { msi = 0, gsi = 1, unknown = 2, msi_segment = 3, multi_msi = 4 };
struct MapPirq {
    uint16_t domain, padding0;
    int32_t type, index, pirq, bus, devfn, entry;
    uint32_t padding1;
    uint64_t table_base;
};
static_assert(sizeof(MapPirq) == 40);
struct UnmapPirq {
    uint16_t domain, padding;
    int32_t pirq;
};
struct SetupGsi {
    int32_t gsi;
    uint8_t triggering, polarity; // 1: level; 1: active low
    uint8_t padding[2];
};
struct GetFreePirq {
    int32_t type;
    uint32_t pirq;
};
struct PciMmcfgReserved {
    uint64_t address;
    uint16_t segment;
    uint8_t start_bus, end_bus;
    uint32_t flags;
};
struct PciDeviceAdd {
    uint16_t segment;
    uint8_t bus, devfn;
    uint32_t flags;
    uint8_t function_bus, function_devfn;
    uint8_t padding[2];
};
struct RestoreMsi {
    uint8_t bus, devfn;
};
struct PciDevice {
    uint16_t segment;
    uint8_t bus, devfn;
};

} // namespace hearth::abi
