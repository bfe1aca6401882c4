#include "abi/platform.h"
#include "arch/port_io.h"
#include "console/console.h"
#include "console/log.h"
#include "control/control.h"
#include "control/operation_body.h"
#include "cpu/cpu.h"
#include "domain/guest_memory.h"
#include "time/clock.h"

#include <cstring>

namespace hearth {
namespace {

using abi::PlatformOperation;

void update_all_wall_clocks() {
    for (DomainId id = 0; id < max_domains; ++id) {
        if (Domain* const d = find_domain(id))
            update_wall_clock(*d);
        preempt_point_each(64, id);
    }
}

Result<> set_time(uint64_t seconds, uint32_t nanoseconds, uint64_t system_time) {
    if (nanoseconds >= 1'000'000'000)
        return Errno::inval;
    set_wall_clock(seconds, nanoseconds, system_time);
    update_all_wall_clocks();
    return {};
}

Result<> sleep_state(abi::EnterAcpiSleep const& request) {
    constexpr uint32_t extended = 1;
    constexpr uint16_t sleep_enable = 1u << 13;
    if (request.sleep_state != 5 || (request.flags & extended))
        return Errno::opnotsupp; // suspend: not yet
    MachineFacts const& facts = machine_facts();
    if (facts.pm1a_control == 0)
        return Errno::nodev;
    log_info("powering off");
    // SLP_TYPx first, then with SLP_EN. (ACPI 6.4, 4.8.3.2)
    console_leave_in_order();
    arch::out16(facts.pm1a_control, request.value_a & ~sleep_enable);
    if (facts.pm1b_control)
        arch::out16(facts.pm1b_control, request.value_b & ~sleep_enable);
    arch::out16(facts.pm1a_control, request.value_a | sleep_enable);
    if (facts.pm1b_control)
        arch::out16(facts.pm1b_control, request.value_b | sleep_enable);
    return {};
}

Result<> cpu_info(abi::PlatformOp& op) {
    auto info = body_of<abi::PhysicalCpuInfo>(op);
    unsigned const count = machine_facts().cpu_count;
    info.max_present = count - 1;
    if (info.xen_cpuid >= count) {
        info.flags = abi::cpu_invalid_flag;
        info.apic_id = info.acpi_id = ~0u;
    } else {
        info.flags = abi::cpu_online_flag;
        info.apic_id = cpu_block(info.xen_cpuid).apic_id;
        info.acpi_id = cpu_block(info.xen_cpuid).acpi_id;
    }
    memcpy(op.body, &info, sizeof info);
    return {};
}

Result<> firmware_info(abi::PlatformOp& op) {
    auto const info = body_of<abi::FirmwareInfo>(op);
    switch (static_cast<abi::FirmwareInfoType>(info.type)) {
    case abi::FirmwareInfoType::disk:
    case abi::FirmwareInfoType::disk_mbr:
    case abi::FirmwareInfoType::vbeddc:
        return Errno::srch; // what the BIOS knew of disks and monitors was not kept
    case abi::FirmwareInfoType::keyboard_shift:
        if (info.index != 0)
            return Errno::srch;
        memset(op.body + 8, 0, 1);
        return {};
    case abi::FirmwareInfoType::efi:
        return Errno::nosys;
    }
    return Errno::inval;
}

} // namespace

Result<int64_t> do_platform_op(Context&, uint64_t argument) {
    GuestPointer<abi::PlatformOp> const pointer{argument};
    abi::PlatformOp op = TRY(pointer.read());
    if (op.version != abi::platform_interface_version)
        return Errno::access;
    switch (static_cast<PlatformOperation>(op.command)) {
    case PlatformOperation::settime32: {
        auto const t = body_of<abi::SetTime32>(op);
        TRY(set_time(t.seconds, t.nanoseconds, t.system_time));
        return 0;
    }
    case PlatformOperation::settime64: {
        auto const t = body_of<abi::SetTime64>(op);
        if (t.zero != 0)
            return Errno::inval;
        TRY(set_time(t.seconds, t.nanoseconds, t.system_time));
        return 0;
    }
    case PlatformOperation::enter_acpi_sleep:
        TRY(sleep_state(body_of<abi::EnterAcpiSleep>(op)));
        return 0;
    case PlatformOperation::get_cpuinfo:
        TRY(cpu_info(op));
        TRY(pointer.write(op));
        return 0;
    case PlatformOperation::firmware_info:
        TRY(firmware_info(op));
        TRY(pointer.write(op));
        return 0;
    default:
        return Errno::nosys;
    }
}

} // namespace hearth
