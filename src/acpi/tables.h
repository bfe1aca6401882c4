// What ACPI's static tables say. References are to ACPI 6.4 unless said otherwise.
#pragma once

#include "acpi/physical_view.h"
#include "acpi/root_pointer.h"
#include "base/result.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace hearth::acpi {

/// As many as fit, and how many did not.
template <class T, size_t Capacity>
class FixedList {
    std::array<T, Capacity> items_{};
    size_t count_ = 0;
    uint32_t dropped_ = 0;

public:
    constexpr void add(T const& item) {
        if (count_ == Capacity)
            ++dropped_;
        else
            items_[count_++] = item;
    }
    [[nodiscard]] constexpr size_t size() const { return count_; }
    [[nodiscard]] constexpr uint32_t dropped() const { return dropped_; }
    [[nodiscard]] constexpr T const* begin() const { return items_.data(); }
    [[nodiscard]] constexpr T const* end() const { return items_.data() + count_; }
    [[nodiscard]] constexpr T const& operator[](size_t i) const { return items_[i]; }
};

using Signature = std::array<char, 4>;

constexpr Signature signature(char const (&text)[5]) {
    return {text[0], text[1], text[2], text[3]};
}

/// A table that could be read; its checksum is right unless there is a warning about it.
struct TableLocation {
    Signature signature{};
    PhysicalAddress address;
    uint32_t length = 0; // with its header of 36 bytes
};

/// A CPU that can be used, now or after being plugged in (5.2.12.2, 5.2.12.12).
struct LocalApic {
    uint32_t id = 0;
    uint32_t processor_uid = 0;
    bool enabled = false;
    bool online_capable = false;
    bool operator==(LocalApic const&) const = default;
};

struct IoApic {
    uint8_t id = 0;
    PhysicalAddress address;
    uint32_t first_interrupt = 0; // global system interrupt of its pin 0
};

/// How an interrupt is signalled; `conforming` means as the bus specifies, which for ISA is high
/// and edge (5.2.12.5).
struct InterruptMode {
    enum class Polarity : uint8_t { conforming = 0, high = 1, low = 3 };
    enum class Trigger : uint8_t { conforming = 0, edge = 1, level = 3 };
    Polarity polarity = Polarity::conforming;
    Trigger trigger = Trigger::conforming;
    bool operator==(InterruptMode const&) const = default;
};

struct InterruptOverride {
    uint8_t source = 0; // ISA interrupt
    uint32_t interrupt = 0;
    InterruptMode mode;
};

struct NmiSource {
    uint32_t interrupt = 0;
    InterruptMode mode;
};

struct LocalNmi {
    static constexpr uint32_t all_processors = ~uint32_t{0};
    uint32_t processor_uid = all_processors;
    uint8_t pin = 1; // of LINT0 and LINT1
    InterruptMode mode;
};

/// A register, in memory or I/O ports (5.2.3.2). Address 0: there is none.
struct RegisterAddress {
    enum class Space : uint8_t { memory = 0, ports = 1, pci_configuration = 2 };
    Space space = Space::ports;
    uint8_t width = 0; // bits
    uint64_t address = 0;

    [[nodiscard]] bool present() const { return address != 0; }
    /// 0: it is none.
    [[nodiscard]] uint16_t port() const {
        return space == Space::ports ? static_cast<uint16_t>(address) : uint16_t{0};
    }
};

/// The fixed ACPI description table (5.2.9).
struct FixedHardware {
    bool present = false;
    uint8_t revision = 0;
    uint16_t sci_interrupt = 0;
    uint32_t smi_command_port = 0;
    uint8_t acpi_enable = 0;
    uint32_t flags = 0;
    uint16_t boot_architecture = 0; // bit 0 legacy devices, bit 1 8042, bit 2 no VGA
    bool hardware_reduced = false;
    RegisterAddress pm1a_event, pm1b_event, pm1a_control, pm1b_control;
    RegisterAddress pm_timer;
    bool pm_timer_32_bits = false; // else 24
    std::optional<RegisterAddress> reset_register;
    uint8_t reset_value = 0;
    uint8_t century_register = 0; // CMOS index, 0: none
    PhysicalAddress dsdt;
    PhysicalAddress facs;
};

/// High-precision event timer (IA-PC HPET specification 1.0a, section 3.2.4).
struct Hpet {
    PhysicalAddress address;
    uint8_t number = 0;
    uint16_t minimum_tick = 0;
    uint32_t hardware_id = 0;
};

/// Memory-mapped PCI configuration space (PCI Firmware specification 3.0, section 4.1.2).
struct PciSegment {
    PhysicalAddress base; // of bus 0, even where first_bus is another
    uint16_t segment = 0;
    uint8_t first_bus = 0;
    uint8_t last_bus = 0;
};

struct MemoryAffinity {
    PhysicalAddress start;
    uint64_t size = 0;
    uint32_t proximity_domain = 0;
    bool hot_pluggable = false;
};

struct CpuAffinity {
    uint32_t apic_id = 0;
    uint32_t proximity_domain = 0;
};

struct Tables {
    /// All tables, for those who parse others (DMAR, IVRS) themselves.
    FixedList<TableLocation, 64> tables;

    bool has_madt = false;
    FixedList<LocalApic, 64> cpus;
    PhysicalAddress local_apic_address{0xfee00000};
    bool has_legacy_pics = false;
    FixedList<IoApic, 16> io_apics;
    FixedList<InterruptOverride, 32> overrides;
    FixedList<NmiSource, 8> nmi_sources;
    FixedList<LocalNmi, 64> local_nmis;

    FixedHardware fixed;
    std::optional<Hpet> hpet;
    FixedList<PciSegment, 16> pci_segments;
    FixedList<MemoryAffinity, 64> memory_affinity;
    FixedList<CpuAffinity, 128> cpu_affinity;

    FixedList<std::string_view, 32> warnings;

    [[nodiscard]] TableLocation const* find(Signature wanted) const;
    [[nodiscard]] bool has_dmar() const { return find(signature("DMAR")) != nullptr; }
    [[nodiscard]] bool has_ivrs() const { return find(signature("IVRS")) != nullptr; }
    [[nodiscard]] bool has_bgrt() const { return find(signature("BGRT")) != nullptr; }
};

/// Fills `tables`, which must be fresh. Searches for the root pointer when `root` tells nothing.
/// Errors: noent when there is no sound root pointer, io when the list of tables it leads to is
/// unsound. Everything else that is wrong is a warning.
Result<> read_tables(PhysicalView& memory, RootPointer const& root, Tables& tables);

} // namespace hearth::acpi
