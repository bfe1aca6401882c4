// A privileged domain that makes, changes and ends others, through the hypercalls.
#pragma once

#include "fake_machine.h"

#include "abi/domctl.h"
#include "abi/operations.h"
#include "abi/sysctl.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace hearth::test {

inline constexpr int64_t perm = -1, srch = -3, nomem = -12, denied = -13, fault = -14, exist = -17,
                         inval = -22, nodev = -19, busy = -16, noent = -2, opnotsupp = -95,
                         addrnotavail = -99, nosys = -38;

class Toolstack : public Guest {
public:
    Toolstack() : Guest{1, ~0u, true, 65536} {}

    template <class T>
    int64_t control(abi::DomctlOperation what, DomainId id, T& body) {
        abi::Domctl op{static_cast<uint32_t>(what), abi::domctl_interface_version, id, {}, {}};
        memcpy(op.body, &body, sizeof body);
        argument<abi::Domctl>() = op;
        auto const result = hypercall(abi::Hypercall::domctl, argument_address);
        memcpy(&body, argument<abi::Domctl>().body, sizeof body);
        number = argument<abi::Domctl>().domain;
        return result.value_or(-1000);
    }
    int64_t control(abi::DomctlOperation what, DomainId id) {
        uint8_t nothing = 0;
        return control(what, id, nothing);
    }
    static abi::DomctlCreate ordinary(uint32_t vcpus = 1) {
        abi::DomctlCreate create{};
        create.max_vcpus = vcpus;
        create.max_event_port = ~0u;
        create.max_grant_frames = create.max_maptrack_frames = -1;
        create.grant_options = 2;
        return create;
    }
    DomainId make(uint32_t vcpus = 1) {
        auto create = ordinary(vcpus);
        EXPECT_EQ(control(abi::DomctlOperation::createdomain, 0, create), 0);
        DomainId const id = number;
        abi::DomctlMaxVcpus maximum{vcpus};
        EXPECT_EQ(control(abi::DomctlOperation::max_vcpus, id, maximum), 0);
        abi::DomctlMaxMemory memory{1024 * 4};
        EXPECT_EQ(control(abi::DomctlOperation::max_mem, id, memory), 0);
        return id;
    }
    abi::DomctlInfo info(DomainId id) {
        abi::DomctlInfo info{};
        EXPECT_EQ(control(abi::DomctlOperation::getdomaininfo, id, info), 0);
        EXPECT_EQ(number, id);
        return info;
    }
    int64_t end(DomainId id) {
        int64_t const result = control(abi::DomctlOperation::destroydomain, id);
        settle();
        return result;
    }
    static void settle() {
        for (unsigned round = 0; round < 4; ++round) // the reaper's turn
            run_all_cpus();
    }
    /// Frames for the domain, numbered from 0; what was given.
    std::vector<uint64_t> populate(DomainId id, uint64_t count) {
        constexpr uint64_t list = 0x100;
        for (uint64_t i = 0; i < count; ++i)
            argument<uint64_t>(list + i * 8) = i;
        argument<abi::MemoryReservation>() = {argument_address + list, count, 0, 0, id, {}};
        EXPECT_EQ(hypercall(abi::Hypercall::memory_op,
                            static_cast<uint64_t>(abi::MemoryOperation::populate_physmap),
                            argument_address),
                  static_cast<int64_t>(count));
        std::vector<uint64_t> frames;
        for (uint64_t i = 0; i < count; ++i)
            frames.push_back(argument<uint64_t>(list + i * 8));
        return frames;
    }

    template <class T>
    int64_t system(abi::SysctlOperation what, T& body) {
        abi::Sysctl op{static_cast<uint32_t>(what), abi::sysctl_interface_version, {}};
        memcpy(op.body, &body, sizeof body);
        argument<abi::Sysctl>() = op;
        auto const result = hypercall(abi::Hypercall::sysctl, argument_address);
        memcpy(&body, argument<abi::Sysctl>().body, sizeof body);
        return result.value_or(-1000);
    }

    DomainId number = 0; // of the last answer
};

} // namespace hearth::test
