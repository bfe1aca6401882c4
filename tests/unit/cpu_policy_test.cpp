// What a toolstack is told of processors, and what it can take from a guest's.
#include "toolstack.h"

#include "cpuid/features.h"

#include <algorithm>
#include <array>
#include <span>

namespace hearth::test {
namespace {

using Words = std::array<uint32_t, 4>;
constexpr uint32_t any = abi::cpuid_no_subleaf, pni = 1u << 0, popcnt = 1u << 23,
                   nobody_knows = 1u << 31, syscall = 1u << 11, long_mode = 1u << 29,
                   invariant_tsc = 1u << 8;
constexpr int64_t nobufs = -105;

class CpuPolicy : public testing::Test {
protected:
    Toolstack toolstack;
    static constexpr uint64_t list = 0x200, msr_list = 0xf00;
    static constexpr uint32_t most = (msr_list - list) / sizeof(abi::CpuidLeaf);

    CpuPolicy() {
        auto& words = host::cpuid_words();
        words.clear();
        words[{0, 0}] = {0xd, 0x756e6547, 0x6c65746e, 0x49656e69};
        words[{1, 0}] = {0x506e3, 0, pni | popcnt, 0x078bfbff};
        for (uint32_t cache = 0; cache < 3; ++cache)
            words[{4, cache}] = {0x121 + cache, 0, 0, 0};
        words[{7, 0}] = {2, 0, 0, 0};
        words[{0x80000000, 0}] = {0x80000008, 0, 0, 0};
        words[{0x80000001, 0}] = {0, 0, 0, syscall | long_mode};
        words[{0x80000007, 0}] = {0, 0, 0, invariant_tsc};
    }
    ~CpuPolicy() override { host::cpuid_words().clear(); }

    std::span<abi::CpuidLeaf> leaves() { return {&toolstack.argument<abi::CpuidLeaf>(list), most}; }
    abi::DomctlCpuPolicy request(uint32_t count, uint32_t msrs = 0) {
        return {
            count, msrs, Guest::argument_address + list, Guest::argument_address + msr_list, 0, 0,
            0,     0};
    }
    /// How many leaves there are, or an error; they are in leaves().
    int64_t get(DomainId id, uint32_t room = most) {
        auto body = request(room);
        int64_t const result = toolstack.control(abi::DomctlOperation::get_cpu_policy, id, body);
        return result ? result : body.leaf_count;
    }
    int64_t set(DomainId id, std::initializer_list<abi::CpuidLeaf> wanted) {
        std::ranges::copy(wanted, leaves().begin());
        auto body = request(static_cast<uint32_t>(wanted.size()));
        return toolstack.control(abi::DomctlOperation::set_cpu_policy, id, body);
    }
    Words leaf(DomainId id, uint32_t number, uint32_t subleaf = any) {
        int64_t const count = get(id);
        EXPECT_GT(count, 0);
        for (abi::CpuidLeaf const& l :
             leaves().first(static_cast<size_t>(std::max<int64_t>(count, 0))))
            if (l.leaf == number && l.subleaf == subleaf)
                return {l.a, l.b, l.c, l.d};
        ADD_FAILURE() << "no leaf " << number;
        return {};
    }
};

TEST_F(CpuPolicy, FeaturesAreTakenAwayAndNeverAdded) {
    DomainId const id = toolstack.make();
    EXPECT_EQ(leaf(id, 1)[2] & (pni | popcnt | nobody_knows), pni | popcnt | nobody_knows)
        << "the last says that there is a hypervisor";
    constexpr uint32_t pclmulqdq = 1u << 1;
    EXPECT_EQ(set(id, {{1, any, ~0u, ~0u, pni | pclmulqdq, ~0u}}), 0);
    EXPECT_EQ(leaf(id, 1)[2] & (pni | popcnt | pclmulqdq), pni) << "the machine has no pclmulqdq";
    EXPECT_EQ(leaf(id, 1)[0], 0x506e3u) << "what is no feature is the machine's to say";
    EXPECT_EQ(set(id, {{2, any, 0, 0, 0, 0}, {1, 3, 0, 0, 0, 0}, {0x80001234, any, 0, 0, 0, 0}}),
              0);
    EXPECT_EQ(leaf(id, 1)[2] & pni, pni) << "leaves without features change nothing";
    DomainId const other = toolstack.make();
    EXPECT_EQ(leaf(other, 1)[2] & popcnt, popcnt) << "each guest has its own";
    EXPECT_EQ(toolstack.end(id), 0);
    EXPECT_EQ(toolstack.end(other), 0);
}

TEST_F(CpuPolicy, TheTimeStampCounterIsInvariantIfTheToolstackSaysSo) {
    DomainId const id = toolstack.make();
    EXPECT_EQ(leaf(id, 0x80000007)[3] & invariant_tsc, 0u) << "a guest may be moved";
    EXPECT_EQ(set(id, {{0x80000007, any, 0, 0, 0, invariant_tsc}}), 0);
    EXPECT_EQ(leaf(id, 0x80000007)[3] & invariant_tsc, invariant_tsc);
    EXPECT_EQ(set(id, {{0x80000007, any, 0, 0, 0, 0}}), 0);
    EXPECT_EQ(leaf(id, 0x80000007)[3] & invariant_tsc, 0u);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST_F(CpuPolicy, ListsThatAreTooShortOrTooLong) {
    DomainId const id = toolstack.make();
    int64_t const count = get(id);
    ASSERT_GT(count, 70);
    leaves()[static_cast<size_t>(count) - 1] = {0x1234, 0, 0, 0, 0, 0};
    EXPECT_EQ(get(id, static_cast<uint32_t>(count) - 1), nobufs);
    EXPECT_EQ(leaves()[static_cast<size_t>(count) - 1].leaf, 0x1234u) << "beyond the room";
    EXPECT_EQ(get(id, 0), nobufs);
    auto body = request(257);
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::set_cpu_policy, id, body), inval);
    body = request(0, 17);
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::set_cpu_policy, id, body), inval);
    body = request(1);
    body.leaves = 0x1000;
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::set_cpu_policy, id, body), fault);
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::get_cpu_policy, id, body), fault);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST_F(CpuPolicy, RegistersOfTheModelAreTwo) {
    DomainId const id = toolstack.make();
    auto const set_msr = [&](abi::MsrEntry const& entry) {
        toolstack.argument<abi::MsrEntry>(msr_list) = entry;
        auto body = request(0, 1);
        return toolstack.control(abi::DomctlOperation::set_cpu_policy, id, body);
    };
    EXPECT_EQ(set_msr({0xce, 0, 0}), 0);
    EXPECT_EQ(set_msr({0x10a, 0, 0}), 0);
    EXPECT_EQ(set_msr({0xce, 1, 0}), inval);
    EXPECT_EQ(set_msr({0x1b, 0, 0}), inval);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST_F(CpuPolicy, Domain0KeepsTheMachines) {
    DomainId const self = toolstack.domain.id;
    EXPECT_EQ(set(self, {{1, any, 0, 0, 0, 0}}), inval);
    EXPECT_EQ(leaf(self, 1)[2] & popcnt, popcnt);
}

TEST_F(CpuPolicy, TheMachinesAndItsGuests) {
    abi::SysctlCpuPolicy room{abi::cpu_policy_host, 0, 0, 0, 0, 0};
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::get_cpu_policy, room), 0);
    EXPECT_EQ(room.leaf_count, 256u);
    EXPECT_EQ(room.msr_count, 16u);
    auto const caches = [&](uint32_t index) {
        abi::SysctlCpuPolicy body{index, most, 0, 0, Guest::argument_address + list, 1};
        EXPECT_EQ(toolstack.system(abi::SysctlOperation::get_cpu_policy, body), 0);
        EXPECT_EQ(body.msr_count, 0u);
        return std::ranges::count(leaves().first(body.leaf_count), 4u, &abi::CpuidLeaf::leaf);
    };
    EXPECT_EQ(caches(abi::cpu_policy_raw), 3);
    EXPECT_EQ(caches(abi::cpu_policy_pv_max), 3);
    for (auto const& [index, error] :
         {std::pair{3u, opnotsupp}, std::pair{5u, opnotsupp}, std::pair{6u, inval}}) {
        room = {index, 0, 0, 0, 0, 0};
        EXPECT_EQ(toolstack.system(abi::SysctlOperation::get_cpu_policy, room), error) << index;
    }
    room = {abi::cpu_policy_host, 0, 0, 1, 0, 0};
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::get_cpu_policy, room), inval)
        << "what is reserved";
}

TEST_F(CpuPolicy, WordsOfFeatures) {
    auto* const words = &toolstack.argument<uint32_t>(list);
    auto const features = [&](uint32_t index, uint32_t room) {
        abi::SysctlCpuFeatures body{index, room, Guest::argument_address + list};
        int64_t const result = toolstack.system(abi::SysctlOperation::get_cpu_featureset, body);
        return std::pair{result, body.word_count};
    };
    EXPECT_EQ(features(1, feature_words), std::pair(int64_t{0}, feature_words));
    EXPECT_EQ(words[1], pni | popcnt);
    EXPECT_EQ(features(4, feature_words), std::pair(int64_t{0}, feature_words));
    EXPECT_EQ(words[1] & (pni | popcnt), pni | popcnt);
    words[1] = 7;
    EXPECT_EQ(features(1, 1).first, nobufs);
    EXPECT_EQ(words[1], 7u) << "beyond the room";
    EXPECT_EQ(features(3, 1).first, opnotsupp);
    EXPECT_EQ(features(6, 1).first, inval);
    abi::SysctlCpuFeatures body{1, 0, 0};
    EXPECT_EQ(toolstack.system(abi::SysctlOperation::get_cpu_featureset, body), 0);
    EXPECT_EQ(body.word_count, feature_words);
}

/// Registers of a vCPU's own that no context names.
class VcpuMsrs : public CpuPolicy {
protected:
    static constexpr uint32_t spec_ctrl = 0x48, pred_cmd = 0x49, fs_base = 0xc0000100,
                              tsc_aux = 0xc0000103;
    DomainId id;

    VcpuMsrs() {
        auto& words = host::cpuid_words();
        words[{7, 0}][3] = 1u << 26 | 1u << 27 | 1u << 31; // IBRS and IBPB, STIBP, SSBD
        words[{0x80000001, 0}][3] |= 1u << 27;             // RDTSCP
        id = toolstack.make();
    }
    ~VcpuMsrs() override { EXPECT_EQ(toolstack.end(id), 0); }

    std::span<abi::VcpuMsr> msrs() { return {&toolstack.argument<abi::VcpuMsr>(list), 64}; }
    /// The result, and what has become of the count.
    std::pair<int64_t, uint32_t> ask(abi::DomctlOperation what, uint32_t count, bool room = true,
                                     uint32_t vcpu = 0) {
        abi::DomctlVcpuMsrs body{vcpu, count, room ? Guest::argument_address + list : 0};
        int64_t const result = toolstack.control(what, id, body);
        return {result, body.count};
    }
    std::pair<int64_t, uint32_t> get(uint32_t count, bool room = true) {
        return ask(abi::DomctlOperation::get_vcpu_msrs, count, room);
    }
    std::pair<int64_t, uint32_t> set(std::initializer_list<abi::VcpuMsr> wanted) {
        std::ranges::copy(wanted, msrs().begin());
        return ask(abi::DomctlOperation::set_vcpu_msrs, static_cast<uint32_t>(wanted.size()));
    }
};
using Said = std::pair<int64_t, uint32_t>;

TEST_F(VcpuMsrs, GoInAndComeOutTheSame) {
    EXPECT_EQ(get(0, false), (Said{0, 2})) << "how many there may be";
    EXPECT_EQ(get(0), (Said{0, 0})) << "all are 0 to begin with";
    EXPECT_EQ(set({{tsc_aux, 0, 5}, {spec_ctrl, 0, 5}}), (Said{0, 2}));
    msrs()[1] = {0x1234, 1, 1};
    EXPECT_EQ(get(1), (Said{nobufs, 2}));
    EXPECT_EQ(msrs()[1].index, 0x1234u) << "beyond the room";
    EXPECT_EQ(get(2), (Said{0, 2}));
    EXPECT_EQ(msrs()[0].index, spec_ctrl);
    EXPECT_EQ(msrs()[0].value, 5u);
    EXPECT_EQ(msrs()[1].index, tsc_aux);
    EXPECT_EQ(msrs()[1].reserved, 0u);
    EXPECT_EQ(msrs()[1].value, 5u);
    EXPECT_EQ(set({{spec_ctrl, 0, 0}}), (Said{0, 1}));
    EXPECT_EQ(get(2), (Said{0, 1}));
    EXPECT_EQ(msrs()[0].index, tsc_aux);
}

TEST_F(VcpuMsrs, NothingThatTheGuestCouldNotWrite) {
    abi::VcpuMsr const good{tsc_aux, 0, 1};
    for (abi::VcpuMsr const bad : {abi::VcpuMsr{spec_ctrl, 0, 8},
                                   {spec_ctrl, 1, 1},
                                   {tsc_aux, 0, 1ull << 32},
                                   {pred_cmd, 0, 1},
                                   {fs_base, 0, 0x1000},
                                   {0xc0000080, 0, 0xd01},
                                   {0x12345678, 0, 0}})
        EXPECT_EQ(set({good, bad}), (Said{inval, 1})) << std::hex << bad.index;
    host::cpuid_words()[{7, 0}][3] = 0;
    EXPECT_EQ(set({{spec_ctrl, 0, 1}}), (Said{inval, 0})) << "this machine has none";
    EXPECT_EQ(ask(abi::DomctlOperation::get_vcpu_msrs, 0, true, 1).first, srch) << "no such vCPU";
    EXPECT_EQ(ask(abi::DomctlOperation::set_vcpu_msrs, 0, true, 1).first, srch);
    abi::DomctlVcpuMsrs body{0, 1, 0x1000};
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::set_vcpu_msrs, id, body), fault);
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::get_vcpu_msrs, id, body), fault);
    body = {0, 0, 0};
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::get_vcpu_msrs, toolstack.domain.id, body),
              inval);
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::set_vcpu_msrs, toolstack.domain.id, body),
              inval);
}

} // namespace
} // namespace hearth::test
