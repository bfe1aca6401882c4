// What Domain 0 sets and asks of the machine.
#include "toolstack.h"

#include "abi/machine_check.h"
#include "abi/platform.h"
#include "control/control.h"
#include "cpu/cpu.h"

namespace hearth::test {
namespace {

using abi::Hypercall;

class Platform : public testing::Test {
protected:
    Toolstack dom0;

    /// Both kinds of argument: command, version, and a union.
    template <class Op, class T>
    int64_t ask(Hypercall call, Op op, T& body) {
        memcpy(op.body, &body, sizeof body);
        dom0.argument<Op>() = op;
        auto const result = dom0.hypercall(call, Guest::argument_address);
        memcpy(&body, dom0.argument<Op>().body, sizeof body);
        return result.value_or(-1000);
    }
    template <class T>
    int64_t operate(abi::PlatformOperation what, T& body) {
        abi::PlatformOp const op{static_cast<uint32_t>(what), abi::platform_interface_version, {}};
        return ask(Hypercall::platform_op, op, body);
    }
};

TEST_F(Platform, ANewTimeIsEverybodys) {
    Guest guest;
    DomainId const paused = dom0.make();
    abi::DomctlTimeOffset later{100};
    ASSERT_EQ(dom0.control(abi::DomctlOperation::settimeoffset, guest.domain.id, later), 0);
    auto const seconds = [](Domain const& d) {
        EXPECT_EQ(d.shared_info->wallclock_version % 2, 0u);
        return d.shared_info->wallclock_seconds;
    };
    WallClock const before = wall_clock_base();
    abi::SetTime64 time{1'700'000'000, 5, 0, 0};
    EXPECT_EQ(operate(abi::PlatformOperation::settime64, time), 0);
    EXPECT_EQ(seconds(dom0.domain), 1'700'000'000u);
    EXPECT_EQ(seconds(guest.domain), 1'700'000'100u);
    EXPECT_EQ(seconds(*find_domain(paused)), 1'700'000'000u);
    abi::SetTime32 earlier{1'600'000'000, 7, 0};
    EXPECT_EQ(operate(abi::PlatformOperation::settime32, earlier), 0);
    EXPECT_EQ(seconds(guest.domain), 1'600'000'100u);
    EXPECT_EQ(guest.domain.shared_info->wallclock_nanoseconds, 7u);
    set_wall_clock(before.seconds, before.nanoseconds, 0);
    EXPECT_EQ(dom0.end(paused), 0);
}

TEST_F(Platform, ACpuThatIsNotThereIsSaidNotToBe) {
    MachineFacts const before = machine_facts();
    set_machine_facts({.command_line = {}, .cpu_count = machine_cpus});
    abi::PhysicalCpuInfo info{machine_cpus - 1, 0, 0, 0, 0};
    EXPECT_EQ(operate(abi::PlatformOperation::get_cpuinfo, info), 0);
    EXPECT_EQ(info.max_present, machine_cpus - 1);
    EXPECT_EQ(info.flags, abi::cpu_online_flag);
    EXPECT_EQ(info.apic_id, machine_cpus - 1);
    info.xen_cpuid = machine_cpus;
    EXPECT_EQ(operate(abi::PlatformOperation::get_cpuinfo, info), 0);
    EXPECT_EQ(info.max_present, machine_cpus - 1);
    EXPECT_EQ(info.flags, abi::cpu_invalid_flag);
    set_machine_facts(before);
}

TEST_F(Platform, TheFirmwareLeftNothing) {
    abi::FirmwareInfo info{};
    auto const told = [&](uint32_t type, uint32_t index) {
        info.type = type;
        info.index = index;
        return operate(abi::PlatformOperation::firmware_info, info);
    };
    for (uint32_t const type : {1u, 2u, 3u})
        EXPECT_EQ(told(type, 0), srch) << type;
    EXPECT_EQ(told(4, 0), nosys) << "after a BIOS";
    EXPECT_EQ(told(5, 0), 0);
    EXPECT_EQ(told(5, 1), srch);
    for (uint32_t const type : {0u, 6u, ~0u})
        EXPECT_EQ(told(type, 0), inval) << type;
}

TEST_F(Platform, MemoryOfADomainThatThereIsNot) {
    auto const ask = [&](abi::MemoryOperation what, DomainId whose) {
        dom0.argument<abi::MemoryReservation>() = {
            Guest::argument_address + 0x100, 1, 0, 0, whose, {}};
        return *dom0.hypercall(Hypercall::memory_op, static_cast<uint64_t>(what),
                               Guest::argument_address);
    };
    auto const name = [&](abi::MemoryOperation what, DomainId whose) {
        dom0.argument<DomainId>() = whose;
        return *dom0.hypercall(Hypercall::memory_op, static_cast<uint64_t>(what),
                               Guest::argument_address);
    };
    using abi::MemoryOperation;
    for (auto const what :
         {MemoryOperation::increase_reservation, MemoryOperation::populate_physmap,
          MemoryOperation::decrease_reservation}) {
        EXPECT_EQ(ask(what, 1000), 0) << "so many extents were done";
        EXPECT_EQ(*dom0.hypercall(Hypercall::memory_op, static_cast<uint64_t>(what), 8), 0);
    }
    // Frames have their own numbers here.
    for (auto const what : {MemoryOperation::add_to_physmap, MemoryOperation::remove_from_physmap,
                            MemoryOperation::add_to_physmap_batch}) {
        EXPECT_EQ(name(what, domid_self), denied);
        EXPECT_EQ(name(what, 1000), srch);
        EXPECT_EQ(*dom0.hypercall(Hypercall::memory_op, static_cast<uint64_t>(what), 8), fault);
    }
    EXPECT_EQ(name(MemoryOperation::get_vnumainfo, 1000), srch);
    EXPECT_EQ(name(MemoryOperation::get_vnumainfo, domid_self), opnotsupp);
    EXPECT_EQ(name(MemoryOperation::maximum_ram_page, 0),
              static_cast<int64_t>(frame_limit().raw()));
    Guest guest;
    guest.argument<abi::MemoryReservation>() = {
        Guest::argument_address + 0x100, 1, 0, 0, dom0.domain.id, {}};
    EXPECT_EQ(*guest.hypercall(Hypercall::memory_op,
                               static_cast<uint64_t>(MemoryOperation::populate_physmap),
                               Guest::argument_address),
              perm);
}

TEST_F(Platform, TheSizeOfAPageNeedsNoArgument) {
    auto const ask = [&](uint64_t argument) {
        return *dom0.hypercall(Hypercall::xen_version,
                               static_cast<uint64_t>(abi::VersionOperation::page_size), argument);
    };
    EXPECT_EQ(ask(0), 4096);
    EXPECT_EQ(ask(Guest::argument_address), inval);
}

class MachineCheck : public Platform {
protected:
    static constexpr uint64_t buffer = 0x200;
    MachineFacts const before = machine_facts();

    MachineCheck() {
        set_machine_facts({.command_line = {}, .cpu_count = 2, .has_io_apics = true});
    }
    ~MachineCheck() override { set_machine_facts(before); }

    template <class T>
    int64_t operate(abi::McaOperation what, T& body,
                    uint32_t version = abi::mca_interface_version) {
        return ask(Hypercall::mca, abi::McaOp{static_cast<uint32_t>(what), version, {}}, body);
    }
};

TEST_F(MachineCheck, TellsOfEachCpuWhereThereIsRoomForAll) {
    abi::McaCpuInfo info{};
    EXPECT_EQ(operate(abi::McaOperation::cpu_info, info), 0);
    EXPECT_EQ(info.count, 2u);
    auto* const cpus = &dom0.argument<abi::McaCpu>(buffer);
    memset(static_cast<void*>(cpus), 0xaa, 3 * sizeof *cpus);
    for (uint32_t const room : {0u, 1u}) {
        info = {room, 0, Guest::argument_address + buffer};
        EXPECT_EQ(operate(abi::McaOperation::cpu_info, info), inval);
    }
    EXPECT_EQ(cpus[0].number, 0xaaaaaaaa);
    info = {100, 0, Guest::argument_address + buffer};
    EXPECT_EQ(operate(abi::McaOperation::cpu_info, info), 0);
    EXPECT_EQ(info.count, 2u);
    for (uint32_t i = 0; i < 2; ++i) {
        EXPECT_EQ(cpus[i].number, i);
        EXPECT_EQ(cpus[i].apic_id, cpu_block(i).apic_id);
        EXPECT_EQ(cpus[i].cores, 2u);
        EXPECT_EQ(cpus[i].register_count, 0);
    }
    EXPECT_EQ(cpus[2].number, 0xaaaaaaaa);
    info = {2, 0, 0xffff800000000000};
    EXPECT_EQ(operate(abi::McaOperation::cpu_info, info), fault);
}

TEST_F(MachineCheck, HasNoRecords) {
    using namespace abi::mca;
    for (uint32_t const flags : {not_urgent, urgent}) {
        abi::McaFetch fetch{flags, 0, 5, Guest::argument_address + buffer};
        EXPECT_EQ(operate(abi::McaOperation::fetch, fetch), 0);
        EXPECT_EQ(fetch.flags, no_record);
        EXPECT_EQ(fetch.id, 0u);
        fetch = {flags, 0, 5, 0};
        EXPECT_EQ(operate(abi::McaOperation::fetch, fetch), inval);
        fetch = {flags | acknowledge, 0, 5, 0};
        EXPECT_EQ(operate(abi::McaOperation::fetch, fetch), 0);
        EXPECT_EQ(fetch.flags, flags | acknowledge);
    }
    for (uint32_t const flags : {0u, not_urgent | urgent, uint32_t{acknowledge}}) {
        abi::McaFetch fetch{flags, 0, 5, Guest::argument_address + buffer};
        EXPECT_EQ(operate(abi::McaOperation::fetch, fetch), inval);
    }
}

TEST_F(MachineCheck, IsNotThereWithoutIoApics) {
    set_machine_facts({.command_line = {}, .cpu_count = 2});
    abi::McaCpuInfo info{};
    EXPECT_EQ(operate(abi::McaOperation::cpu_info, info), nosys);
}

TEST_F(MachineCheck, RefusesWhatItDoesNotKnow) {
    uint64_t nothing = 0;
    EXPECT_EQ(operate(abi::McaOperation::fetch, nothing, 1), denied);
    EXPECT_EQ(operate(abi::McaOperation::inject_msr, nothing), opnotsupp);
    for (uint32_t const operation : {0u, 2u, 5u, 6u, 7u, ~0u})
        EXPECT_EQ(operate(abi::McaOperation{operation}, nothing), inval);
    EXPECT_EQ(dom0.hypercall(Hypercall::mca, 0xffff800000000000), fault);
}

TEST_F(Platform, TheMemoryMapsLengthIsToldWithoutABuffer) {
    auto const ask = [&](uint32_t entries, uint64_t buffer, int64_t result = 0) {
        dom0.argument<abi::MemoryMapRequest>() = {entries, 0, buffer};
        EXPECT_EQ(dom0.hypercall(Hypercall::memory_op,
                                 static_cast<uint64_t>(abi::MemoryOperation::machine_memory_map),
                                 Guest::argument_address),
                  result);
        return dom0.argument<abi::MemoryMapRequest>().entries;
    };
    uint32_t const before = ask(0, 0);
    add_machine_memory(0, 0x9f000, 1);
    add_machine_memory(0x100000, 0x700000, 1);
    EXPECT_EQ(ask(0, 0), before + 2);
    EXPECT_EQ(ask(1, 0), before + 2);
    EXPECT_EQ(ask(1, Guest::argument_address + 0x100, inval), 1u) << "no part of it";
    EXPECT_EQ(ask(100, Guest::argument_address + 0x100), before + 2);
}

} // namespace
} // namespace hearth::test
