// Interrupts of devices as Domain 0 asks for them: a bus with one device, which sends messages, and
// an IO-APIC whose registers are memory.
#include "toolstack.h"

#include "abi/event_channel.h"
#include "abi/physdev.h"
#include "irq/irq.h"
#include "irq/pci.h"
#include "memory/own_devices.h"

#include <algorithm>

namespace hearth::test {
namespace {

using abi::PhysdevOperation;

constexpr uint8_t bus = 2, devfn = 8, msi = 0x50, msix = 0x70;
constexpr uint64_t table_at = 0xfe000000, io_apic_at = 0xfec00000;
constexpr unsigned table_size = 4, pins = 24;

/// The configuration space of the one device, behind the two ports.
struct Device {
    uint8_t space[256]{};
    uint32_t address = 0;

    Device() {
        put(0x06, 2, 0x10); // capabilities
        put(0x34, 1, msi);
        put(msi, 4, 0x0084'00'05 | msix << 8); // 64-bit addresses, up to four messages
        put(msix, 4, (table_size - 1) << 16 | 0x11);
        put(msix + 4, 4, 0); // in the first region
        put(0x10, 4, table_at);
    }
    void put(unsigned at, unsigned size, uint32_t value) { memcpy(space + at, &value, size); }
    [[nodiscard]] uint32_t get(unsigned at, unsigned size) const {
        uint32_t value = 0;
        memcpy(&value, space + at, size);
        return value;
    }
    [[nodiscard]] bool answers() const { return address >> 8 == (0x800000u | bus << 8 | devfn); }
};
Device* device;
uint32_t table[table_size * 4];
uint32_t io_apic[1024];

uint32_t read_port(uint16_t port, unsigned size) {
    if (port < 0xcfc || port > 0xcff || !device->answers())
        return ~0u;
    return device->get((device->address & 0xfc) + port - 0xcfc, size);
}

class Physdev : public testing::Test {
protected:
    Device device_;
    Toolstack dom0;

    Physdev() {
        device = &device_;
        memset(table, 0, sizeof table);
        host::read_wide_port = read_port;
        host::read_port = [](uint16_t port, uint8_t) {
            return static_cast<uint8_t>(read_port(port, 1));
        };
        host::write_port = [](uint16_t port, unsigned size, uint32_t value) {
            if (port == 0xcf8)
                device->address = value;
            else if (port >= 0xcfc && port <= 0xcff && device->answers())
                device->put((device->address & 0xfc) + port - 0xcfc, size, value);
        };
        host::device_at = [](PhysicalAddress address) -> void* {
            return address.raw() == io_apic_at ? io_apic : table;
        };
        io_apic[4] = (pins - 1) << 16 | 0x11;
        IoApicDescription const description{PhysicalAddress{io_apic_at}, 0};
        irq_initialise({&description, 1}, {});
    }
    ~Physdev() override {
        host::read_wide_port = nullptr;
        host::read_port = nullptr;
        host::write_port = nullptr;
        host::device_at = nullptr;
    }

    template <class T>
    int64_t ask(PhysdevOperation operation, T& argument) {
        dom0.argument<T>() = argument;
        auto const result = dom0.hypercall(
            abi::Hypercall::physdev_op, static_cast<uint64_t>(operation), Guest::argument_address);
        argument = dom0.argument<T>();
        return result.value_or(-1000);
    }
    static abi::MapPirq request(abi::MapPirqType type, int32_t entry = 0, uint64_t base = 0) {
        abi::MapPirq r{};
        r.domain = domid_self;
        r.type = static_cast<int32_t>(type);
        r.index = r.pirq = -1;
        r.bus = bus;
        r.devfn = devfn;
        r.entry = entry;
        r.table_base = base;
        return r;
    }
    int64_t map(abi::MapPirq& r) { return ask(PhysdevOperation::map_pirq, r); }
    int64_t unmap(int32_t pirq) {
        abi::UnmapPirq r{domid_self, 0, pirq};
        return ask(PhysdevOperation::unmap_pirq, r);
    }
    /// The port that it is bound to.
    uint32_t bind(int32_t pirq) {
        dom0.argument<abi::BindPirq>() = {static_cast<uint32_t>(pirq), 0, 0};
        EXPECT_EQ(dom0.hypercall(abi::Hypercall::event_channel_op,
                                 static_cast<uint64_t>(abi::EventOperation::bind_pirq),
                                 Guest::argument_address),
                  0);
        return dom0.argument<abi::BindPirq>().port;
    }
    void close(uint32_t port) {
        dom0.argument<uint32_t>() = port;
        EXPECT_EQ(dom0.hypercall(abi::Hypercall::event_channel_op,
                                 static_cast<uint64_t>(abi::EventOperation::close),
                                 Guest::argument_address),
                  0);
    }
    [[nodiscard]] bool is_pending(uint32_t port) const {
        return dom0.domain.shared_info->event_pending[port / 64] >> (port % 64) & 1;
    }
};

TEST_F(Physdev, AMessageRaisesItsPort) {
    abi::MapPirq r = request(abi::MapPirqType::msi);
    ASSERT_EQ(map(r), 0);
    EXPECT_EQ(device_.get(msi + 4, 4) & 0xfff00000, 0xfee00000u);
    uint32_t const vector = device_.get(msi + 12, 2);
    EXPECT_GE(vector, 0x20u);
    uint32_t const port = bind(r.pirq);
    EXPECT_FALSE(is_pending(port));
    irq_dispatch(static_cast<uint8_t>(vector));
    EXPECT_TRUE(is_pending(port));
    EXPECT_EQ(unmap(r.pirq), busy) << "it is bound";
    close(port);
    EXPECT_EQ(unmap(r.pirq), 0);
    EXPECT_EQ(unmap(r.pirq), inval);
}

TEST_F(Physdev, ADeviceWhoseMessageIsGivenBackSendsNoMore) {
    abi::MapPirq r = request(abi::MapPirqType::msi);
    ASSERT_EQ(map(r), 0);
    constexpr uint32_t enabled = 1;
    device_.put(msi + 2, 2, device_.get(msi + 2, 2) | enabled); // as its driver does
    uint32_t const others = device_.get(msi + 2, 2) & ~enabled;
    EXPECT_EQ(unmap(r.pirq), 0);
    EXPECT_EQ(device_.get(msi + 2, 2), others);
}

TEST_F(Physdev, SeveralMessagesAreNeighbours) {
    abi::MapPirq r = request(abi::MapPirqType::multi_msi, 4);
    ASSERT_EQ(map(r), 0);
    EXPECT_EQ(device_.get(msi + 2, 2) >> 4 & 7, 2u);
    uint32_t const first = device_.get(msi + 12, 2);
    EXPECT_EQ(first % 4, 0u);
    uint32_t const port = bind(r.pirq + 3);
    irq_dispatch(static_cast<uint8_t>(first + 3));
    EXPECT_TRUE(is_pending(port));
    EXPECT_EQ(unmap(r.pirq), busy) << "one of them is in use";
    close(port);
    EXPECT_EQ(unmap(r.pirq), 0);
    for (int32_t i = 0; i < 4; ++i)
        EXPECT_EQ(unmap(r.pirq + i), inval) << "they go together";
    for (unsigned i = 0; i < 200; ++i) { // as drivers come and go
        ASSERT_EQ(map(r = request(abi::MapPirqType::multi_msi, 4)), 0);
        ASSERT_EQ(unmap(r.pirq), 0);
    }
    for (int32_t const count : {0, 5, 33, -1}) {
        r = request(abi::MapPirqType::multi_msi, count);
        EXPECT_EQ(map(r), inval) << count;
    }
}

/// The device is told of a power of two.
TEST_F(Physdev, VectorsThatADeviceMayUseAreNobodyElses) {
    abi::MapPirq three = request(abi::MapPirqType::multi_msi, 3);
    ASSERT_EQ(map(three), 0);
    uint32_t const first = device_.get(msi + 12, 2);
    std::vector<int32_t> others;
    for (unsigned i = 0; i < 8; ++i) {
        abi::MapPirq r = request(abi::MapPirqType::msi);
        ASSERT_EQ(map(r), 0);
        EXPECT_NE(device_.get(msi + 12, 2), first + 3);
        others.push_back(r.pirq);
    }
    irq_dispatch(static_cast<uint8_t>(first + 3));
    EXPECT_EQ(unmap(three.pirq), 0);
    abi::MapPirq four = request(abi::MapPirqType::multi_msi, 4);
    ASSERT_EQ(map(four), 0);
    EXPECT_EQ(device_.get(msi + 12, 2), first) << "all of them are free again";
    EXPECT_EQ(unmap(four.pirq), 0);
    for (int32_t const pirq : others)
        EXPECT_EQ(unmap(pirq), 0);
}

TEST_F(Physdev, ATablesEntryIsMaskedUntilItIsBound) {
    abi::MapPirq r = request(abi::MapPirqType::msi, 2, table_at);
    ASSERT_EQ(map(r), 0);
    EXPECT_EQ(table[2 * 4 + 3], 1u);
    uint32_t const vector = table[2 * 4 + 2];
    uint32_t const port = bind(r.pirq);
    EXPECT_EQ(table[2 * 4 + 3], 0u);
    EXPECT_EQ(table[2 * 4] & 0xfff00000, 0xfee00000u);
    irq_dispatch(static_cast<uint8_t>(vector));
    EXPECT_TRUE(is_pending(port));
    close(port);
    EXPECT_EQ(table[2 * 4 + 3], 1u);
    EXPECT_EQ(unmap(r.pirq), 0);
    r = request(abi::MapPirqType::msi, table_size, table_at);
    EXPECT_EQ(map(r), inval) << "beyond the table";
    constexpr uint32_t memory = 0x100000, own = 0xfee00000;
    claim_device_frames(Mfn{0xfee00}, Mfn{0xfeeff});
    for (auto const& [region, offset] :
         {std::pair{memory, 0u}, {own, 0u}, {own - 0x1000, 0xff0u}}) {
        device_.put(0x10, 4, region);
        device_.put(msix + 4, 4, offset);
        r = request(abi::MapPirqType::msi, 1, table_at);
        EXPECT_EQ(map(r), nodev) << region;
    }
}

TEST_F(Physdev, MessagesAreRestored) {
    abi::MapPirq r = request(abi::MapPirqType::msi);
    ASSERT_EQ(map(r), 0);
    uint32_t const port = bind(r.pirq), vector = device_.get(msi + 12, 2);
    auto const lose = [&] { device_.put(msi + 4, 4, 0), device_.put(msi + 12, 2, 0); };
    lose();
    abi::RestoreMsi restore{bus, devfn};
    EXPECT_EQ(ask(PhysdevOperation::restore_msi, restore), 0);
    EXPECT_EQ(device_.get(msi + 12, 2), vector);
    lose();
    abi::PciDevice named{0, bus, devfn};
    EXPECT_EQ(ask(PhysdevOperation::restore_msi_ext, named), 0);
    EXPECT_EQ(device_.get(msi + 12, 2), vector);
    named.segment = 1;
    EXPECT_EQ(ask(PhysdevOperation::restore_msi_ext, named), inval);
    close(port);
    EXPECT_EQ(unmap(r.pirq), 0);
}

TEST_F(Physdev, AddressesOfNoDevice) {
    struct Case {
        int32_t bus, devfn;
        int64_t error;
    };
    for (auto const& [where, function, error] : {Case{bus, devfn + 1, nodev},
                                                 {bus | 0x100, devfn, inval},
                                                 {bus | 0x10000, devfn, inval},
                                                 {-1, devfn, inval},
                                                 {bus, devfn | 0x100, inval},
                                                 {bus, -248, inval}}) {
        abi::MapPirq r = request(abi::MapPirqType::msi);
        r.bus = where;
        r.devfn = function;
        EXPECT_EQ(map(r), error) << where << ' ' << function;
    }
    device_.put(0x34, 1, msi);
    device_.put(msi + 1, 1, msi); // a list without an end, and without messages
    device_.put(msi, 1, 9);
    abi::MapPirq r = request(abi::MapPirqType::msi);
    EXPECT_EQ(map(r), nodev);
}

TEST_F(Physdev, ALineIsMaskedFromItsInterruptUntilItsEnd) {
    abi::SetupGsi setup{17, 1, 1, {}};
    ASSERT_EQ(ask(PhysdevOperation::setup_gsi, setup), 0);
    abi::MapPirq r = request(abi::MapPirqType::gsi);
    r.index = 17;
    ASSERT_EQ(map(r), 0);
    EXPECT_EQ(r.pirq, 17);
    abi::IrqStatusQuery status{17, 0};
    EXPECT_EQ(ask(PhysdevOperation::irq_status_query, status), 0);
    EXPECT_TRUE(status.flags & abi::irq_needs_eoi);
    uint32_t const port = bind(17);
    // What was written last is the low word of the pin.
    uint32_t const unmasked = io_apic[4];
    EXPECT_EQ(unmasked >> 13 & 0xf, 0x5u) << "level-triggered, active low, not masked";
    irq_dispatch(static_cast<uint8_t>(unmasked));
    EXPECT_TRUE(is_pending(port));
    EXPECT_TRUE(io_apic[4] & 1u << 16);
    abi::PhysdevEoi end{17};
    EXPECT_EQ(ask(PhysdevOperation::eoi, end), 0);
    EXPECT_EQ(io_apic[4], unmasked);
    close(port);
    EXPECT_TRUE(io_apic[4] & 1u << 16);
    EXPECT_EQ(unmap(17), 0);
    r.index = pins;
    EXPECT_EQ(map(r), inval);
    r.index = -1;
    EXPECT_EQ(map(r), inval);
    setup.gsi = pins;
    EXPECT_EQ(ask(PhysdevOperation::setup_gsi, setup), inval);
}

/// As Linux does it: mapped first, then said to be level-triggered; the guest looks into the map.
TEST_F(Physdev, TheMapSaysWhichLinesNeedAnEndAlsoWhenThatChanges) {
    Mfn const page = dom0.new_frame();
    auto const needs_end = [&](unsigned gsi) {
        return (direct<uint8_t>(page)[gsi / 8] >> gsi % 8 & 1) != 0;
    };
    abi::PirqEoiGmfn map_at{page.raw()};
    ASSERT_EQ(ask(PhysdevOperation::pirq_eoi_gmfn_v2, map_at), 0);
    abi::MapPirq r = request(abi::MapPirqType::gsi);
    r.index = 7;
    ASSERT_EQ(map(r), 0);
    EXPECT_FALSE(needs_end(7));
    abi::SetupGsi setup{7, 1, 1, {}};
    ASSERT_EQ(ask(PhysdevOperation::setup_gsi, setup), 0);
    EXPECT_TRUE(needs_end(7));
    setup.triggering = 0;
    ASSERT_EQ(ask(PhysdevOperation::setup_gsi, setup), 0);
    EXPECT_FALSE(needs_end(7));
    EXPECT_EQ(unmap(7), 0);
}

TEST_F(Physdev, HearthsOwnLinesStayItsOwn) {
    ASSERT_TRUE(irq_bind(4, [](void*, unsigned) {}, nullptr));
    abi::MapPirq r = request(abi::MapPirqType::gsi);
    r.index = 4;
    ASSERT_EQ(map(r), 0);
    EXPECT_EQ(unmap(4), 0);
    EXPECT_TRUE(irq_is_bound(4));
    irq_unbind(4);
}

TEST_F(Physdev, TheIoApicsAreReadOnly) {
    abi::PhysdevApic apic{io_apic_at, 1, 0};
    io_apic[4] = 0x170011;
    EXPECT_EQ(ask(PhysdevOperation::apic_read, apic), 0);
    EXPECT_EQ(apic.value, 0x170011u);
    EXPECT_EQ(ask(PhysdevOperation::apic_write, apic), perm);
    apic.reg = 0x10 + 2 * pins;
    EXPECT_EQ(ask(PhysdevOperation::apic_read, apic), inval);
    apic = {io_apic_at + 0x1000, 1, 0};
    EXPECT_EQ(ask(PhysdevOperation::apic_read, apic), inval);
}

TEST_F(Physdev, OthersAreRefused) {
    Guest guest;
    for (PhysdevOperation const operation :
         {PhysdevOperation::map_pirq, PhysdevOperation::unmap_pirq, PhysdevOperation::setup_gsi,
          PhysdevOperation::apic_read, PhysdevOperation::restore_msi,
          PhysdevOperation::pci_device_add, PhysdevOperation::prepare_msix})
        EXPECT_EQ(guest.hypercall(abi::Hypercall::physdev_op, static_cast<uint64_t>(operation),
                                  Guest::argument_address),
                  perm);
}

} // namespace
} // namespace hearth::test
