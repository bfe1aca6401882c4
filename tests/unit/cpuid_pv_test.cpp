// What a PV Domain 0 sees, against what Xen 4.17 shows it on the same machines.
#include "cpuid/pv_msr.h"
#include "memory/page.h"
#include "pv/cpuid_view.h"

#include <gtest/gtest.h>

#include <random>
#include <span>

namespace hearth {
namespace {

/// One leaf of an emulated machine: what its CPUID says, and what Xen 4.17 tells its Domain 0.
struct Row {
    uint32_t leaf;
    uint32_t subleaf;
    CpuidResult host;
    CpuidResult xen;
};

// Recorded with QEMU 7.2, two CPUs, -cpu max,smap=off; EPYC,smap=off,monitor=off,rdtscp=off;
// Skylake-Server, smap=off. Leaves that are zero on both sides are left out.
constexpr Row tcg_max[] = {
    {0x0, 0, {0xd, 0x68747541, 0x444d4163, 0x69746e65}, {0xd, 0x68747541, 0x444d4163, 0x69746e65}},
    {0x1,
     0,
     {0x60fb1, 0x20800, 0xfed8320b, 0x1fcbfbfd},
     {0x60fb1, 0x20800, 0xfed83203, 0x1fc9c3f5}},
    {0x5, 0, {0x0, 0x0, 0x3, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x6, 0, {0x4, 0x0, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x7, 0, {0x0, 0x1c843a9, 0x8001020c, 0x0}, {0x0, 0x1880329, 0x200, 0x0}},
    {0xb, 0, {0x0, 0x1, 0x100, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xb, 1, {0x1, 0x2, 0x201, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xb, 2, {0x0, 0x0, 0x2, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 0, {0x21f, 0x340, 0xa88, 0x0}, {0x7, 0x340, 0x340, 0x0}},
    {0xd, 1, {0x5, 0x3c8, 0x0, 0x0}, {0x5, 0x0, 0x0, 0x0}},
    {0xd, 2, {0x100, 0x240, 0x0, 0x0}, {0x100, 0x240, 0x0, 0x0}},
    {0xd, 3, {0x40, 0x3c0, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 4, {0x40, 0x400, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 9, {0x8, 0xa80, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x80000000,
     0,
     {0x8000000a, 0x68747541, 0x444d4163, 0x69746e65},
     {0x80000021, 0x68747541, 0x444d4163, 0x69746e65}},
    {0x80000001, 0, {0x60fb1, 0x0, 0x77, 0xedd3fbfd}, {0x60fb1, 0x0, 0x63, 0xe9d1cbf5}},
    {0x80000002,
     0,
     {0x554d4551, 0x47435420, 0x55504320, 0x72657620},
     {0x554d4551, 0x47435420, 0x55504320, 0x72657620}},
    {0x80000003, 0, {0x6e6f6973, 0x352e3220, 0x2b, 0x0}, {0x6e6f6973, 0x352e3220, 0x2b, 0x0}},
    {0x80000005,
     0,
     {0x1ff01ff, 0x1ff01ff, 0x40020140, 0x40020140},
     {0x1ff01ff, 0x1ff01ff, 0x40020140, 0x40020140}},
    {0x80000006, 0, {0x0, 0x42004200, 0x2008140, 0x808140}, {0x0, 0x42004200, 0x2008140, 0x808140}},
    {0x80000008, 0, {0x3928, 0x0, 0x1001, 0x0}, {0x3028, 0x0, 0x1001, 0x0}},
    {0x8000000a, 0, {0x1, 0x10, 0x0, 0x10010001}, {0x0, 0x0, 0x0, 0x0}},
    {0x80000021, 0, {0x0, 0x0, 0x0, 0x0}, {0x4, 0x0, 0x0, 0x0}},
};

constexpr Row tcg_epyc[] = {
    {0x0, 0, {0xd, 0x68747541, 0x444d4163, 0x69746e65}, {0xd, 0x68747541, 0x444d4163, 0x69746e65}},
    {0x1,
     0,
     {0x800f12, 0x20800, 0xfed83203, 0x178bfbfd},
     {0x800f12, 0x20800, 0xfed83203, 0x1789c3f5}},
    {0x5, 0, {0x0, 0x0, 0x3, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x6, 0, {0x4, 0x0, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x7, 0, {0x0, 0x8801a9, 0x0, 0x0}, {0x0, 0x880129, 0x0, 0x0}},
    {0xb, 0, {0x0, 0x1, 0x100, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xb, 1, {0x1, 0x2, 0x201, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xb, 2, {0x0, 0x0, 0x2, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 0, {0x7, 0x340, 0x340, 0x0}, {0x7, 0x340, 0x340, 0x0}},
    {0xd, 1, {0x5, 0x340, 0x0, 0x0}, {0x5, 0x0, 0x0, 0x0}},
    {0xd, 2, {0x100, 0x240, 0x0, 0x0}, {0x100, 0x240, 0x0, 0x0}},
    {0x80000000,
     0,
     {0x8000001e, 0x68747541, 0x444d4163, 0x69746e65},
     {0x8000001e, 0x68747541, 0x444d4163, 0x69746e65}},
    {0x80000001, 0, {0x800f12, 0x0, 0x77, 0x25d3fbfd}, {0x800f12, 0x0, 0x63, 0x21d1cbf5}},
    {0x80000002,
     0,
     {0x20444d41, 0x43595045, 0x6f725020, 0x73736563},
     {0x20444d41, 0x43595045, 0x6f725020, 0x73736563}},
    {0x80000003, 0, {0x726f, 0x0, 0x0, 0x0}, {0x726f, 0x0, 0x0, 0x0}},
    {0x80000005,
     0,
     {0x1ff01ff, 0x1ff01ff, 0x20080140, 0x40040140},
     {0x1ff01ff, 0x1ff01ff, 0x20080140, 0x40040140}},
    {0x80000006, 0, {0x0, 0x42004200, 0x2006140, 0x408140}, {0x0, 0x42004200, 0x2006140, 0x408140}},
    {0x80000008, 0, {0x3028, 0x0, 0x1001, 0x0}, {0x3028, 0x0, 0x1001, 0x0}},
    {0x8000000a, 0, {0x1, 0x10, 0x0, 0x1}, {0x0, 0x0, 0x0, 0x0}},
    {0x8000001d, 0, {0x121, 0x1c0003f, 0x3f, 0x1}, {0x0, 0x0, 0x0, 0x0}},
    {0x8000001d, 1, {0x122, 0xc0003f, 0xff, 0x1}, {0x0, 0x0, 0x0, 0x0}},
    {0x8000001d, 2, {0x43, 0x1c0003f, 0x3ff, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x8000001d, 3, {0x4163, 0x3c0003f, 0x1fff, 0x6}, {0x0, 0x0, 0x0, 0x0}},
};

constexpr Row tcg_skylake[] = {
    {0x0, 0, {0xd, 0x756e6547, 0x6c65746e, 0x49656e69}, {0xd, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1,
     0,
     {0x50654, 0x20800, 0xfed83203, 0x178bfbfd},
     {0x50654, 0x20800, 0xced82203, 0x1789cbf5}},
    {0x2, 0, {0x1, 0x0, 0x4d, 0x2c307d}, {0x1, 0x0, 0x4d, 0x2c307d}},
    {0x4, 0, {0x4000121, 0x1c0003f, 0x3f, 0x1}, {0x4000121, 0x1c0003f, 0x3f, 0x1}},
    {0x4, 1, {0x4000122, 0x1c0003f, 0x3f, 0x1}, {0x4000122, 0x1c0003f, 0x3f, 0x1}},
    {0x4, 2, {0x4000143, 0x3c0003f, 0xfff, 0x1}, {0x4000143, 0x3c0003f, 0xfff, 0x1}},
    {0x4, 3, {0x4004163, 0x3c0003f, 0x3fff, 0x6}, {0x4004163, 0x3c0003f, 0x3fff, 0x6}},
    {0x5, 0, {0x0, 0x0, 0x3, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x6, 0, {0x4, 0x0, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x7, 0, {0x0, 0x18803a9, 0x8, 0x0}, {0x0, 0x880309, 0x0, 0x20000000}},
    {0xb, 0, {0x0, 0x1, 0x100, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xb, 1, {0x1, 0x2, 0x201, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xb, 2, {0x0, 0x0, 0x2, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 0, {0x2e7, 0x240, 0xa88, 0x0}, {0x3, 0x240, 0x240, 0x0}},
    {0xd, 1, {0x5, 0x988, 0x0, 0x0}, {0x5, 0x0, 0x0, 0x0}},
    {0xd, 2, {0x100, 0x240, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 5, {0x40, 0x440, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 6, {0x200, 0x480, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 7, {0x400, 0x680, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0xd, 9, {0x8, 0xa80, 0x0, 0x0}, {0x0, 0x0, 0x0, 0x0}},
    {0x80000000, 0, {0x80000008, 0x756e6547, 0x6c65746e, 0x49656e69}, {0x80000008, 0x0, 0x0, 0x0}},
    {0x80000001, 0, {0x50654, 0x0, 0x21, 0x2c100800}, {0x0, 0x0, 0x21, 0x28100800}},
    {0x80000002,
     0,
     {0x65746e49, 0x6558206c, 0x50206e6f, 0x65636f72},
     {0x65746e49, 0x6558206c, 0x50206e6f, 0x65636f72}},
    {0x80000003,
     0,
     {0x726f7373, 0x6b532820, 0x6b616c79, 0x2965},
     {0x726f7373, 0x6b532820, 0x6b616c79, 0x2965}},
    {0x80000005, 0, {0x1ff01ff, 0x1ff01ff, 0x40020140, 0x40020140}, {0x0, 0x0, 0x0, 0x0}},
    {0x80000006, 0, {0x0, 0x42004200, 0x2008140, 0x808140}, {0x0, 0x0, 0x2008140, 0x0}},
    {0x80000008, 0, {0x3028, 0x0, 0x1001, 0x0}, {0x3028, 0x0, 0x0, 0x0}},
};

class TestHost : public HostCpuid {
public:
    uint32_t address_width() const override { return 31; }
    HostTsc tsc() const override { return {0x279d1c, 7, -8}; }
};

/// Answers as the processor does: beyond the end of a range, the last basic leaf.
class RecordedHost final : public TestHost {
    std::span<Row const> rows_;

public:
    explicit RecordedHost(std::span<Row const> rows) : rows_{rows} {}
    CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const override {
        for (Row const& row : rows_)
            if (row.leaf == leaf && row.subleaf == subleaf)
                return row.host;
        return {};
    }
};

/// Any answer at all, also contradictory ones.
class RandomHost final : public TestHost {
    uint64_t seed_;
    uint32_t last_basic_;
    uint32_t last_extended_;

public:
    explicit RandomHost(uint64_t seed)
        : seed_{seed}, last_basic_{static_cast<uint32_t>(seed % 0x20)},
          last_extended_{0x80000000 + static_cast<uint32_t>(seed / 32 % 0x30)} {}
    CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const override {
        std::mt19937_64 random{seed_ ^ (uint64_t{leaf} << 16) ^ subleaf};
        auto const word = [&] { return static_cast<uint32_t>(random() | random()); };
        CpuidResult result{word(), word(), word(), word()};
        if (leaf == 0)
            result.eax = last_basic_;
        if (leaf == 0 && seed_ % 2 == 0)
            result.ebx = 0x68747541;
        if (leaf == 0x80000000)
            result.eax = last_extended_;
        if (leaf == 7 && subleaf == 0)
            result.eax %= 4;
        return result;
    }
};

PvPolicyInputs domain_0() {
    PvPolicyInputs inputs;
    inputs.is_hardware_domain = true;
    inputs.features = {.invariant_tsc = true, .xstate_supported = 0xe7};
    inputs.xcr0 = 7;
    return inputs;
}

struct Machine {
    char const* name;
    std::span<Row const> rows;
};
constexpr Machine machines[] = {
    {"max", tcg_max}, {"EPYC", tcg_epyc}, {"Skylake-Server", tcg_skylake}};

/// Where this policy differs from Xen 4.17, and why.
CpuidResult expected(Machine const& machine, Row const& row) {
    CpuidResult result = row.xen;
    bool const skylake = machine.rows.data() == tcg_skylake;
    // Xen claims LFENCE_DISPATCH on machines without the leaf, and ARCH_CAPS on those without the
    // MSR.
    if (row.leaf == 0x80000000 && row.host.eax < 0x80000021)
        result.eax = row.host.eax;
    if (row.leaf == 0x80000021)
        result = {};
    if (row.leaf == 7 && skylake) {
        result.edx &= ~(1u << 29);
        // It hides CLWB on Skylake, and as a defence against Gather Data Sampling all of AVX.
        result.ebx |= 1u << 24 | 1u << 5;
    }
    if (row.leaf == 1 && skylake)
        result.ecx |= 1u << 12 | 1u << 28 | 1u << 29;
    if (row.leaf == 0xd && skylake && row.subleaf == 0)
        result = {7, 0x340, 0x340, 0};
    if (row.leaf == 0xd && skylake && row.subleaf == 2)
        result = row.host;
    return result;
}

TEST(PvCpuid, AsXenShowsItToDomain0) {
    for (Machine const& machine : machines) {
        RecordedHost const host{machine.rows};
        for (Row const& row : machine.rows) {
            CpuidResult const got = pv_cpuid(row.leaf, row.subleaf, host, domain_0());
            CpuidResult const want = expected(machine, row);
            EXPECT_EQ(got.eax, want.eax)
                << machine.name << std::hex << " " << row.leaf << "." << row.subleaf;
            EXPECT_EQ(got.ebx, want.ebx)
                << machine.name << std::hex << " " << row.leaf << "." << row.subleaf;
            EXPECT_EQ(got.ecx, want.ecx)
                << machine.name << std::hex << " " << row.leaf << "." << row.subleaf;
            EXPECT_EQ(got.edx, want.edx)
                << machine.name << std::hex << " " << row.leaf << "." << row.subleaf;
        }
    }
}

TEST(PvCpuid, XenLeaves) {
    RecordedHost const host{tcg_max};
    PvPolicyInputs inputs = domain_0();
    auto const leaf = [&](uint32_t n, uint32_t subleaf = 0) {
        return pv_cpuid(xen_cpuid_base + n, subleaf, host, inputs);
    };
    EXPECT_EQ(leaf(0), (CpuidResult{0x40000005, 0x566e6558, 0x65584d4d, 0x4d4d566e}));
    EXPECT_EQ(leaf(1), (CpuidResult{0x00040011, 0, 0, 0}));
    EXPECT_EQ(leaf(2), (CpuidResult{1, 0x40000000, 1, 0}));
    EXPECT_EQ(leaf(3), (CpuidResult{6, 0, 0x279d1c, 0}));
    EXPECT_EQ(leaf(3, 1), (CpuidResult{0, 0, 7, 0xfffffff8}));
    EXPECT_EQ(leaf(3, 2), (CpuidResult{0x279d1c, 0, 0, 0}));
    EXPECT_EQ(leaf(3, 3), CpuidResult{});
    EXPECT_EQ(leaf(4), CpuidResult{});
    EXPECT_EQ(leaf(5), (CpuidResult{0, 31, 0, 0}));
    EXPECT_EQ(leaf(5, 1), CpuidResult{});
    EXPECT_EQ(leaf(6), CpuidResult{});
    EXPECT_EQ(leaf(0x100), CpuidResult{});

    RecordedHost const without_rdtscp{tcg_epyc};
    EXPECT_EQ(pv_cpuid(0x40000003, 0, without_rdtscp, inputs).eax, 2u);
}

TEST(PvCpuid, RunTimeState) {
    RecordedHost const host{tcg_max};
    PvPolicyInputs inputs = domain_0();
    inputs.xcr0 = 3;
    EXPECT_EQ(pv_cpuid(1, 0, host, inputs).ebx, 0x00020800u);
    EXPECT_EQ(pv_cpuid(0xd, 0, host, inputs), (CpuidResult{7, 576, 0x340, 0}));

    // Without switching of AVX state nothing of AVX is left; without XSAVE no extended state at
    // all.
    inputs.features.xstate_supported = 3;
    EXPECT_EQ(pv_cpuid(1, 0, host, inputs).ecx & (1u << 28 | 1u << 29 | 1u << 12), 0u);
    EXPECT_EQ(pv_cpuid(7, 0, host, inputs).ebx & 1u << 5, 0u);
    EXPECT_EQ(pv_cpuid(7, 0, host, inputs).ecx & 1u << 9, 0u);
    EXPECT_EQ(pv_cpuid(0xd, 0, host, inputs).eax, 3u);
    inputs.features.xstate_supported = 0;
    EXPECT_EQ(pv_cpuid(1, 0, host, inputs).ecx & 3u << 26, 0u);
    EXPECT_EQ(pv_cpuid(0xd, 0, host, inputs), CpuidResult{});
    EXPECT_EQ(pv_cpuid(0xd, 1, host, inputs), CpuidResult{});
}

/// A machine with everything, in the layout of Intel's server parts.
class CapableHost final : public TestHost {
public:
    CpuidResult leaf(uint32_t leaf, uint32_t subleaf) const override {
        constexpr uint32_t all = ~0u;
        switch (leaf) {
        case 0:
            return {0x20, 0x756e6547, 0, 0};
        case 0xd:
            if (subleaf == 0)
                return {0x602e7, 0x2b00, 0x2b00, 0};
            if (subleaf == 1)
                return {all, 0x2b00, all, all};
            if (subleaf == 2)
                return {260, 576, 0, 0};
            if (subleaf >= 5 && subleaf <= 7)
                return {subleaf == 5   ? 64u
                        : subleaf == 6 ? 512u
                                       : 1024u,
                        subleaf == 5   ? 1088u
                        : subleaf == 6 ? 1152u
                                       : 1664u,
                        2, 0};
            return {8, 2688, 0, 0};
        case 7:
            return subleaf == 0 ? CpuidResult{5, all, all, all} : CpuidResult{all, all, all, all};
        case 0x80000000:
            return {0x80000028, 0, 0, 0};
        default:
            return {all, all, all, all};
        }
    }
};

TEST(PvCpuid, ExtendedStateSizes) {
    CapableHost const host;
    PvPolicyInputs inputs = domain_0();
    inputs.xcr0 = 0xe7;
    EXPECT_EQ(pv_cpuid(0xd, 0, host, inputs), (CpuidResult{0xe7, 2688, 2688, 0}));
    EXPECT_EQ(pv_cpuid(0xd, 1, host, inputs), (CpuidResult{7, 896 + 64 + 512 + 1024, 0, 0}));
    inputs.xcr0 = 3;
    EXPECT_EQ(pv_cpuid(0xd, 0, host, inputs), (CpuidResult{0xe7, 576, 2688, 0}));
    EXPECT_EQ(pv_cpuid(1, 0, host, inputs).ebx, 0x00ffffffu);
    EXPECT_EQ(pv_cpuid(0xd, 9, host, inputs), CpuidResult{});  // PKRU
    EXPECT_EQ(pv_cpuid(0xd, 18, host, inputs), CpuidResult{}); // AMX
    EXPECT_EQ(pv_cpuid(0xd, 64, host, inputs), CpuidResult{});
    EXPECT_EQ(pv_cpuid(0xd, ~0u, host, inputs), CpuidResult{});

    FeatureInputs const& features = inputs.features;
    for (uint64_t const good : {0x1u, 0x3u, 0x7u, 0xe7u})
        EXPECT_TRUE(pv_xcr0_valid(good, host, features)) << good;
    for (uint64_t const bad : {0x0u, 0x2u, 0x5u, 0xe3u, 0x27u, 0xfu, 0x207u, 0x602e7u})
        EXPECT_FALSE(pv_xcr0_valid(bad, host, features)) << bad;
    EXPECT_FALSE(pv_xcr0_valid(uint64_t{1} << 63 | 1, host, features));
}

TEST(PvCpuid, WhatARing3KernelMustNotSee) {
    CapableHost const host;
    PvPolicyInputs const inputs = domain_0();
    CpuidResult const one = pv_cpuid(1, 0, host, inputs);
    EXPECT_EQ(one.ecx & (1u << 3 | 1u << 5 | 1u << 17 | 1u << 21 | 1u << 24),
              0u); // MONITOR VMX PCID X2APIC
    EXPECT_EQ(one.edx & (1u << 1 | 1u << 3 | 1u << 12 | 1u << 13 | 1u << 17),
              0u); // VME PSE MTRR PGE PSE36
    CpuidResult const seven = pv_cpuid(7, 0, host, inputs);
    EXPECT_EQ(seven.ebx & (1u << 7 | 1u << 10 | 1u << 20 | 1u << 14), 0u); // SMEP INVPCID SMAP MPX
    EXPECT_EQ(seven.ecx & (1u << 2 | 1u << 3 | 1u << 4 | 1u << 7 | 1u << 16),
              0u);                                    // UMIP PKU CET LA57
    EXPECT_EQ(seven.edx & (1u << 20 | 7u << 22), 0u); // IBT AMX
    CpuidResult const extended = pv_cpuid(0x80000001, 0, host, inputs);
    EXPECT_EQ(extended.ecx & 1u << 2, 0u);                       // SVM
    EXPECT_EQ(extended.edx & 1u << 26, 0u);                      // 1 GiB pages
    EXPECT_EQ(pv_cpuid(0xd, 1, host, inputs).eax & 1u << 3, 0u); // XSAVES
    PvPolicyInputs migratable = inputs;
    migratable.features.invariant_tsc = false;
    EXPECT_EQ(pv_cpuid(0x80000007, 0, host, migratable), CpuidResult{});
    EXPECT_EQ(pv_cpuid(0x80000007, 0, host, inputs), (CpuidResult{0, 0, 0, 1u << 8}));
    // And what it wants.
    EXPECT_EQ(one.ecx & (1u << 13 | 1u << 26 | 1u << 27 | 1u << 28),
              1u << 13 | 1u << 26 | 1u << 27 | 1u << 28);
    EXPECT_EQ(seven.ebx & 1u, 1u); // FSGSBASE
    PvPolicyInputs without = inputs;
    without.features.fsgsbase = false;
    EXPECT_EQ(pv_cpuid(7, 0, host, without).ebx, seven.ebx & ~1u);
    EXPECT_EQ(extended.edx & (1u << 11 | 1u << 20 | 1u << 27 | 1u << 29),
              1u << 11 | 1u << 20 | 1u << 27 | 1u << 29); // SYSCALL NX RDTSCP LM
}

TEST(PvCpuid, NeverAFeatureThatTheMachineLacks) {
    for (uint64_t seed = 0; seed < 2000; ++seed) {
        RandomHost const host{seed};
        FeatureInputs const inputs{seed % 3 == 0, seed % 7 == 0 ? 0xe7u : 7u};
        for (unsigned n = 0; n < feature_words; ++n) {
            auto const word = static_cast<FeatureWord>(n);
            EXPECT_EQ(pv_features(host, inputs, word) & ~host_features(host, word), 0u);
        }
    }
    // A processor may answer beyond its ends with anything; that is no feature.
    // Nor are subleaves of leaf 7 beyond those that it announces.
    for (uint64_t seed = 8; seed < 2000; ++seed) {
        RandomHost const host{seed};
        if (host.leaf(7, 0).eax < 2)
            EXPECT_EQ(host_features(host, FeatureWord::leaf_7_2_edx), 0u);
        if (host.leaf(0, 0).eax < 7)
            EXPECT_EQ(host_features(host, FeatureWord::leaf_7_ebx), 0u);
    }
    RandomHost const small{0};
    EXPECT_EQ(pv_features(small, {}, FeatureWord::leaf_1_ecx), 0u);
    EXPECT_EQ(pv_features(small, {}, FeatureWord::extended_21_eax), 0u);
}

TEST(PvCpuid, ZerosBeyondEveryEnd) {
    for (uint64_t seed = 0; seed < 500; ++seed) {
        RandomHost const host{seed};
        PvPolicyInputs const inputs = domain_0();
        uint32_t const basic = pv_cpuid(0, 0, host, inputs).eax;
        uint32_t const extended = pv_cpuid(0x80000000, 0, host, inputs).eax;
        EXPECT_LE(basic, host.leaf(0, 0).eax);
        EXPECT_LE(extended, host.leaf(0x80000000, 0).eax);
        for (uint32_t const subleaf : {0u, 1u, 2u, ~0u}) {
            for (uint32_t n = 1; n < 0x40; ++n) {
                EXPECT_EQ(pv_cpuid(basic + n, subleaf, host, inputs), CpuidResult{});
                EXPECT_EQ(pv_cpuid(extended + n, subleaf, host, inputs), CpuidResult{});
                EXPECT_EQ(pv_cpuid(0x40000005 + n, subleaf, host, inputs), CpuidResult{});
            }
            for (uint32_t const far : {0x7fffffffu, 0x80860000u, 0xc0000000u, ~0u})
                EXPECT_EQ(pv_cpuid(far, subleaf, host, inputs), CpuidResult{});
        }
        uint32_t const last = pv_cpuid(7, 0, host, inputs).eax;
        for (uint32_t subleaf = last + 1; basic >= 7 && subleaf < 10; ++subleaf)
            EXPECT_EQ(pv_cpuid(7, subleaf, host, inputs), CpuidResult{});
    }
}

TEST(PvMsr, ReadsAsXenAnswersDomain0) {
    RecordedHost const amd{tcg_max};
    RecordedHost const intel{tcg_skylake};
    PvPolicyInputs const inputs = domain_0();
    using Kind = MsrRead::Kind;
    struct Case {
        uint32_t index;
        Kind on_amd;
        Kind on_intel;
        uint64_t value;
    };
    constexpr Case cases[] = {
        {0x0, Kind::value, Kind::value, 0},
        {0x10, Kind::tsc, Kind::tsc, 0},
        {0x17, Kind::fault, Kind::host, 0},
        {0x1b, Kind::value, Kind::value, 0xfee00900},
        {0x3a, Kind::fault, Kind::value, 1},
        {0x8b, Kind::host, Kind::host, 0},
        {0xce, Kind::value, Kind::value, 0},
        {0xfe, Kind::fault, Kind::fault, 0},
        {0x140, Kind::value, Kind::value, 0},
        {0x174, Kind::fault, Kind::fault, 0},
        {0x179, Kind::value, Kind::value, 0},
        {0x198, Kind::fault, Kind::host, 0},
        {0x1a0, Kind::value, Kind::value, 0x801801},
        {0x1d9, Kind::fault, Kind::fault, 0},
        {0x277, Kind::value, Kind::value, 0x50100070406},
        {0x345, Kind::value, Kind::value, 0},
        {0x480, Kind::fault, Kind::fault, 0},
        {0x606, Kind::fault, Kind::fault, 0},
        {0x6e0, Kind::fault, Kind::fault, 0},
        {0x802, Kind::fault, Kind::fault, 0},
        {0xda0, Kind::fault, Kind::fault, 0},
        {0x40000000, Kind::value, Kind::value, 0},
        {0x4b564d00, Kind::fault, Kind::fault, 0},
        {0xc0000080, Kind::value, Kind::value, 0xd01},
        {0xc0000081, Kind::fault, Kind::fault, 0},
        {0xc0000082, Kind::fault, Kind::fault, 0},
        {0xc0000100, Kind::vcpu, Kind::vcpu, 0},
        {0xc0000101, Kind::vcpu, Kind::vcpu, 0},
        {0xc0000102, Kind::vcpu, Kind::vcpu, 0},
        {0xc0000103, Kind::vcpu, Kind::vcpu, 0},
        {0xc0010010, Kind::value, Kind::fault, 0},
        {0xc0010015, Kind::host, Kind::fault, 0},
        {0xc001001a, Kind::value, Kind::fault, 0},
        {0xc001001b, Kind::fault, Kind::fault, 0},
        {0xc0010020, Kind::fault, Kind::fault, 0},
        {0xc0010064, Kind::value, Kind::fault, 0},
        {0xc0010114, Kind::fault, Kind::fault, 0},
        {0xc0011029, Kind::host, Kind::fault, 0},
        {0xffffffff, Kind::fault, Kind::fault, 0},
    };
    for (Case const& c : cases) {
        MsrRead const on_amd = pv_read_msr(c.index, amd, inputs);
        MsrRead const on_intel = pv_read_msr(c.index, intel, inputs);
        EXPECT_EQ(on_amd.kind, c.on_amd) << std::hex << c.index;
        EXPECT_EQ(on_intel.kind, c.on_intel) << std::hex << c.index;
        if (c.on_amd == Kind::value)
            EXPECT_EQ(on_amd.value, c.value) << std::hex << c.index;
        if (c.on_intel == Kind::value)
            EXPECT_EQ(on_intel.value, c.value) << std::hex << c.index;
    }
    PvPolicyInputs other = inputs;
    other.is_hardware_domain = false;
    other.vcpu_id = 1;
    EXPECT_EQ(pv_read_msr(0x198, intel, other).kind, Kind::fault);
    EXPECT_EQ(pv_read_msr(0x1b, intel, other).value, 0xfee00800u);
    RecordedHost const without_rdtscp{tcg_epyc};
    EXPECT_EQ(pv_read_msr(0xc0000103, without_rdtscp, inputs).kind, Kind::fault);
}

TEST(PvMsr, Writes) {
    RecordedHost const amd{tcg_max};
    RecordedHost const intel{tcg_skylake};
    PvPolicyInputs const inputs = domain_0();
    using Kind = MsrWrite::Kind;
    auto const on_amd = [&](uint32_t index, uint64_t v) {
        return pv_write_msr(index, v, amd, inputs).kind;
    };
    auto const on_intel = [&](uint32_t index, uint64_t v) {
        return pv_write_msr(index, v, intel, inputs).kind;
    };
    EXPECT_EQ(on_amd(0xc0000080, 0xd01), Kind::ignore);
    EXPECT_EQ(on_amd(0xc0000080, 0xd00), Kind::fault);  // SCE off
    EXPECT_EQ(on_amd(0xc0000080, 0x1d01), Kind::fault); // SVME
    EXPECT_EQ(on_amd(0xc0000100, 0x7fffffffffff), Kind::vcpu);
    EXPECT_EQ(on_amd(0xc0000100, 0x800000000000), Kind::fault);
    EXPECT_EQ(on_amd(0xc0000102, 0xffff7fffffffffff), Kind::fault);
    EXPECT_EQ(on_amd(0xc0000103, 0x100000000), Kind::fault);
    EXPECT_EQ(on_intel(0x8b, 0), Kind::ignore);
    EXPECT_EQ(on_intel(0x8b, 1), Kind::fault);
    EXPECT_EQ(on_amd(0x8b, 0), Kind::fault);
    EXPECT_EQ(on_intel(0x199, 0x1234), Kind::ignore);
    EXPECT_EQ(on_amd(0x199, 0x1234), Kind::fault);
    EXPECT_EQ(on_intel(0x140, 1), Kind::fault);
    EXPECT_EQ(on_intel(0x277, 0), Kind::fault);
    EXPECT_EQ(on_amd(0xc0010063, 0), Kind::ignore);
    EXPECT_EQ(on_intel(0xc0010063, 0), Kind::fault);
    EXPECT_EQ(on_amd(0xc0011029, 0), Kind::ignore);
    // Each of these would take the machine over, or a part of it that is not the guest's.
    for (uint32_t const index :
         {0x10u,       0x1bu,       0x3au,       0x79u,       0x174u,      0x1d9u,
          0x200u,      0x277u,      0x2ffu,      0x400u,      0x6e0u,      0x830u,
          0xda0u,      0xc0000081u, 0xc0000082u, 0xc0000084u, 0xc0010010u, 0xc001001au,
          0xc0010020u, 0xc0010058u, 0xc0010111u, 0xc0010113u, 0xc0010117u}) {
        EXPECT_EQ(on_amd(index, 0), Kind::fault) << std::hex << index;
        EXPECT_EQ(on_intel(index, 0), Kind::fault) << std::hex << index;
    }
}

TEST(PvMsr, SpeculationControlFollowsTheFeatures) {
    CapableHost const host;
    PvPolicyInputs inputs = domain_0();
    using Kind = MsrWrite::Kind;
    EXPECT_EQ(pv_read_msr(0x48, host, inputs).kind, MsrRead::Kind::vcpu);
    EXPECT_EQ(pv_write_msr(0x48, 0x87, host, inputs).kind, Kind::vcpu);
    EXPECT_EQ(pv_write_msr(0x48, 0x08, host, inputs).kind, Kind::fault);
    EXPECT_EQ(pv_write_msr(0x49, 1, host, inputs).kind, Kind::vcpu);
    EXPECT_EQ(pv_write_msr(0x49, 2, host, inputs).kind, Kind::fault);
    EXPECT_EQ(pv_read_msr(0x49, host, inputs).kind, MsrRead::Kind::fault);
    EXPECT_EQ(pv_read_msr(0x10a, host, inputs).kind, MsrRead::Kind::host);
    EXPECT_EQ(pv_read_msr(0x10a, host, inputs).mask & 1u << 7, 0u); // TSX_CTRL

    uint32_t nothing[feature_words]{};
    inputs.features.allowed = nothing;
    EXPECT_EQ(pv_read_msr(0x48, host, inputs).kind, MsrRead::Kind::fault);
    EXPECT_EQ(pv_write_msr(0x48, 0, host, inputs).kind, Kind::fault);
    EXPECT_EQ(pv_write_msr(0x49, 1, host, inputs).kind, Kind::fault);
    EXPECT_EQ(pv_cpuid(7, 0, host, inputs).edx & 1u << 26, 0u);
}

TEST(PvCpuid, WhatIsTakenAwayTakesWithItWhatNeedsIt) {
    CapableHost const host;
    PvPolicyInputs inputs = domain_0();
    uint32_t allowed[feature_words];
    inputs.features.allowed = allowed;
    auto const has = [&](FeatureWord word, unsigned bit) {
        return (pv_features(host, inputs.features, word) >> bit & 1) != 0;
    };
    constexpr auto basic = FeatureWord::leaf_1_ecx, leaf_7 = FeatureWord::leaf_7_ebx;
    constexpr unsigned fma = 12, xsave = 26, avx = 28, avx2 = 5, avx512f = 16, avx512vl = 31;
    std::fill_n(allowed, feature_words, ~0u);
    ASSERT_TRUE(has(basic, fma) && has(leaf_7, avx2) && has(leaf_7, avx512vl));
    allowed[static_cast<unsigned>(basic)] = ~(1u << xsave);
    EXPECT_FALSE(has(basic, avx) || has(basic, fma) || has(leaf_7, avx2) || has(leaf_7, avx512f));
    EXPECT_FALSE(has(FeatureWord::leaf_d_1_eax, 0));
    allowed[static_cast<unsigned>(basic)] = ~(1u << avx);
    EXPECT_TRUE(has(basic, xsave));
    EXPECT_FALSE(has(basic, fma) || has(leaf_7, avx2) || has(leaf_7, avx512f));
    allowed[static_cast<unsigned>(basic)] = ~0u;
    allowed[static_cast<unsigned>(leaf_7)] = ~(1u << avx512f);
    EXPECT_TRUE(has(leaf_7, avx2));
    EXPECT_FALSE(has(leaf_7, avx512vl));
}

TEST(PvCpuid, AddressesAreAsWideAsMemoryIsHigh) {
    uint32_t const width = pv::machine_cpuid().address_width();
    EXPECT_EQ((frame_limit().raw() - 1) >> (width - page_shift), 0u);
    EXPECT_EQ((frame_limit().raw() - 1) >> (width - page_shift - 1), 1u);
}

} // namespace
} // namespace hearth
