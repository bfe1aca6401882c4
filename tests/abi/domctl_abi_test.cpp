// abi/domctl.h against the public header. Compiling is passing.
#include "abi/abi_check.h"

#include "abi/domctl.h"

#include <xen/domctl.h>

namespace hearth::abi {

SAME_VALUE(domctl_interface_version, XEN_DOMCTL_INTERFACE_VERSION);
SAME_VALUE(DomctlOperation::createdomain, XEN_DOMCTL_createdomain);
SAME_VALUE(DomctlOperation::destroydomain, XEN_DOMCTL_destroydomain);
SAME_VALUE(DomctlOperation::pausedomain, XEN_DOMCTL_pausedomain);
SAME_VALUE(DomctlOperation::unpausedomain, XEN_DOMCTL_unpausedomain);
SAME_VALUE(DomctlOperation::getdomaininfo, XEN_DOMCTL_getdomaininfo);
SAME_VALUE(DomctlOperation::setvcpuaffinity, XEN_DOMCTL_setvcpuaffinity);
SAME_VALUE(DomctlOperation::shadow_op, XEN_DOMCTL_shadow_op);
SAME_VALUE(DomctlOperation::max_mem, XEN_DOMCTL_max_mem);
SAME_VALUE(DomctlOperation::setvcpucontext, XEN_DOMCTL_setvcpucontext);
SAME_VALUE(DomctlOperation::getvcpucontext, XEN_DOMCTL_getvcpucontext);
SAME_VALUE(DomctlOperation::getvcpuinfo, XEN_DOMCTL_getvcpuinfo);
SAME_VALUE(DomctlOperation::max_vcpus, XEN_DOMCTL_max_vcpus);
SAME_VALUE(DomctlOperation::scheduler_op, XEN_DOMCTL_scheduler_op);
SAME_VALUE(DomctlOperation::setdomainhandle, XEN_DOMCTL_setdomainhandle);
SAME_VALUE(DomctlOperation::setdebugging, XEN_DOMCTL_setdebugging);
SAME_VALUE(DomctlOperation::irq_permission, XEN_DOMCTL_irq_permission);
SAME_VALUE(DomctlOperation::iomem_permission, XEN_DOMCTL_iomem_permission);
SAME_VALUE(DomctlOperation::ioport_permission, XEN_DOMCTL_ioport_permission);
SAME_VALUE(DomctlOperation::hypercall_init, XEN_DOMCTL_hypercall_init);
SAME_VALUE(DomctlOperation::settimeoffset, XEN_DOMCTL_settimeoffset);
SAME_VALUE(DomctlOperation::getvcpuaffinity, XEN_DOMCTL_getvcpuaffinity);
SAME_VALUE(DomctlOperation::resumedomain, XEN_DOMCTL_resumedomain);
SAME_VALUE(DomctlOperation::sendtrigger, XEN_DOMCTL_sendtrigger);
SAME_VALUE(DomctlOperation::subscribe, XEN_DOMCTL_subscribe);
SAME_VALUE(DomctlOperation::gethvmcontext, XEN_DOMCTL_gethvmcontext);
SAME_VALUE(DomctlOperation::sethvmcontext, XEN_DOMCTL_sethvmcontext);
SAME_VALUE(DomctlOperation::set_address_size, XEN_DOMCTL_set_address_size);
SAME_VALUE(DomctlOperation::get_address_size, XEN_DOMCTL_get_address_size);
SAME_VALUE(DomctlOperation::assign_device, XEN_DOMCTL_assign_device);
SAME_VALUE(DomctlOperation::set_ext_vcpucontext, XEN_DOMCTL_set_ext_vcpucontext);
SAME_VALUE(DomctlOperation::get_ext_vcpucontext, XEN_DOMCTL_get_ext_vcpucontext);
SAME_VALUE(DomctlOperation::test_assign_device, XEN_DOMCTL_test_assign_device);
SAME_VALUE(DomctlOperation::set_target, XEN_DOMCTL_set_target);
SAME_VALUE(DomctlOperation::bind_pt_irq, XEN_DOMCTL_bind_pt_irq);
SAME_VALUE(DomctlOperation::memory_mapping, XEN_DOMCTL_memory_mapping);
SAME_VALUE(DomctlOperation::ioport_mapping, XEN_DOMCTL_ioport_mapping);
SAME_VALUE(DomctlOperation::unbind_pt_irq, XEN_DOMCTL_unbind_pt_irq);
SAME_VALUE(DomctlOperation::debug_op, XEN_DOMCTL_debug_op);
SAME_VALUE(DomctlOperation::gethvmcontext_partial, XEN_DOMCTL_gethvmcontext_partial);
SAME_VALUE(DomctlOperation::set_broken_page_p2m, XEN_DOMCTL_set_broken_page_p2m);
SAME_VALUE(DomctlOperation::setvnumainfo, XEN_DOMCTL_setvnumainfo);
SAME_VALUE(DomctlOperation::psr_cmt_op, XEN_DOMCTL_psr_cmt_op);
SAME_VALUE(DomctlOperation::monitor_op, XEN_DOMCTL_monitor_op);
SAME_VALUE(DomctlOperation::psr_alloc, XEN_DOMCTL_psr_alloc);
SAME_VALUE(DomctlOperation::vmtrace_op, XEN_DOMCTL_vmtrace_op);
SAME_FIELD(DomctlSetTarget, target, xen_domctl_set_target, target);
SAME_VALUE(DomctlOperation::deassign_device, XEN_DOMCTL_deassign_device);
SAME_VALUE(DomctlOperation::get_device_group, XEN_DOMCTL_get_device_group);
SAME_VALUE(DomctlOperation::gettscinfo, XEN_DOMCTL_gettscinfo);
SAME_VALUE(DomctlOperation::settscinfo, XEN_DOMCTL_settscinfo);
SAME_VALUE(DomctlOperation::getpageframeinfo3, XEN_DOMCTL_getpageframeinfo3);
SAME_VALUE(DomctlOperation::setvcpuextstate, XEN_DOMCTL_setvcpuextstate);
SAME_VALUE(DomctlOperation::getvcpuextstate, XEN_DOMCTL_getvcpuextstate);
SAME_VALUE(DomctlOperation::set_virq_handler, XEN_DOMCTL_set_virq_handler);
SAME_VALUE(DomctlOperation::setnodeaffinity, XEN_DOMCTL_setnodeaffinity);
SAME_VALUE(DomctlOperation::getnodeaffinity, XEN_DOMCTL_getnodeaffinity);
SAME_VALUE(DomctlOperation::cacheflush, XEN_DOMCTL_cacheflush);
SAME_VALUE(DomctlOperation::get_vcpu_msrs, XEN_DOMCTL_get_vcpu_msrs);
SAME_VALUE(DomctlOperation::set_vcpu_msrs, XEN_DOMCTL_set_vcpu_msrs);
SAME_VALUE(DomctlOperation::soft_reset, XEN_DOMCTL_soft_reset);
SAME_VALUE(DomctlOperation::get_cpu_policy, XEN_DOMCTL_get_cpu_policy);
SAME_VALUE(DomctlOperation::set_cpu_policy, XEN_DOMCTL_set_cpu_policy);
SAME_VALUE(DomctlOperation::get_paging_mempool_size, XEN_DOMCTL_get_paging_mempool_size);
SAME_VALUE(DomctlOperation::set_paging_mempool_size, XEN_DOMCTL_set_paging_mempool_size);

SAME_VALUE(create_hvm, XEN_DOMCTL_CDF_hvm);
SAME_VALUE(create_xenstore, XEN_DOMCTL_CDF_xs_domain);
SAME_VALUE(create_iommu, XEN_DOMCTL_CDF_iommu);
SAME_VALUE(create_known_flags, XEN_DOMCTL_CDF_MAX * 2 - 1);
SAME_VALUE(info::dying, XEN_DOMINF_dying);
SAME_VALUE(info::shut_down, XEN_DOMINF_shutdown);
SAME_VALUE(info::paused, XEN_DOMINF_paused);
SAME_VALUE(info::blocked, XEN_DOMINF_blocked);
SAME_VALUE(info::running, XEN_DOMINF_running);
SAME_VALUE(info::debugged, XEN_DOMINF_debugged);
SAME_VALUE(info::xenstore, XEN_DOMINF_xs_domain);
SAME_VALUE(info::shutdown_reason_shift, XEN_DOMINF_shutdownshift);
SAME_VALUE(info::no_vcpus, XEN_INVALID_MAX_VCPU_ID);
SAME_VALUE(affinity_hard, XEN_VCPUAFFINITY_HARD);
SAME_VALUE(affinity_soft, XEN_VCPUAFFINITY_SOFT);
SAME_VALUE(affinity_force, XEN_VCPUAFFINITY_FORCE);
SAME_VALUE(scheduler_credit2, XEN_SCHEDULER_CREDIT2);
SAME_VALUE(scheduler_put, XEN_DOMCTL_SCHEDOP_putinfo);
SAME_VALUE(scheduler_get, XEN_DOMCTL_SCHEDOP_getinfo);
SAME_VALUE(trigger_nmi, XEN_DOMCTL_SENDTRIGGER_NMI);
SAME_VALUE(trigger_power, XEN_DOMCTL_SENDTRIGGER_POWER);
SAME_VALUE(trigger_sleep, XEN_DOMCTL_SENDTRIGGER_SLEEP);
SAME_VALUE(page_info::table_shift, XEN_DOMCTL_PFINFO_LTAB_SHIFT);
SAME_VALUE(page_info::pinned, XEN_DOMCTL_PFINFO_LPINTAB);
SAME_VALUE(page_info::invalid, XEN_DOMCTL_PFINFO_XTAB);
SAME_VALUE(cpuid_no_subleaf, XEN_CPUID_NO_SUBLEAF);
SAME_VALUE(shadow_off, XEN_DOMCTL_SHADOW_OP_OFF);
SAME_VALUE(shadow_clean, XEN_DOMCTL_SHADOW_OP_CLEAN);
SAME_VALUE(shadow_peek, XEN_DOMCTL_SHADOW_OP_PEEK);
SAME_VALUE(shadow_enable_log_dirty, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY);
SAME_VALUE(shadow_enable, XEN_DOMCTL_SHADOW_OP_ENABLE);
SAME_VALUE(shadow_mode_log_dirty, XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY);

SAME_SIZE(Domctl, xen_domctl);
SAME_FIELD(Domctl, command, xen_domctl, cmd);
SAME_FIELD(Domctl, version, xen_domctl, interface_version);
SAME_FIELD(Domctl, domain, xen_domctl, domain);
NO_PADDING(Domctl);

SAME_SIZE(ControlBitmap, xenctl_bitmap);
SAME_FIELD(ControlBitmap, bits, xenctl_bitmap, bitmap);
SAME_FIELD(ControlBitmap, bit_count, xenctl_bitmap, nr_bits);
NO_PADDING(ControlBitmap);

SAME_SIZE(ArchDomainConfig, xen_arch_domainconfig);
SAME_FIELD(ArchDomainConfig, emulation_flags, xen_arch_domainconfig, emulation_flags);
SAME_FIELD(ArchDomainConfig, other_flags, xen_arch_domainconfig, misc_flags);
NO_PADDING(ArchDomainConfig);

SAME_SIZE(DomctlCreate, xen_domctl_createdomain);
SAME_FIELD(DomctlCreate, security_id, xen_domctl_createdomain, ssidref);
SAME_FIELD(DomctlCreate, handle, xen_domctl_createdomain, handle);
SAME_FIELD(DomctlCreate, flags, xen_domctl_createdomain, flags);
SAME_FIELD(DomctlCreate, iommu_options, xen_domctl_createdomain, iommu_opts);
SAME_FIELD(DomctlCreate, max_vcpus, xen_domctl_createdomain, max_vcpus);
SAME_FIELD(DomctlCreate, max_event_port, xen_domctl_createdomain, max_evtchn_port);
SAME_FIELD(DomctlCreate, max_grant_frames, xen_domctl_createdomain, max_grant_frames);
SAME_FIELD(DomctlCreate, max_maptrack_frames, xen_domctl_createdomain, max_maptrack_frames);
SAME_FIELD(DomctlCreate, grant_options, xen_domctl_createdomain, grant_opts);
SAME_FIELD(DomctlCreate, trace_size, xen_domctl_createdomain, vmtrace_size);
SAME_FIELD(DomctlCreate, cpu_pool, xen_domctl_createdomain, cpupool_id);
SAME_FIELD(DomctlCreate, arch, xen_domctl_createdomain, arch);
NO_PADDING(DomctlCreate);

SAME_SIZE(DomctlInfo, xen_domctl_getdomaininfo);
SAME_FIELD(DomctlInfo, domain, xen_domctl_getdomaininfo, domain);
SAME_FIELD(DomctlInfo, flags, xen_domctl_getdomaininfo, flags);
SAME_FIELD(DomctlInfo, total_pages, xen_domctl_getdomaininfo, tot_pages);
SAME_FIELD(DomctlInfo, max_pages, xen_domctl_getdomaininfo, max_pages);
SAME_FIELD(DomctlInfo, outstanding_pages, xen_domctl_getdomaininfo, outstanding_pages);
SAME_FIELD(DomctlInfo, shared_pages, xen_domctl_getdomaininfo, shr_pages);
SAME_FIELD(DomctlInfo, paged_pages, xen_domctl_getdomaininfo, paged_pages);
SAME_FIELD(DomctlInfo, shared_info_frame, xen_domctl_getdomaininfo, shared_info_frame);
SAME_FIELD(DomctlInfo, cpu_time, xen_domctl_getdomaininfo, cpu_time);
SAME_FIELD(DomctlInfo, online_vcpus, xen_domctl_getdomaininfo, nr_online_vcpus);
SAME_FIELD(DomctlInfo, max_vcpu_id, xen_domctl_getdomaininfo, max_vcpu_id);
SAME_FIELD(DomctlInfo, security_id, xen_domctl_getdomaininfo, ssidref);
SAME_FIELD(DomctlInfo, handle, xen_domctl_getdomaininfo, handle);
SAME_FIELD(DomctlInfo, cpu_pool, xen_domctl_getdomaininfo, cpupool);
SAME_FIELD(DomctlInfo, address_bits, xen_domctl_getdomaininfo, gpaddr_bits);
SAME_FIELD(DomctlInfo, arch, xen_domctl_getdomaininfo, arch_config);
NO_PADDING(DomctlInfo);

SAME_SIZE(DomctlMaxMemory, xen_domctl_max_mem);
SAME_FIELD(DomctlMaxMemory, kibibytes, xen_domctl_max_mem, max_memkb);
NO_PADDING(DomctlMaxMemory);

SAME_SIZE(DomctlVcpuContext, xen_domctl_vcpucontext);
SAME_FIELD(DomctlVcpuContext, vcpu, xen_domctl_vcpucontext, vcpu);
SAME_FIELD(DomctlVcpuContext, context, xen_domctl_vcpucontext, ctxt);
NO_PADDING(DomctlVcpuContext);

SAME_SIZE(DomctlVcpuInfo, xen_domctl_getvcpuinfo);
SAME_FIELD(DomctlVcpuInfo, vcpu, xen_domctl_getvcpuinfo, vcpu);
SAME_FIELD(DomctlVcpuInfo, online, xen_domctl_getvcpuinfo, online);
SAME_FIELD(DomctlVcpuInfo, blocked, xen_domctl_getvcpuinfo, blocked);
SAME_FIELD(DomctlVcpuInfo, running, xen_domctl_getvcpuinfo, running);
SAME_FIELD(DomctlVcpuInfo, cpu_time, xen_domctl_getvcpuinfo, cpu_time);
SAME_FIELD(DomctlVcpuInfo, cpu, xen_domctl_getvcpuinfo, cpu);
NO_PADDING(DomctlVcpuInfo);

SAME_SIZE(DomctlVcpuAffinity, xen_domctl_vcpuaffinity);
SAME_FIELD(DomctlVcpuAffinity, vcpu, xen_domctl_vcpuaffinity, vcpu);
SAME_FIELD(DomctlVcpuAffinity, flags, xen_domctl_vcpuaffinity, flags);
SAME_FIELD(DomctlVcpuAffinity, hard, xen_domctl_vcpuaffinity, cpumap_hard);
SAME_FIELD(DomctlVcpuAffinity, soft, xen_domctl_vcpuaffinity, cpumap_soft);
NO_PADDING(DomctlVcpuAffinity);

SAME_SIZE(DomctlNodeAffinity, xen_domctl_nodeaffinity);
SAME_FIELD(DomctlNodeAffinity, nodes, xen_domctl_nodeaffinity, nodemap);
NO_PADDING(DomctlNodeAffinity);

SAME_SIZE(DomctlMaxVcpus, xen_domctl_max_vcpus);
SAME_FIELD(DomctlMaxVcpus, maximum, xen_domctl_max_vcpus, max);
NO_PADDING(DomctlMaxVcpus);

SAME_SIZE(DomctlSchedulerOp, xen_domctl_scheduler_op);
SAME_FIELD(DomctlSchedulerOp, scheduler, xen_domctl_scheduler_op, sched_id);
SAME_FIELD(DomctlSchedulerOp, command, xen_domctl_scheduler_op, cmd);
SAME_FIELD(DomctlSchedulerOp, weight, xen_domctl_scheduler_op, u.credit2.weight);
SAME_FIELD(DomctlSchedulerOp, cap, xen_domctl_scheduler_op, u.credit2.cap);
NO_PADDING(DomctlSchedulerOp);

SAME_SIZE(DomctlHandle, xen_domctl_setdomainhandle);
SAME_FIELD(DomctlHandle, handle, xen_domctl_setdomainhandle, handle);
NO_PADDING(DomctlHandle);

SAME_SIZE(DomctlSetDebugging, xen_domctl_setdebugging);
SAME_FIELD(DomctlSetDebugging, enable, xen_domctl_setdebugging, enable);
NO_PADDING(DomctlSetDebugging);

SAME_SIZE(DomctlIrqPermission, xen_domctl_irq_permission);
SAME_FIELD(DomctlIrqPermission, pirq, xen_domctl_irq_permission, pirq);
SAME_FIELD(DomctlIrqPermission, allow, xen_domctl_irq_permission, allow_access);
NO_PADDING(DomctlIrqPermission);

SAME_SIZE(DomctlIomemPermission, xen_domctl_iomem_permission);
SAME_FIELD(DomctlIomemPermission, first_frame, xen_domctl_iomem_permission, first_mfn);
SAME_FIELD(DomctlIomemPermission, frame_count, xen_domctl_iomem_permission, nr_mfns);
SAME_FIELD(DomctlIomemPermission, allow, xen_domctl_iomem_permission, allow_access);
NO_PADDING(DomctlIomemPermission);

SAME_SIZE(DomctlIoportPermission, xen_domctl_ioport_permission);
SAME_FIELD(DomctlIoportPermission, first_port, xen_domctl_ioport_permission, first_port);
SAME_FIELD(DomctlIoportPermission, port_count, xen_domctl_ioport_permission, nr_ports);
SAME_FIELD(DomctlIoportPermission, allow, xen_domctl_ioport_permission, allow_access);
NO_PADDING(DomctlIoportPermission);

SAME_SIZE(DomctlHypercallInit, xen_domctl_hypercall_init);
SAME_FIELD(DomctlHypercallInit, frame, xen_domctl_hypercall_init, gmfn);
NO_PADDING(DomctlHypercallInit);

SAME_SIZE(DomctlTimeOffset, xen_domctl_settimeoffset);
SAME_FIELD(DomctlTimeOffset, seconds, xen_domctl_settimeoffset, time_offset_seconds);
NO_PADDING(DomctlTimeOffset);

SAME_SIZE(DomctlAddressSize, xen_domctl_address_size);
SAME_FIELD(DomctlAddressSize, bits, xen_domctl_address_size, size);
NO_PADDING(DomctlAddressSize);

SAME_SIZE(DomctlSendTrigger, xen_domctl_sendtrigger);
SAME_FIELD(DomctlSendTrigger, trigger, xen_domctl_sendtrigger, trigger);
SAME_FIELD(DomctlSendTrigger, vcpu, xen_domctl_sendtrigger, vcpu);
NO_PADDING(DomctlSendTrigger);

SAME_SIZE(DomctlSubscribe, xen_domctl_subscribe);
SAME_FIELD(DomctlSubscribe, port, xen_domctl_subscribe, port);
NO_PADDING(DomctlSubscribe);

SAME_SIZE(DomctlExtendedContext, xen_domctl_ext_vcpucontext);
SAME_FIELD(DomctlExtendedContext, vcpu, xen_domctl_ext_vcpucontext, vcpu);
SAME_FIELD(DomctlExtendedContext, size, xen_domctl_ext_vcpucontext, size);
SAME_FIELD(DomctlExtendedContext, syscall32_callback, xen_domctl_ext_vcpucontext,
           syscall32_callback_eip);
SAME_FIELD(DomctlExtendedContext, sysenter_callback, xen_domctl_ext_vcpucontext,
           sysenter_callback_eip);
SAME_FIELD(DomctlExtendedContext, syscall32_callback_cs, xen_domctl_ext_vcpucontext,
           syscall32_callback_cs);
SAME_FIELD(DomctlExtendedContext, sysenter_callback_cs, xen_domctl_ext_vcpucontext,
           sysenter_callback_cs);
SAME_FIELD(DomctlExtendedContext, syscall32_disables_events, xen_domctl_ext_vcpucontext,
           syscall32_disables_events);
SAME_FIELD(DomctlExtendedContext, sysenter_disables_events, xen_domctl_ext_vcpucontext,
           sysenter_disables_events);
NO_PADDING(DomctlExtendedContext);

SAME_SIZE(DomctlTscInfo, xen_domctl_tsc_info);
SAME_FIELD(DomctlTscInfo, mode, xen_domctl_tsc_info, tsc_mode);
SAME_FIELD(DomctlTscInfo, khz, xen_domctl_tsc_info, gtsc_khz);
SAME_FIELD(DomctlTscInfo, incarnation, xen_domctl_tsc_info, incarnation);
SAME_FIELD(DomctlTscInfo, elapsed, xen_domctl_tsc_info, elapsed_nsec);
NO_PADDING(DomctlTscInfo);

SAME_SIZE(DomctlPageInfo, xen_domctl_getpageframeinfo3);
SAME_FIELD(DomctlPageInfo, count, xen_domctl_getpageframeinfo3, num);
SAME_FIELD(DomctlPageInfo, frames, xen_domctl_getpageframeinfo3, array);
NO_PADDING(DomctlPageInfo);

SAME_SIZE(DomctlExtendedState, xen_domctl_vcpuextstate);
SAME_FIELD(DomctlExtendedState, vcpu, xen_domctl_vcpuextstate, vcpu);
SAME_FIELD(DomctlExtendedState, features, xen_domctl_vcpuextstate, xfeature_mask);
SAME_FIELD(DomctlExtendedState, size, xen_domctl_vcpuextstate, size);
SAME_FIELD(DomctlExtendedState, buffer, xen_domctl_vcpuextstate, buffer);
NO_PADDING(DomctlExtendedState);

SAME_SIZE(DomctlSetVirqHandler, xen_domctl_set_virq_handler);
SAME_FIELD(DomctlSetVirqHandler, virq, xen_domctl_set_virq_handler, virq);
NO_PADDING(DomctlSetVirqHandler);

SAME_SIZE(DomctlVcpuMsrs, xen_domctl_vcpu_msrs);
SAME_FIELD(DomctlVcpuMsrs, vcpu, xen_domctl_vcpu_msrs, vcpu);
SAME_FIELD(DomctlVcpuMsrs, count, xen_domctl_vcpu_msrs, msr_count);
SAME_FIELD(DomctlVcpuMsrs, msrs, xen_domctl_vcpu_msrs, msrs);
NO_PADDING(DomctlVcpuMsrs);

SAME_SIZE(VcpuMsr, xen_domctl_vcpu_msr);
SAME_FIELD(VcpuMsr, index, xen_domctl_vcpu_msr, index);
SAME_FIELD(VcpuMsr, reserved, xen_domctl_vcpu_msr, reserved);
SAME_FIELD(VcpuMsr, value, xen_domctl_vcpu_msr, value);
NO_PADDING(VcpuMsr);

SAME_SIZE(CpuidLeaf, xen_cpuid_leaf);
SAME_FIELD(CpuidLeaf, leaf, xen_cpuid_leaf, leaf);
SAME_FIELD(CpuidLeaf, subleaf, xen_cpuid_leaf, subleaf);
SAME_FIELD(CpuidLeaf, a, xen_cpuid_leaf, a);
SAME_FIELD(CpuidLeaf, b, xen_cpuid_leaf, b);
SAME_FIELD(CpuidLeaf, c, xen_cpuid_leaf, c);
SAME_FIELD(CpuidLeaf, d, xen_cpuid_leaf, d);
NO_PADDING(CpuidLeaf);

SAME_SIZE(MsrEntry, xen_msr_entry);
SAME_FIELD(MsrEntry, index, xen_msr_entry, idx);
SAME_FIELD(MsrEntry, flags, xen_msr_entry, flags);
SAME_FIELD(MsrEntry, value, xen_msr_entry, val);
NO_PADDING(MsrEntry);

SAME_SIZE(DomctlCpuPolicy, xen_domctl_cpu_policy);
SAME_FIELD(DomctlCpuPolicy, leaf_count, xen_domctl_cpu_policy, nr_leaves);
SAME_FIELD(DomctlCpuPolicy, msr_count, xen_domctl_cpu_policy, nr_msrs);
SAME_FIELD(DomctlCpuPolicy, leaves, xen_domctl_cpu_policy, leaves);
SAME_FIELD(DomctlCpuPolicy, msrs, xen_domctl_cpu_policy, msrs);
SAME_FIELD(DomctlCpuPolicy, bad_leaf, xen_domctl_cpu_policy, err_leaf);
SAME_FIELD(DomctlCpuPolicy, bad_subleaf, xen_domctl_cpu_policy, err_subleaf);
SAME_FIELD(DomctlCpuPolicy, bad_msr, xen_domctl_cpu_policy, err_msr);
NO_PADDING(DomctlCpuPolicy);

SAME_SIZE(DomctlShadowOp, xen_domctl_shadow_op);
SAME_FIELD(DomctlShadowOp, operation, xen_domctl_shadow_op, op);
SAME_FIELD(DomctlShadowOp, mode, xen_domctl_shadow_op, mode);
SAME_FIELD(DomctlShadowOp, megabytes, xen_domctl_shadow_op, mb);
SAME_FIELD(DomctlShadowOp, dirty_bitmap, xen_domctl_shadow_op, dirty_bitmap);
SAME_FIELD(DomctlShadowOp, page_count, xen_domctl_shadow_op, pages);
NO_PADDING(DomctlShadowOp);

} // namespace hearth::abi
