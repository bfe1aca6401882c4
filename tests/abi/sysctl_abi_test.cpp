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

NO_PADDING(Sysctl);
NO_PADDING(SysctlReadConsole);
NO_PADDING(SysctlDebugKeys);
NO_PADDING(SysctlPhysinfo);

} // namespace hearth::abi
