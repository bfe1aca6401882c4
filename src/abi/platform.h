// platform_op, of Domain 0. (public/platform.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

inline constexpr uint32_t platform_interface_version = 0x03000001;

enum class PlatformOperation : uint32_t {
    settime32 = 17,
    add_memtype = 31,
    del_memtype = 32,
    read_memtype = 33,
    microcode_update = 35,
    platform_quirk = 39,
    efi_runtime_call = 49,
    firmware_info = 50,
    enter_acpi_sleep = 51,
    change_freq = 52,
    getidletime = 53,
    set_processor_pminfo = 54,
    get_cpuinfo = 55,
    cpu_online = 56,
    cpu_offline = 57,
    cpu_hotadd = 58,
    mem_hotadd = 59,
    core_parking = 60,
    get_cpu_version = 48,
    resource_op = 61,
    settime64 = 62,
    get_symbol = 63,
};

/// The whole argument: command, version, and a union that is 128 bytes long.
struct PlatformOp {
    uint32_t command, version;
    uint8_t body[128];
};
struct SetTime64 {
    uint64_t seconds;
    uint32_t nanoseconds, zero;
    uint64_t system_time;
};
struct SetTime32 {
    uint32_t seconds, nanoseconds;
    uint64_t system_time;
};
struct EnterAcpiSleep {
    uint16_t value_a, value_b;
    uint32_t sleep_state, flags;
};
struct PhysicalCpuInfo {
    uint32_t xen_cpuid;   // in
    uint32_t max_present; // out
    uint32_t flags, apic_id, acpi_id;
};
inline constexpr uint32_t cpu_online_flag = 1, cpu_invalid_flag = 2;
struct FirmwareInfo {
    uint32_t type, index;
    uint8_t body[32];
};
enum class FirmwareInfoType : uint32_t {
    disk = 1,
    disk_mbr = 2,
    vbeddc = 3,
    efi = 4,
    keyboard_shift = 5
};

} // namespace hearth::abi
