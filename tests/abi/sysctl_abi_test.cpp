// abi/sysctl.h against the public header. Compiling is passing.
#include "abi/abi_check.h"

#include "abi/sysctl.h"

#include <xen/sysctl.h>

namespace hearth::abi {

SAME_VALUE(sysctl_interface_version, XEN_SYSCTL_INTERFACE_VERSION);
SAME_VALUE(SysctlOperation::readconsole, XEN_SYSCTL_readconsole);
SAME_VALUE(SysctlOperation::physinfo, XEN_SYSCTL_physinfo);
SAME_VALUE(SysctlOperation::debug_keys, XEN_SYSCTL_debug_keys);
SAME_VALUE(physinfo_pv, XEN_SYSCTL_PHYSCAP_pv);
SAME_VALUE(SysctlOperation::sched_id, XEN_SYSCTL_sched_id);
SAME_VALUE(SysctlOperation::getdomaininfolist, XEN_SYSCTL_getdomaininfolist);
SAME_VALUE(SysctlOperation::getcpuinfo, XEN_SYSCTL_getcpuinfo);
SAME_VALUE(SysctlOperation::availheap, XEN_SYSCTL_availheap);
SAME_VALUE(SysctlOperation::cputopoinfo, XEN_SYSCTL_cputopoinfo);
SAME_VALUE(SysctlOperation::numainfo, XEN_SYSCTL_numainfo);
SAME_VALUE(SysctlOperation::cpupool_op, XEN_SYSCTL_cpupool_op);
SAME_VALUE(SysctlOperation::scheduler_op, XEN_SYSCTL_scheduler_op);
SAME_VALUE(SysctlOperation::get_pmstat, XEN_SYSCTL_get_pmstat);
SAME_VALUE(SysctlOperation::coverage_op, XEN_SYSCTL_coverage_op);
SAME_VALUE(SysctlOperation::psr_cmt_op, XEN_SYSCTL_psr_cmt_op);
SAME_VALUE(SysctlOperation::pcitopoinfo, XEN_SYSCTL_pcitopoinfo);
SAME_VALUE(SysctlOperation::psr_alloc, XEN_SYSCTL_psr_alloc);
SAME_VALUE(SysctlOperation::get_cpu_levelling_caps, XEN_SYSCTL_get_cpu_levelling_caps);
SAME_VALUE(SysctlOperation::get_cpu_featureset, XEN_SYSCTL_get_cpu_featureset);
SAME_VALUE(SysctlOperation::get_cpu_policy, XEN_SYSCTL_get_cpu_policy);
SAME_VALUE(cpu_pool_create, XEN_SYSCTL_CPUPOOL_OP_CREATE);
SAME_VALUE(cpu_pool_destroy, XEN_SYSCTL_CPUPOOL_OP_DESTROY);
SAME_VALUE(cpu_pool_info, XEN_SYSCTL_CPUPOOL_OP_INFO);
SAME_VALUE(cpu_pool_add_cpu, XEN_SYSCTL_CPUPOOL_OP_ADDCPU);
SAME_VALUE(cpu_pool_remove_cpu, XEN_SYSCTL_CPUPOOL_OP_RMCPU);
SAME_VALUE(cpu_pool_move_domain, XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN);
SAME_VALUE(cpu_pool_any, XEN_SYSCTL_CPUPOOL_PAR_ANY);
SAME_VALUE(rate_limit_minimum, XEN_SYSCTL_SCHED_RATELIMIT_MIN);
SAME_VALUE(rate_limit_maximum, XEN_SYSCTL_SCHED_RATELIMIT_MAX);
SAME_VALUE(cpu_pool_free_info, XEN_SYSCTL_CPUPOOL_OP_FREEINFO);
SAME_VALUE(cpu_policy_raw, XEN_SYSCTL_cpu_policy_raw);
SAME_VALUE(cpu_policy_host, XEN_SYSCTL_cpu_policy_host);
SAME_VALUE(cpu_policy_pv_max, XEN_SYSCTL_cpu_policy_pv_max);
SAME_VALUE(cpu_policy_pv_default, XEN_SYSCTL_cpu_policy_pv_default);
SAME_VALUE(cpu_policy_last, XEN_SYSCTL_cpu_policy_hvm_default);
SAME_VALUE(physinfo_grants_v1, XEN_SYSCTL_PHYSCAP_gnttab_v1);
SAME_VALUE(physinfo_grants_v2, XEN_SYSCTL_PHYSCAP_gnttab_v2);

SAME_SIZE(Sysctl, xen_sysctl);
SAME_FIELD(Sysctl, command, xen_sysctl, cmd);
SAME_FIELD(Sysctl, version, xen_sysctl, interface_version);
SAME_OFFSET(Sysctl, body, xen_sysctl, u);

SAME_SIZE(SysctlReadConsole, xen_sysctl_readconsole);
SAME_FIELD(SysctlReadConsole, clear, xen_sysctl_readconsole, clear);
SAME_FIELD(SysctlReadConsole, incremental, xen_sysctl_readconsole, incremental);
SAME_FIELD(SysctlReadConsole, index, xen_sysctl_readconsole, index);
SAME_FIELD(SysctlReadConsole, buffer, xen_sysctl_readconsole, buffer);
SAME_FIELD(SysctlReadConsole, count, xen_sysctl_readconsole, count);

SAME_SIZE(SysctlDebugKeys, xen_sysctl_debug_keys);
SAME_FIELD(SysctlDebugKeys, keys, xen_sysctl_debug_keys, keys);
SAME_FIELD(SysctlDebugKeys, count, xen_sysctl_debug_keys, nr_keys);

SAME_SIZE(SysctlPhysinfo, xen_sysctl_physinfo);
SAME_FIELD(SysctlPhysinfo, cpu_count, xen_sysctl_physinfo, nr_cpus);
SAME_FIELD(SysctlPhysinfo, max_cpu_id, xen_sysctl_physinfo, max_cpu_id);
SAME_FIELD(SysctlPhysinfo, cpu_khz, xen_sysctl_physinfo, cpu_khz);
SAME_FIELD(SysctlPhysinfo, capabilities, xen_sysctl_physinfo, capabilities);
SAME_FIELD(SysctlPhysinfo, total_pages, xen_sysctl_physinfo, total_pages);
SAME_FIELD(SysctlPhysinfo, free_pages, xen_sysctl_physinfo, free_pages);
SAME_FIELD(SysctlPhysinfo, max_mfn, xen_sysctl_physinfo, max_mfn);
SAME_FIELD(SysctlPhysinfo, hardware_capabilities, xen_sysctl_physinfo, hw_cap);

SAME_SIZE(SysctlSchedulerId, xen_sysctl_sched_id);
SAME_FIELD(SysctlSchedulerId, scheduler, xen_sysctl_sched_id, sched_id);
NO_PADDING(SysctlSchedulerId);

SAME_SIZE(SysctlDomainList, xen_sysctl_getdomaininfolist);
SAME_FIELD(SysctlDomainList, first, xen_sysctl_getdomaininfolist, first_domain);
SAME_FIELD(SysctlDomainList, maximum, xen_sysctl_getdomaininfolist, max_domains);
SAME_FIELD(SysctlDomainList, buffer, xen_sysctl_getdomaininfolist, buffer);
SAME_FIELD(SysctlDomainList, count, xen_sysctl_getdomaininfolist, num_domains);
NO_PADDING(SysctlDomainList);

SAME_SIZE(SysctlCpuInfo, xen_sysctl_cpuinfo);
SAME_FIELD(SysctlCpuInfo, idle_time, xen_sysctl_cpuinfo, idletime);
NO_PADDING(SysctlCpuInfo);

SAME_SIZE(SysctlGetCpuInfo, xen_sysctl_getcpuinfo);
SAME_FIELD(SysctlGetCpuInfo, maximum, xen_sysctl_getcpuinfo, max_cpus);
SAME_FIELD(SysctlGetCpuInfo, buffer, xen_sysctl_getcpuinfo, info);
SAME_FIELD(SysctlGetCpuInfo, count, xen_sysctl_getcpuinfo, nr_cpus);
NO_PADDING(SysctlGetCpuInfo);

SAME_SIZE(SysctlAvailableHeap, xen_sysctl_availheap);
SAME_FIELD(SysctlAvailableHeap, min_width, xen_sysctl_availheap, min_bitwidth);
SAME_FIELD(SysctlAvailableHeap, max_width, xen_sysctl_availheap, max_bitwidth);
SAME_FIELD(SysctlAvailableHeap, node, xen_sysctl_availheap, node);
SAME_FIELD(SysctlAvailableHeap, bytes, xen_sysctl_availheap, avail_bytes);
NO_PADDING(SysctlAvailableHeap);

SAME_SIZE(CpuTopology, xen_sysctl_cputopo);
SAME_FIELD(CpuTopology, core, xen_sysctl_cputopo, core);
SAME_FIELD(CpuTopology, socket, xen_sysctl_cputopo, socket);
SAME_FIELD(CpuTopology, node, xen_sysctl_cputopo, node);
NO_PADDING(CpuTopology);

SAME_SIZE(SysctlCpuTopology, xen_sysctl_cputopoinfo);
SAME_FIELD(SysctlCpuTopology, count, xen_sysctl_cputopoinfo, num_cpus);
SAME_FIELD(SysctlCpuTopology, buffer, xen_sysctl_cputopoinfo, cputopo);
NO_PADDING(SysctlCpuTopology);

SAME_SIZE(NodeMemory, xen_sysctl_meminfo);
SAME_FIELD(NodeMemory, size, xen_sysctl_meminfo, memsize);
SAME_FIELD(NodeMemory, free, xen_sysctl_meminfo, memfree);
NO_PADDING(NodeMemory);

SAME_SIZE(SysctlNumaInfo, xen_sysctl_numainfo);
SAME_FIELD(SysctlNumaInfo, count, xen_sysctl_numainfo, num_nodes);
SAME_FIELD(SysctlNumaInfo, memory, xen_sysctl_numainfo, meminfo);
SAME_FIELD(SysctlNumaInfo, distances, xen_sysctl_numainfo, distance);
NO_PADDING(SysctlNumaInfo);

SAME_SIZE(SysctlCpuPoolOp, xen_sysctl_cpupool_op);
SAME_FIELD(SysctlCpuPoolOp, operation, xen_sysctl_cpupool_op, op);
SAME_FIELD(SysctlCpuPoolOp, pool, xen_sysctl_cpupool_op, cpupool_id);
SAME_FIELD(SysctlCpuPoolOp, scheduler, xen_sysctl_cpupool_op, sched_id);
SAME_FIELD(SysctlCpuPoolOp, domain, xen_sysctl_cpupool_op, domid);
SAME_FIELD(SysctlCpuPoolOp, cpu, xen_sysctl_cpupool_op, cpu);
SAME_FIELD(SysctlCpuPoolOp, domain_count, xen_sysctl_cpupool_op, n_dom);
SAME_FIELD(SysctlCpuPoolOp, cpus, xen_sysctl_cpupool_op, cpumap.bitmap);
SAME_FIELD(SysctlCpuPoolOp, cpus_bit_count, xen_sysctl_cpupool_op, cpumap.nr_bits);
NO_PADDING(SysctlCpuPoolOp);

SAME_VALUE(invalid_node, XEN_INVALID_NODE_ID);
SAME_SIZE(SysctlPciTopology, xen_sysctl_pcitopoinfo);
SAME_FIELD(SysctlPciTopology, count, xen_sysctl_pcitopoinfo, num_devs);
SAME_FIELD(SysctlPciTopology, devices, xen_sysctl_pcitopoinfo, devs);
SAME_FIELD(SysctlPciTopology, nodes, xen_sysctl_pcitopoinfo, nodes);
NO_PADDING(SysctlPciTopology);

SAME_SIZE(SysctlSchedulerOp, xen_sysctl_scheduler_op);
SAME_FIELD(SysctlSchedulerOp, pool, xen_sysctl_scheduler_op, cpupool_id);
SAME_FIELD(SysctlSchedulerOp, scheduler, xen_sysctl_scheduler_op, sched_id);
SAME_FIELD(SysctlSchedulerOp, command, xen_sysctl_scheduler_op, cmd);
SAME_FIELD(SysctlSchedulerOp, rate_limit, xen_sysctl_scheduler_op, u.sched_credit2.ratelimit_us);
NO_PADDING(SysctlSchedulerOp);

SAME_SIZE(SysctlLevellingCaps, xen_sysctl_cpu_levelling_caps);
SAME_FIELD(SysctlLevellingCaps, caps, xen_sysctl_cpu_levelling_caps, caps);
NO_PADDING(SysctlLevellingCaps);

SAME_SIZE(SysctlCpuFeatures, xen_sysctl_cpu_featureset);
SAME_FIELD(SysctlCpuFeatures, index, xen_sysctl_cpu_featureset, index);
SAME_FIELD(SysctlCpuFeatures, word_count, xen_sysctl_cpu_featureset, nr_features);
SAME_FIELD(SysctlCpuFeatures, features, xen_sysctl_cpu_featureset, features);
NO_PADDING(SysctlCpuFeatures);

SAME_SIZE(SysctlCpuPolicy, xen_sysctl_cpu_policy);
SAME_FIELD(SysctlCpuPolicy, index, xen_sysctl_cpu_policy, index);
SAME_FIELD(SysctlCpuPolicy, leaf_count, xen_sysctl_cpu_policy, nr_leaves);
SAME_FIELD(SysctlCpuPolicy, msr_count, xen_sysctl_cpu_policy, nr_msrs);
SAME_FIELD(SysctlCpuPolicy, reserved, xen_sysctl_cpu_policy, _rsvd);
SAME_FIELD(SysctlCpuPolicy, leaves, xen_sysctl_cpu_policy, leaves);
SAME_FIELD(SysctlCpuPolicy, msrs, xen_sysctl_cpu_policy, msrs);
NO_PADDING(SysctlCpuPolicy);

NO_PADDING(Sysctl);
NO_PADDING(SysctlReadConsole);
NO_PADDING(SysctlDebugKeys);
NO_PADDING(SysctlPhysinfo);

} // namespace hearth::abi
