// CPU pools as the toolstack makes, fills and empties them. Every test puts all CPUs back.
#include "toolstack.h"

#include "control/cpu_pool.h"

#include <random>

namespace hearth::test {
namespace {

constexpr uint32_t any = abi::cpu_pool_any;

class Pools : public testing::Test {
protected:
    Toolstack toolstack;
    abi::SysctlCpuPoolOp answer{};

    static constexpr uint64_t bitmap = Guest::argument_address + 0x800;

    int64_t operate(uint32_t operation, uint32_t pool, uint32_t cpu = 0, uint32_t domain = 0,
                    uint32_t scheduler = abi::scheduler_credit2) {
        answer = {operation, pool, scheduler, domain, cpu, 0, bitmap, max_cpus, 0};
        return toolstack.system(abi::SysctlOperation::cpupool_op, answer);
    }
    int64_t create(uint32_t pool) { return operate(abi::cpu_pool_create, pool); }
    int64_t destroy(uint32_t pool) { return operate(abi::cpu_pool_destroy, pool); }
    int64_t add(uint32_t pool, uint32_t cpu) { return operate(abi::cpu_pool_add_cpu, pool, cpu); }
    int64_t remove(uint32_t pool, uint32_t cpu) {
        return operate(abi::cpu_pool_remove_cpu, pool, cpu);
    }
    int64_t move(uint32_t pool, uint32_t domain) {
        return operate(abi::cpu_pool_move_domain, pool, 0, domain);
    }
    uint64_t cpus_of(uint32_t pool) {
        EXPECT_EQ(operate(abi::cpu_pool_info, pool), 0);
        EXPECT_EQ(answer.pool, pool);
        return toolstack.argument<uint64_t>(0x800);
    }
    uint32_t domains_of(uint32_t pool) {
        EXPECT_EQ(operate(abi::cpu_pool_info, pool), 0);
        return answer.domain_count;
    }
    uint64_t free_cpus() {
        EXPECT_EQ(operate(abi::cpu_pool_free_info, 0), 0);
        return toolstack.argument<uint64_t>(0x800);
    }
    ~Pools() override {
        EXPECT_EQ(cpus_of(0), 0xfu);
        EXPECT_EQ(operate(abi::cpu_pool_info, 1), noent) << "a pool is left";
    }
};

TEST_F(Pools, CpusAreMovedBetweenThem) {
    EXPECT_EQ(create(any), 0);
    EXPECT_EQ(answer.pool, 1u);
    EXPECT_EQ(create(1), exist);
    EXPECT_EQ(create(70000), 0);
    EXPECT_EQ(operate(abi::cpu_pool_create, any, 0, 0, 5), noent) << "another scheduler";
    EXPECT_EQ(operate(abi::cpu_pool_info, 2), 0);
    EXPECT_EQ(answer.pool, 70000u) << "the next one";
    EXPECT_EQ(operate(abi::cpu_pool_info, 70001), noent);

    EXPECT_EQ(add(1, 3), nodev) << "another pool's";
    EXPECT_EQ(add(1, any), nodev);
    EXPECT_EQ(add(1, machine_cpus), inval);
    EXPECT_EQ(add(1, 64), inval);
    EXPECT_EQ(add(55, 3), noent);
    EXPECT_EQ(remove(1, 3), addrnotavail);
    EXPECT_EQ(remove(1, any), addrnotavail);
    EXPECT_EQ(remove(0, 99), inval);
    EXPECT_EQ(remove(0, 0), inval) << "Domain 0's last";
    EXPECT_EQ(remove(0, 3), 0);
    EXPECT_EQ(remove(0, 3), addrnotavail);
    EXPECT_EQ(remove(0, any), 0);
    EXPECT_EQ(free_cpus(), 0xcu);
    EXPECT_EQ(add(1, any), 0);
    EXPECT_EQ(cpus_of(1), 0x4u);
    EXPECT_EQ(add(1, 3), 0);
    EXPECT_EQ(destroy(1), busy);
    EXPECT_EQ(destroy(0), busy);
    EXPECT_EQ(destroy(any), noent);
    EXPECT_EQ(remove(1, 2), 0);
    EXPECT_EQ(remove(1, 3), 0);
    EXPECT_EQ(destroy(1), 0);
    EXPECT_EQ(destroy(1), noent);
    EXPECT_EQ(destroy(70000), 0);
    for (uint32_t const operation : {0u, 8u, 99u, ~0u})
        EXPECT_EQ(operate(operation, 0), nosys);
    EXPECT_EQ(add(0, 2), 0);
    EXPECT_EQ(add(0, 3), 0);
}

TEST_F(Pools, ThereAreNotEndlesslyMany) {
    uint32_t made = 0;
    int64_t result = 0;
    while ((result = create(any)) == 0 && made < 1000)
        ++made;
    EXPECT_EQ(result, nomem);
    EXPECT_EQ(made, max_cpus);
    for (uint32_t pool = 1; pool <= made; ++pool)
        EXPECT_EQ(destroy(pool), 0);
}

TEST_F(Pools, DomainsRunOnTheirPoolsCpus) {
    uint32_t const others = domains_of(0);
    EXPECT_NE(others, 0u);
    Guest guest;
    EXPECT_EQ(domains_of(0), others + 1);
    DomainId const id = guest.domain.id;
    EXPECT_EQ(create(5), 0);
    EXPECT_EQ(move(5, id), noent) << "it has no CPU";
    EXPECT_EQ(remove(0, 3), 0);
    EXPECT_EQ(add(5, 3), 0);
    EXPECT_EQ(move(5, 1023), srch);
    EXPECT_EQ(move(77, id), noent);
    EXPECT_EQ(move(5, toolstack.domain.id), perm);
    EXPECT_EQ(move(5, id), 0);
    EXPECT_EQ(move(5, id), 0);
    EXPECT_EQ(toolstack.info(id).cpu_pool, 5u);
    unsigned cpu = 0;
    EXPECT_TRUE(guest.run([] {})); // on its way
    EXPECT_TRUE(guest.run([&] { cpu = this_cpu_id(); }));
    EXPECT_EQ(cpu, 3u);
    EXPECT_EQ(domains_of(5), 1u);
    EXPECT_EQ(domains_of(0), others) << "those of before";
    EXPECT_EQ(remove(5, 3), busy);
    EXPECT_EQ(remove(5, any), busy);
    EXPECT_EQ(destroy(5), busy);
    abi::DomctlVcpuAffinity request{0, abi::affinity_hard, {bitmap, 8, 0}, {}};
    toolstack.argument<uint64_t>(0x800) = 7;
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::setvcpuaffinity, id, request), inval)
        << "none of its pool's";
    EXPECT_EQ(move(0, id), 0);
    EXPECT_EQ(toolstack.info(id).cpu_pool, 0u);
    EXPECT_EQ(domains_of(5), 0u);
    EXPECT_TRUE(guest.run([&] { cpu = this_cpu_id(); }));
    EXPECT_TRUE(guest.run([&] { cpu = this_cpu_id(); }));
    EXPECT_NE(cpu, 3u);
    EXPECT_EQ(remove(5, 3), 0);
    EXPECT_EQ(destroy(5), 0);
    EXPECT_EQ(add(0, 3), 0);
}

TEST_F(Pools, AnAffinityThatIsBrokenIsForgotten) {
    DomainId const id = toolstack.make(2);
    Domain const& d = *find_domain(id);
    auto const pin = [&](uint32_t vcpu, uint64_t cpus) {
        abi::DomctlVcpuAffinity request{vcpu, abi::affinity_hard, {bitmap, 8, 0}, {}};
        toolstack.argument<uint64_t>(0x800) = cpus;
        return toolstack.control(abi::DomctlOperation::setvcpuaffinity, id, request);
    };
    EXPECT_EQ(pin(0, 0x8), 0);
    EXPECT_EQ(pin(1, 0x9), 0);
    EXPECT_EQ(remove(0, 3), 0);
    EXPECT_EQ(d.vcpus[0]->hard_affinity, any_cpu);
    EXPECT_EQ(d.vcpus[0]->affinity().bits, 0x7u);
    EXPECT_EQ(d.vcpus[1]->hard_affinity.bits, 0x9u);
    EXPECT_EQ(d.vcpus[1]->affinity().bits, 0x1u);
    EXPECT_EQ(add(0, 3), 0);
    EXPECT_EQ(d.vcpus[1]->affinity().bits, 0x9u);
    EXPECT_EQ(toolstack.end(id), 0);
}

TEST_F(Pools, DomainsAreBornAndDieInThem) {
    EXPECT_EQ(create(2), 0);
    auto make = Toolstack::ordinary();
    make.cpu_pool = 3;
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::createdomain, 0, make), srch);
    make.cpu_pool = 2;
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::createdomain, 0, make), nodev);
    Toolstack::settle();
    EXPECT_EQ(remove(0, 2), 0);
    EXPECT_EQ(add(2, 2), 0);
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::createdomain, 0, make), 0);
    DomainId const id = toolstack.number;
    abi::DomctlMaxVcpus vcpus{1};
    EXPECT_EQ(toolstack.control(abi::DomctlOperation::max_vcpus, id, vcpus), 0);
    EXPECT_EQ(toolstack.info(id).cpu_pool, 2u);
    EXPECT_EQ(find_domain(id)->vcpus[0]->affinity(), CpuMask::of(2));
    EXPECT_EQ(destroy(2), busy);
    EXPECT_EQ(domains_of(2), 1u);
    EXPECT_EQ(toolstack.end(id), 0);
    EXPECT_EQ(domains_of(2), 0u);
    EXPECT_EQ(remove(2, 2), 0);
    EXPECT_EQ(destroy(2), 0);
    EXPECT_EQ(add(0, 2), 0);
}

TEST_F(Pools, EachHasARateLimit) {
    auto const limit = [&](uint32_t command, uint32_t pool, uint32_t us, uint32_t scheduler) {
        abi::SysctlSchedulerOp request{pool, scheduler, command, 0, us, 0, 0};
        int64_t const result = toolstack.system(abi::SysctlOperation::scheduler_op, request);
        return result == 0 ? request.rate_limit : result;
    };
    constexpr uint32_t credit2 = abi::scheduler_credit2;
    EXPECT_EQ(limit(abi::scheduler_get, 0, 7, credit2), 0);
    EXPECT_EQ(limit(abi::scheduler_put, 0, 500, credit2), 500);
    EXPECT_EQ(limit(abi::scheduler_get, 0, 0, credit2), 500);
    for (uint32_t const bad : {1u, 99u, 500'001u, ~0u})
        EXPECT_EQ(limit(abi::scheduler_put, 0, bad, credit2), inval);
    EXPECT_EQ(limit(abi::scheduler_put, 0, 0, credit2), 0);
    EXPECT_EQ(limit(abi::scheduler_get, 3, 0, credit2), srch);
    EXPECT_EQ(limit(abi::scheduler_get, 0, 0, 5), inval);
    EXPECT_EQ(limit(2, 0, 0, credit2), inval);
    // What all begin with.
    cpu_pools_initialise(200);
    EXPECT_EQ(limit(abi::scheduler_get, 0, 0, credit2), 200);
    EXPECT_EQ(create(3), 0);
    EXPECT_EQ(limit(abi::scheduler_get, 3, 0, credit2), 200);
    EXPECT_EQ(destroy(3), 0);
    cpu_pools_initialise(0);
}

TEST_F(Pools, RandomOperationsKeepEveryCpuInOnePlace) {
    std::mt19937 random{11};
    std::vector<DomainId> domains;
    for (unsigned i = 0; i < 3; ++i)
        domains.push_back(toolstack.make());
    for (unsigned i = 0; i < 3000; ++i) {
        uint32_t const pool = random() % 4, cpu = random() % 7 ? random() % 5 : any;
        switch (random() % 5) {
        case 0:
            (void)create(pool);
            break;
        case 1:
            (void)destroy(pool);
            break;
        case 2:
            (void)add(pool, cpu);
            break;
        case 3:
            (void)remove(pool, cpu);
            break;
        default:
            (void)move(pool, domains[random() % domains.size()]);
        }
        uint64_t seen = free_cpus();
        for (uint32_t next = 0; operate(abi::cpu_pool_info, next) == 0; next = answer.pool + 1) {
            uint64_t const cpus = toolstack.argument<uint64_t>(0x800);
            EXPECT_EQ(seen & cpus, 0u);
            seen |= cpus;
            for (DomainId const id : domains)
                if (Domain const& d = *find_domain(id); d.cpu_pool.load() == answer.pool) {
                    EXPECT_EQ(d.vcpus[0]->affinity().bits & 0xf, cpus);
                    EXPECT_NE(cpus, 0u);
                }
        }
        ASSERT_EQ(seen, 0xfu);
    }
    for (DomainId const id : domains)
        EXPECT_EQ(toolstack.end(id), 0);
    for (uint32_t pool = 1; pool < 4; ++pool) {
        while (remove(pool, any) == 0) {
        }
        (void)destroy(pool);
    }
    while (add(0, any) == 0) {
    }
}

} // namespace
} // namespace hearth::test
