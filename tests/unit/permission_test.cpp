// Parts of the machine that Domain 0 lends to a guest.
#include "toolstack.h"

#include "abi/event_channel.h"
#include "domain/permissions.h"
#include "irq/irq.h"
#include "memory/own_devices.h"

namespace hearth::test {
namespace {

using abi::DomctlOperation;
using abi::Hypercall;

class Lending : public testing::Test {
protected:
    Toolstack toolstack;
    Guest guest;
    DomainId id = guest.domain.id;
    static constexpr unsigned lines = 24;

    int64_t ports(uint32_t first, uint32_t count, bool allow = true) {
        abi::DomctlIoportPermission request{first, count, allow, {}};
        return toolstack.control(DomctlOperation::ioport_permission, id, request);
    }
    int64_t frames(uint64_t first, uint64_t count, bool allow = true) {
        abi::DomctlIomemPermission request{first, count, allow, {}};
        return toolstack.control(DomctlOperation::iomem_permission, id, request);
    }
    int64_t interrupt(uint32_t pirq, bool allow = true) {
        abi::DomctlIrqPermission request{pirq, allow, {}};
        return toolstack.control(DomctlOperation::irq_permission, id, request);
    }
    int64_t map(uint64_t frame, uint64_t more = 0) {
        return *guest.hypercall(Hypercall::update_va_mapping,
                                Guest::argument_address + 5 * page_size,
                                Pte::make(Mfn{frame}, Guest::table_flags).v | more, 0);
    }
    static void forbid_some() {
        static bool done = false;
        if (!std::exchange(done, true)) {
            forbid_ports(0x20, 0x21);
            claim_device_frames(Mfn{0xfee00}, Mfn{0xfeeff});
            claim_device_frames(Mfn{uint64_t{1} << 36}, Mfn{~uint64_t{0}});
        }
    }
    static inline uint32_t io_apic[8];

    Lending() {
        forbid_some();
        host::device_at = [](PhysicalAddress) -> void* { return io_apic; };
        io_apic[4] = (lines - 1) << 16 | 0x11;
        IoApicDescription const description{PhysicalAddress{0xfec00000}, 0};
        irq_initialise({&description, 1}, {});
    }
    ~Lending() override { host::device_at = nullptr; }
};

TEST_F(Lending, Ports) {
    EXPECT_FALSE(may_use_ports(guest.domain, 0x2f8, 0x2f8));
    EXPECT_EQ(ports(0x2f8, 8), 0);
    EXPECT_TRUE(may_use_ports(guest.domain, 0x2f8, 0x2ff));
    EXPECT_FALSE(may_use_ports(guest.domain, 0x2fd, 0x300)) << "a wide access that leaves them";
    EXPECT_EQ(ports(0x2fa, 1, false), 0);
    EXPECT_FALSE(may_use_ports(guest.domain, 0x2f8, 0x2fb));
    EXPECT_TRUE(may_use_ports(guest.domain, 0x2f8, 0x2f9));
    EXPECT_EQ(ports(0x2f8, 0), inval);
    EXPECT_EQ(ports(0xffff, 1), 0);
    EXPECT_FALSE(may_use_ports(guest.domain, 0xffff, 0x0000)) << "beyond the last";
    EXPECT_EQ(ports(0xffff, 2), inval);
    EXPECT_EQ(ports(0x10000, 1), inval);
    EXPECT_EQ(ports(0xffffffff, 2), inval);
    EXPECT_EQ(ports(1, 0xffffffff), inval);
    EXPECT_EQ(ports(0x20, 2), perm);
    EXPECT_EQ(ports(0, 0x10000), perm) << "some are Hearth's";
    EXPECT_EQ(ports(0xcf8, 8), perm);
    EXPECT_EQ(ports(0xcff, 1), perm);
    uint32_t given = 0;
    while (ports(0x1000 + 2 * given, 1) == 0)
        ++given;
    EXPECT_LT(given, 64u) << "bounded";
    EXPECT_EQ(ports(0x5000, 1), nomem);
    EXPECT_FALSE(may_use_ports(guest.domain, 0x5000, 0x5000));
    id = toolstack.domain.id;
    EXPECT_EQ(ports(0x2f8, 8), 0) << "has them";
    EXPECT_EQ(ports(0x2f8, 8, false), opnotsupp);
}

TEST_F(Lending, DeviceMemory) {
    EXPECT_EQ(map(0xfebf0), perm);
    EXPECT_EQ(map(0xfebf0, pte::cache_disable), inval);
    EXPECT_EQ(frames(0xfebf0, 1), 0);
    EXPECT_EQ(map(0xfebf0), 0);
    EXPECT_EQ(map(0xfebf0, pte::cache_disable), 0);
    EXPECT_EQ(map(0xfebf1), perm);
    EXPECT_EQ(map(guest.new_frame().raw(), pte::cache_disable), inval) << "memory stays cached";
    EXPECT_EQ(map(toolstack.argument_page.raw()), busy) << "nor is it a device";
    EXPECT_EQ(frames(toolstack.argument_page.raw(), 1), 0);
    EXPECT_EQ(map(toolstack.argument_page.raw()), busy) << "even if somebody says so";
    EXPECT_EQ(frames(0xfebf0, 1, false), 0);
    EXPECT_EQ(map(0xfebf0), 0) << "what is mapped stays";
    EXPECT_EQ(*guest.hypercall(Hypercall::update_va_mapping,
                               Guest::argument_address + 5 * page_size, 0, 0),
              0);
    EXPECT_EQ(map(0xfebf0), perm);
    EXPECT_EQ(frames(0xfebf0, 0), inval);
    EXPECT_EQ(frames(0xfffffffffffffff0, 0x20), inval);
    EXPECT_EQ(frames(0, ~uint64_t{0}), perm);
    EXPECT_EQ(frames(0xfee00, 1), perm);
    EXPECT_EQ(frames(0xfed00, 0x200), perm);
    EXPECT_EQ(frames(uint64_t{1} << 36, 1), perm);
    EXPECT_EQ(frames(~uint64_t{0}, 1), perm);
}

TEST_F(Lending, Interrupts) {
    auto const bind = [](Guest& who, uint32_t pirq) {
        who.argument<abi::BindPirq>() = {pirq, 0, 0};
        return *who.hypercall(Hypercall::event_channel_op,
                              static_cast<uint64_t>(abi::EventOperation::bind_pirq),
                              Guest::argument_address);
    };
    EXPECT_EQ(interrupt(5), perm) << "Domain 0 has not mapped it";
    EXPECT_EQ(interrupt(lines), inval) << "a message's";
    EXPECT_EQ(interrupt(1000), inval);
    EXPECT_EQ(interrupt(~0u), inval);
    (void)bind(toolstack, 9); // maps it, whatever becomes of it
    EXPECT_EQ(bind(guest, 9), perm);
    EXPECT_EQ(interrupt(9), 0);
    EXPECT_NE(bind(guest, 9), perm);
    EXPECT_EQ(interrupt(9, false), 0);
    EXPECT_EQ(bind(guest, 9), perm);
    EXPECT_EQ(bind(guest, 10), perm);
    EXPECT_EQ(bind(guest, ~0u), perm);
}

TEST_F(Lending, WhatPvGuestsDoNotHave) {
    auto const refused = [&](DomctlOperation what) {
        abi::DomctlExtendedContext nothing{};
        return toolstack.control(what, id, nothing);
    };
    for (auto const what :
         {DomctlOperation::gethvmcontext, DomctlOperation::sethvmcontext,
          DomctlOperation::bind_pt_irq, DomctlOperation::memory_mapping,
          DomctlOperation::soft_reset, DomctlOperation::debug_op, DomctlOperation::vmtrace_op})
        EXPECT_EQ(refused(what), inval);
    for (auto const what :
         {DomctlOperation::assign_device, DomctlOperation::ioport_mapping,
          DomctlOperation::monitor_op, DomctlOperation::setvnumainfo,
          DomctlOperation::get_paging_mempool_size, DomctlOperation::set_paging_mempool_size})
        EXPECT_EQ(refused(what), opnotsupp);
    for (auto const what : {DomctlOperation::psr_alloc, DomctlOperation::psr_cmt_op})
        EXPECT_EQ(refused(what), nodev);
    auto const trigger = [&](uint32_t what, uint32_t vcpu) {
        abi::DomctlSendTrigger request{what, vcpu};
        return toolstack.control(DomctlOperation::sendtrigger, id, request);
    };
    EXPECT_EQ(trigger(abi::trigger_power, 0), inval);
    EXPECT_EQ(trigger(abi::trigger_sleep, 0), inval);
    EXPECT_EQ(trigger(1, 0), nosys);
    EXPECT_EQ(trigger(~0u, 0), nosys);
    EXPECT_EQ(trigger(abi::trigger_nmi, 1), srch);
    abi::DomctlSetTarget target{id};
    EXPECT_EQ(toolstack.control(DomctlOperation::set_target, id, target), inval);
    target = {1023};
    EXPECT_EQ(toolstack.control(DomctlOperation::set_target, id, target), srch);
    target = {toolstack.domain.id};
    EXPECT_EQ(toolstack.control(DomctlOperation::set_target, id, target), opnotsupp);
}

} // namespace
} // namespace hearth::test
