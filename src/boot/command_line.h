// The options on Hearth's command line. docs/command-line.md explains each.
#pragma once

#include "base/address.h"
#include "console/log.h"
#include "console/uart.h"
#include "cpu/crash.h"
#include "cpu/speculation.h"
#include "irq/nmi.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace hearth {

/// An amount of memory, absolute or relative to what the machine has.
struct MemoryAmount {
    uint64_t bytes = 0;
    bool less_than_total = false; ///< bytes are subtracted from the total
    uint8_t percent = 0;          ///< of the total, added

    [[nodiscard]] constexpr uint64_t resolve(uint64_t total) const {
        uint64_t amount = less_than_total ? total - std::min(bytes, total) : bytes;
        uint64_t share = total / 100 * percent;
        return amount + std::min(share, ~uint64_t{0} - amount);
    }
    bool operator==(MemoryAmount const&) const = default;
};

enum class ClockChoice : uint8_t { automatic, pit, hpet, acpi, tsc };

/// Everything the command line can say, with its default.
struct Options {
    // Domain 0
    std::optional<MemoryAmount> dom0_mem, dom0_mem_min, dom0_mem_max;
    uint32_t dom0_max_vcpus_min = 0;
    uint32_t dom0_max_vcpus_max = ~uint32_t{0};
    bool dom0_vcpus_pin = false;

    // Console and log
    bool console_com1 = false, console_com2 = false, console_vga = true;
    bool com1_given = false, com2_given = false;
    UartSettings com1{};
    UartSettings com2{.port = 0x2f8, .irq = 3};
    bool sync_console = false;
    bool console_timestamps = false;
    uint64_t conring_size = 32_KiB;
    LogThresholds loglvl;
    LogThresholds guest_loglvl{LogThreshold::none, LogThreshold::warning};

    // Machine
    std::optional<uint64_t> mem; ///< usable memory ends at this address
    uint32_t maxcpus = ~uint32_t{0};
    bool noreboot = false;
    ResetMethod reboot = ResetMethod::automatic;
    bool watchdog = false;
    uint32_t watchdog_timeout = 5; // seconds
    NmiAction nmi = NmiAction::to_dom0;
    ClockChoice clocksource = ClockChoice::automatic;
    std::optional<bool> x2apic; ///< unset: as the firmware says
    bool smep = true, smap = true, pcid = true, fsgsbase = true, xsave = true;
    DefenceChoice defences;
    bool iommu = true, iommu_required = false, iommu_verbose = false, iommu_intremap = true;

    // Guests
    uint32_t gnttab_max_frames = 64;
    uint32_t gnttab_max_maptrack_frames = 1024;
    uint32_t sched_ratelimit_us = 100;

    /// What follows " -- ": to be appended to Domain 0's own command line.
    std::string_view for_dom0;
};

/// Hears about words that do not do what their writer may expect.
class CommandLineReport {
public:
    enum class Severity : uint8_t {
        note,   ///< understood, without effect here
        warning ///< unknown or malformed: the default stands
    };
    virtual void report(Severity severity, std::string_view word, std::string_view message) = 0;

protected:
    ~CommandLineReport() = default;
};

/// One option. `parse` reads the text after '=' ("yes" for a bare word, "no" for no-NAME where
/// `bare` allows these) and tells what is wrong with it, or returns nothing.
struct OptionRow {
    std::string_view name;
    std::string_view form; ///< what may follow '='
    std::string_view help;
    bool bare = false;      ///< may stand without a value, and as no-NAME
    bool ignored = false;   ///< accepted so that a command line written for Xen gives no warning
    bool no_effect = false; ///< read and checked, but nothing acts on it yet: a note says so
    std::string_view (*parse)(Options&, std::string_view) = nullptr;
};

std::span<OptionRow const> option_table();

/// Reads a command line without the file name. Text in the result points into it.
Options parse_command_line(std::string_view line, CommandLineReport& report);

} // namespace hearth
