// CPU pools: each CPU belongs to one at most, each domain to one, and its vCPUs run on that one's
// CPUs only. (public/sysctl.h, XEN_SYSCTL_cpupool_op)
#pragma once

#include "abi/sysctl.h"
#include "domain/domain.h"

namespace hearth {

/// All CPUs that are online are in pool 0. `rate_limit` is each pool's to begin with, us.
void cpu_pools_initialise(uint32_t rate_limit);
/// The domain's pool: 0 while it is being made or ends.
uint32_t pool_number(Domain const& domain);
/// The CPUs of the domain's pool. Its `control` is held, or it is being made.
CpuMask pool_cpus(Domain const& domain);
/// The vCPU runs on what its pool has of its affinity. `control` is held.
void place(Vcpu& vcpu);

/// A new domain goes to a pool; its vCPUs' affinities are forgotten. srch: no such pool, or it ends
/// already; nodev: no CPU there. May wait for other control operations.
Result<> join_cpu_pool(Domain& domain, uint32_t pool);
/// One that ends does not keep its pool from being taken apart. `control` is held.
void leave_cpu_pool(Domain& domain);

/// The operations of the toolstack's. May wait for other control operations.
Result<> operate_cpu_pools(Context& c, abi::SysctlCpuPoolOp& request);
/// Reads or sets a pool's rate limit.
Result<> operate_pool_scheduler(abi::SysctlSchedulerOp& request);

} // namespace hearth
