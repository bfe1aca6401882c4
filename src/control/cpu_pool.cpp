#include "control/cpu_pool.h"

#include "abi/domctl.h"
#include "control/cpu_bitmap.h"
#include "cpu/cpu.h"

#include <algorithm>
#include <span>

namespace hearth {
namespace {

struct Pool {
    static constexpr uint32_t unused = Domain::no_cpu_pool;
    std::atomic<uint32_t> id{unused};
    std::atomic<uint64_t> cpus{0};
    std::atomic<uint32_t> domain_count{0}; // while they are not 0, it stays what it is
    uint32_t rate_limit = 0;               // us

    [[nodiscard]] CpuMask mask() const { return {cpus.load()}; }
};

/// Held while pools change; taken before any domain's `control`. What a domain's pool has is read
/// without: first it changes here, then each domain of the pool is visited under its `control`, so
/// whoever places a vCPU by the old state is followed by one who places it by the new.
constinit Mutex changing;
constinit uint32_t rate_limit_at_first = 0; // us, of each pool
constinit Pool pools[max_cpus + 1];

/// Of that number, or null.
Pool* find_pool(uint32_t id) {
    auto* const found =
        std::ranges::find_if(pools, [&](Pool const& p) { return p.id.load() == id; });
    return id != Pool::unused && found != std::end(pools) ? found : nullptr;
}

CpuMask free_cpus() {
    uint64_t taken = 0;
    for (Pool const& pool : pools)
        taken |= pool.cpus.load();
    return {online_cpus().bits & ~taken};
}

/// Calls `function` for each domain of a pool, its `control` held.
template <class Function>
void for_each_domain(uint32_t pool, Function&& function) {
    for (DomainId id = 0; id < max_domains; ++id) {
        preempt_point_each(64, id);
        auto const d = DomainRef::find(id);
        if (!d || (*d)->cpu_pool.load() != pool)
            continue;
        MutexGuard guard{(*d)->control};
        if ((*d)->cpu_pool.load() == pool)
            function(**d);
    }
}

/// Microseconds.
void limit_rate(Pool& pool, uint32_t limit) {
    pool.rate_limit = limit;
    set_rate_limit(pool.mask(), uint64_t{limit} * 1000);
}

Result<> create(abi::SysctlCpuPoolOp& request) {
    if (request.scheduler != abi::scheduler_credit2)
        return Errno::noent;
    if (request.pool == abi::cpu_pool_any)
        for (request.pool = 0; find_pool(request.pool);)
            ++request.pool;
    if (find_pool(request.pool))
        return Errno::exist;
    auto* const free =
        std::ranges::find_if(pools, [](Pool const& p) { return p.id.load() == Pool::unused; });
    if (free == std::end(pools))
        return Errno::nomem;
    free->rate_limit = rate_limit_at_first;
    free->id.store(request.pool);
    return {};
}

Result<> destroy(Pool& pool) {
    uint32_t const id = pool.id.load();
    if (id == 0 || pool.cpus.load() != 0 || pool.domain_count.load() != 0)
        return Errno::busy;
    pool.id.store(Pool::unused);
    return {};
}

/// The first from the number on; the toolstack finds all of them so.
Result<> describe(abi::SysctlCpuPoolOp& request) {
    Pool const* found = nullptr;
    for (Pool const& pool : pools)
        if (uint32_t const id = pool.id.load();
            id != Pool::unused && id >= request.pool && (!found || id < found->id.load()))
            found = &pool;
    if (!found)
        return Errno::noent;
    request.pool = found->id.load();
    request.scheduler = abi::scheduler_credit2;
    request.domain_count = found->domain_count.load();
    return write_cpus({request.cpus, request.cpus_bit_count, 0}, found->mask());
}

/// inval: no CPU of that number is online.
Result<> check_cpu(uint32_t cpu) {
    return online_cpus().has(cpu) ? Result<>{} : Result<>{Errno::inval};
}

Result<> add_cpu(Pool& pool, uint32_t cpu) {
    CpuMask const free = free_cpus();
    if (cpu == abi::cpu_pool_any)
        cpu = free.empty() ? max_cpus : static_cast<uint32_t>(std::countr_zero(free.bits));
    else
        TRY(check_cpu(cpu));
    if (!free.has(cpu))
        return Errno::nodev;
    pool.cpus.fetch_or(CpuMask::of(cpu).bits);
    set_rate_limit(CpuMask::of(cpu), uint64_t{pool.rate_limit} * 1000);
    for_each_domain(pool.id.load(), [](Domain& d) {
        for (Vcpu* const v : std::span{d.vcpus, d.vcpu_count})
            place(*v);
    });
    return {};
}

Result<> remove_cpu(Pool& pool, uint32_t cpu) {
    CpuMask const cpus = pool.mask();
    uint32_t const id = pool.id.load();
    if (cpu == abi::cpu_pool_any)
        cpu = cpus.empty() ? 0 : static_cast<uint32_t>(std::bit_width(cpus.bits)) - 1;
    else
        TRY(check_cpu(cpu));
    if (!cpus.has(cpu))
        return Errno::addrnotavail;
    if (id == 0 && cpu == 0) // Domain 0 keeps one, and that takes the devices' interrupts
        return Errno::inval;
    if (cpus == CpuMask::of(cpu) && pool.domain_count.load() != 0)
        return Errno::busy;
    CpuMask const left = cpus.without(cpu);
    pool.cpus.store(left.bits);
    set_rate_limit(CpuMask::of(cpu), 0);
    for_each_domain(id, [&](Domain& d) {
        for (Vcpu* const v : std::span{d.vcpus, d.vcpu_count}) {
            if ((v->hard_affinity & left).empty())
                v->hard_affinity = any_cpu;
            place(*v);
        }
    });
    return {};
}

/// To another pool, or null: out of all. `control` is held, and `changing` unless it is null.
void change_pool(Domain& d, Pool* pool) {
    Pool* const left = find_pool(d.cpu_pool.load());
    if (pool)
        pool->domain_count.fetch_add(1);
    d.cpu_pool.store(pool ? pool->id.load() : Domain::no_cpu_pool);
    // Where its vCPUs could run before says nothing about the new pool.
    for (Vcpu* const v : std::span{d.vcpus, d.vcpu_count}) {
        v->hard_affinity = any_cpu;
        set_preferred_cpus(*v, any_cpu);
        place(*v);
    }
    if (left) // no vCPU is on its CPUs any more
        left->domain_count.fetch_sub(1);
}

Result<> move_domain(Context& c, Pool& pool, DomainId id) {
    DomainRef const d = TRY(DomainRef::find(id));
    if (&*d == &c.domain || d->hardware)
        return Errno::perm;
    if (pool.cpus.load() == 0)
        return Errno::noent;
    MutexGuard guard{d->control};
    if (d->dying.load())
        return Errno::srch;
    if (d->cpu_pool.load() != pool.id.load())
        change_pool(*d, &pool);
    return {};
}

Result<> operate_on(Context& c, Pool& pool, abi::SysctlCpuPoolOp const& request) {
    switch (request.operation) {
    case abi::cpu_pool_destroy:
        return destroy(pool);
    case abi::cpu_pool_add_cpu:
        return add_cpu(pool, request.cpu);
    case abi::cpu_pool_remove_cpu:
        return remove_cpu(pool, request.cpu);
    case abi::cpu_pool_move_domain:
        return move_domain(c, pool, static_cast<DomainId>(request.domain));
    default:
        return Errno::nosys;
    }
}

} // namespace

void cpu_pools_initialise(uint32_t rate_limit) {
    rate_limit_at_first = rate_limit;
    pools[0].id.store(0);
    pools[0].cpus.store(online_cpus().bits);
    limit_rate(pools[0], rate_limit);
}

uint32_t pool_number(Domain const& domain) {
    uint32_t const pool = domain.cpu_pool.load();
    return pool == Domain::no_cpu_pool ? 0 : pool;
}

CpuMask pool_cpus(Domain const& domain) { return find_pool(pool_number(domain))->mask(); }

void place(Vcpu& vcpu) {
    CpuMask const pool = pool_cpus(vcpu.domain);
    CpuMask const wanted = vcpu.hard_affinity & pool;
    set_affinity(vcpu, wanted.empty() ? pool : wanted);
}

Result<> join_cpu_pool(Domain& domain, uint32_t id) {
    MutexGuard guard{changing};
    Pool* const pool = find_pool(id == abi::cpu_pool_any ? 0 : id);
    if (!pool)
        return Errno::srch;
    if (pool->cpus.load() == 0)
        return Errno::nodev;
    MutexGuard control{domain.control};
    if (domain.dying.load())
        return Errno::srch;
    change_pool(domain, pool);
    return {};
}

void leave_cpu_pool(Domain& domain) { change_pool(domain, nullptr); }

Result<> operate_cpu_pools(Context& c, abi::SysctlCpuPoolOp& request) {
    MutexGuard guard{changing};
    switch (request.operation) {
    case abi::cpu_pool_create:
        return create(request);
    case abi::cpu_pool_info:
        return describe(request);
    case abi::cpu_pool_free_info:
        return write_cpus({request.cpus, request.cpus_bit_count, 0}, free_cpus());
    default:
        if (request.operation == 0 || request.operation > abi::cpu_pool_free_info)
            return Errno::nosys;
        Pool* const pool = find_pool(request.pool);
        return pool ? operate_on(c, *pool, request) : Result<>{Errno::noent};
    }
}

Result<> operate_pool_scheduler(abi::SysctlSchedulerOp& request) {
    MutexGuard guard{changing};
    Pool* const pool = find_pool(request.pool);
    if (!pool)
        return Errno::srch;
    if (request.scheduler != abi::scheduler_credit2)
        return Errno::inval;
    switch (request.command) {
    case abi::scheduler_put:
        if (request.rate_limit != 0 && (request.rate_limit < abi::rate_limit_minimum ||
                                        request.rate_limit > abi::rate_limit_maximum))
            return Errno::inval;
        limit_rate(*pool, request.rate_limit);
        return {};
    case abi::scheduler_get:
        request.rate_limit = pool->rate_limit;
        return {};
    default:
        return Errno::inval;
    }
}

} // namespace hearth
