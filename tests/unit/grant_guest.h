// A guest that grants its frames to others and maps theirs.
#pragma once

#include "frame_accounting.h"

#include "abi/grant_table.h"
#include "grant/grant.h"

#include <gtest/gtest.h>

#include <vector>

namespace hearth::test {

using abi::GrantOperation;
using abi::GrantStatus;

class GrantGuest : public Guest {
public:
    explicit GrantGuest(unsigned vcpus = 1, unsigned version = 1) : Guest{vcpus} {
        for (unsigned i = 1; i < vcpus; ++i)
            bring_up(i);
        if (version == 2)
            EXPECT_EQ(set_version(2), 0);
        setup(1);
    }
    ~GrantGuest() { end(); }
    /// As its destruction does; what others have mapped of it stays.
    void end() {
        if (!std::exchange(ended_, true))
            run_once([&] {
                grants_close(domain);
                grants_release(domain);
            });
    }

    static uint64_t address(unsigned n) { return argument_address + n * page_size; }
    Pte& entry_at(unsigned n) { return direct<Pte>(l1)[table_index(address(n), 1)]; }
    uint64_t machine_address_of_entry(unsigned n) {
        return address_of(l1).raw() + table_index(address(n), 1) * 8;
    }

    template <class T>
    int64_t operation(GrantOperation command, T& value, unsigned n = 0) {
        uint64_t const offset = n * 0x400; // each vCPU has a part of the page
        argument<T>(offset) = value;
        int64_t const result =
            hypercall(abi::Hypercall::grant_table_op, static_cast<uint64_t>(command),
                      argument_address + offset, 1, 0, 0, 0, n)
                .value_or(-1000);
        value = argument<T>(offset);
        return result;
    }
    template <class T>
    GrantStatus status_of(GrantOperation command, T& value, unsigned n = 0) {
        value.status = static_cast<GrantStatus>(99);
        EXPECT_EQ(operation(command, value, n), 0);
        return value.status;
    }
    int64_t set_version(uint32_t version) {
        abi::GrantSetVersion request{version};
        int64_t const result = operation(GrantOperation::set_version, request);
        version_ = request.version;
        return result;
    }
    [[nodiscard]] unsigned version() const { return version_; }
    GrantStatus setup(uint32_t frames) {
        abi::GrantSetupTable request{domid_self, 0, frames, {}, {}, argument_address + 0x800};
        GrantStatus const status = status_of(GrantOperation::setup_table, request);
        if (status == GrantStatus::okay) {
            table_.clear();
            for (uint32_t i = 0; i < frames && i < 256; ++i)
                table_.emplace_back(argument<uint64_t>(0x800 + i * 8));
        }
        return status;
    }
    Mfn table_frame(unsigned n) { return table_.at(n); }
    Mfn status_frame(unsigned n) {
        abi::GrantGetStatusFrames request{n + 1, domid_self, {}, argument_address + 0x800};
        EXPECT_EQ(status_of(GrantOperation::get_status_frames, request), GrantStatus::okay);
        return Mfn{argument<uint64_t>(0x800 + n * 8)};
    }

    abi::GrantEntryV1& v1(uint32_t reference) {
        return direct<abi::GrantEntryV1>(table_.at(reference / 512))[reference % 512];
    }
    abi::GrantEntryV2& v2(uint32_t reference) {
        return direct<abi::GrantEntryV2>(table_.at(reference / 256))[reference % 256];
    }
    /// The flags that say what is going on, wherever they are.
    uint16_t use_of(uint32_t reference) {
        // The first status frame stays the same.
        if (version_ == 2 && status_ == invalid_mfn)
            status_ = status_frame(0);
        uint16_t const word =
            version_ == 2 ? direct<uint16_t>(status_)[reference] : v1(reference).flags;
        return word & (abi::grant::reading | abi::grant::writing);
    }
    void grant(uint32_t reference, GrantGuest& to, Mfn frame, uint16_t flags = 0) {
        flags |= abi::grant::permit_access;
        if (version_ == 2)
            v2(reference) = {flags, to.domain.id, 0, 0, frame.raw()};
        else
            v1(reference) = {flags, to.domain.id, static_cast<uint32_t>(frame.raw())};
    }

    abi::GrantMap map(GrantGuest& from, uint32_t reference, uint64_t where, uint32_t flags,
                      unsigned n = 0) {
        abi::GrantMap request{where, flags, reference, from.domain.id, {}, 0xdead, 0xbeef};
        (void)status_of(GrantOperation::map_grant_ref, request, n);
        return request;
    }
    GrantStatus unmap(uint32_t handle, uint64_t where, uint64_t device = 0, unsigned n = 0) {
        abi::GrantUnmap request{where, device, handle, {}, 0};
        return status_of(GrantOperation::unmap_grant_ref, request, n);
    }
    GrantStatus copy(abi::GrantCopySide source, abi::GrantCopySide destination, uint16_t length,
                     uint16_t flags) {
        abi::GrantCopy request{source, destination, length, flags, {}, 0};
        return status_of(GrantOperation::copy, request);
    }
    int64_t map_own(unsigned n, Pte value) {
        return hypercall(abi::Hypercall::update_va_mapping, address(n), value.v, 0).value_or(-1000);
    }

    /// As any hypervisor code that may reschedule: on a CPU's flow.
    void run_once(std::function<void()> step) { EXPECT_TRUE(run(std::move(step))); }

private:
    unsigned version_ = 1;
    bool ended_ = false;
    Mfn status_ = invalid_mfn;
    std::vector<Mfn> table_;
};

} // namespace hearth::test
