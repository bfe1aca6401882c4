// What only a toolstack or the hardware domain may ask: domctl, sysctl, platform_op.
#pragma once

#include "abi/domctl.h"
#include "abi/platform.h"
#include "abi/sysctl.h"
#include "kinds.h"

namespace hearth::grammar {

namespace of {

using namespace abi;
using H = Hypercall;
using K = Kind;

// Fields are those of the body, which follows the header.
inline constexpr Field create[] = {{offsetof(DomctlCreate, handle), 8, K::anything},
                                   {offsetof(DomctlCreate, max_vcpus), 4, K::number, 4},
                                   {offsetof(DomctlCreate, max_event_port), 4, K::constant, 0xffff},
                                   {offsetof(DomctlCreate, max_grant_frames), 4, K::number, 8},
                                   {offsetof(DomctlCreate, max_maptrack_frames), 4, K::number, 4},
                                   {offsetof(DomctlCreate, grant_options), 4, K::number, 3},
                                   {offsetof(DomctlCreate, cpu_pool), 4, K::number, 2}};
inline constexpr Field max_vcpus[] = {{0, 4, K::number, 4}};
inline constexpr Field max_memory[] = {{0, 8, K::number, 4096}};
constexpr Field vcpu_at(unsigned offset) {
    return {static_cast<uint16_t>(offset), 4, K::number, 3};
}
inline constexpr Field vcpu_context[] = {vcpu_at(0),
                                         {offsetof(DomctlVcpuContext, context), 8, K::context}};
inline constexpr Field vcpu_context_out[] = {vcpu_at(0),
                                             {offsetof(DomctlVcpuContext, context), 8, K::context}};
inline constexpr Field vcpu_only[] = {vcpu_at(0)};
constexpr Field bitmap_at(size_t offset) {
    return {static_cast<uint16_t>(offset), 8, K::list, list_of(K::number, 1, 16)};
}
constexpr Field bits_at(size_t offset) {
    return {static_cast<uint16_t>(offset + 8), 4, K::number, 70};
}
inline constexpr Field affinity[] = {vcpu_at(0),
                                     {offsetof(DomctlVcpuAffinity, flags), 4, K::number, 8},
                                     bitmap_at(offsetof(DomctlVcpuAffinity, hard)),
                                     bits_at(offsetof(DomctlVcpuAffinity, hard)),
                                     bitmap_at(offsetof(DomctlVcpuAffinity, soft)),
                                     bits_at(offsetof(DomctlVcpuAffinity, soft))};
inline constexpr Field nodes[] = {bitmap_at(0), bits_at(0)};
template <uint32_t command>
inline constexpr Field scheduler[] = {
    {offsetof(DomctlSchedulerOp, scheduler), 4, K::constant, scheduler_credit2},
    {offsetof(DomctlSchedulerOp, command), 4, K::constant, command},
    {offsetof(DomctlSchedulerOp, weight), 2, K::number, 1000},
    {offsetof(DomctlSchedulerOp, cap), 2, K::number, 200}};
inline constexpr Field body_bytes[] = {{0, 8, K::anything}, {8, 8, K::anything}};
inline constexpr Field one_byte[] = {{0, 1, K::number, 2}};
inline constexpr Field irq_permission[] = {{offsetof(DomctlIrqPermission, pirq), 4, K::number, 40},
                                           {offsetof(DomctlIrqPermission, allow), 1, K::number, 2}};
inline constexpr Field iomem_permission[] = {
    {offsetof(DomctlIomemPermission, first_frame), 8, K::number, 0x100000},
    {offsetof(DomctlIomemPermission, frame_count), 8, K::number, 256},
    {offsetof(DomctlIomemPermission, allow), 1, K::number, 2}};
inline constexpr Field ioport_permission[] = {
    {offsetof(DomctlIoportPermission, first_port), 4, K::number, 0x10000},
    {offsetof(DomctlIoportPermission, port_count), 4, K::number, 16},
    {offsetof(DomctlIoportPermission, allow), 1, K::number, 2}};
inline constexpr Field frame_in_body[] = {{0, 8, K::frame}};
inline constexpr Field time_offset[] = {{0, 8, K::number, 1000}};
inline constexpr Field domain_in_body[] = {{0, 2, K::domain}};
inline constexpr Field address_size[] = {{0, 4, K::constant, 64}};
inline constexpr Field trigger[] = {{offsetof(DomctlSendTrigger, trigger), 4, K::number, 5},
                                    {offsetof(DomctlSendTrigger, vcpu), 4, K::number, 3}};
inline constexpr Field port_in_body[] = {{0, 4, K::port}};
inline constexpr Field extended_context[] = {
    vcpu_at(0),
    {offsetof(DomctlExtendedContext, size), 4, K::constant, sizeof(DomctlExtendedContext)},
    {offsetof(DomctlExtendedContext, syscall32_callback), 8, K::handler},
    {offsetof(DomctlExtendedContext, sysenter_callback), 8, K::handler}};
inline constexpr Field tsc_info[] = {{offsetof(DomctlTscInfo, mode), 4, K::number, 4},
                                     {offsetof(DomctlTscInfo, incarnation), 4, K::number, 9}};
inline constexpr Field page_info[] = {
    {offsetof(DomctlPageInfo, count), 8, K::count},
    {offsetof(DomctlPageInfo, frames), 8, K::list, list_of(K::frame, 8)}};
inline constexpr Field extended_state_size[] = {vcpu_at(0)};
template <uint64_t size>
inline constexpr Field extended_state[] = {
    vcpu_at(0),
    {offsetof(DomctlExtendedState, features), 8, K::number, 8},
    {offsetof(DomctlExtendedState, size), 8, K::constant, size},
    {offsetof(DomctlExtendedState, buffer), 8, K::context}};
inline constexpr Field virq_in_body[] = {{0, 4, K::number, virq_count}};
inline constexpr Field msrs[] = {
    vcpu_at(0),
    {offsetof(DomctlVcpuMsrs, count), 4, K::number, 3},
    {offsetof(DomctlVcpuMsrs, msrs), 8, K::list, list_of(K::number, 8, 1024)}};
inline constexpr Field cpu_policy_in[] = {
    {offsetof(DomctlCpuPolicy, leaf_count), 4, K::number, 8},
    {offsetof(DomctlCpuPolicy, msr_count), 4, K::number, 2},
    {offsetof(DomctlCpuPolicy, leaves), 8, K::list, list_of(K::number, 4, 14)},
    {offsetof(DomctlCpuPolicy, msrs), 8, K::list, list_of(K::constant, 8, 0xce)}};
inline constexpr Field cpu_policy_out[] = {
    {offsetof(DomctlCpuPolicy, leaf_count), 4, K::constant, 256},
    {offsetof(DomctlCpuPolicy, leaves), 8, K::context}};
template <uint32_t operation>
inline constexpr Field shadow[] = {
    {offsetof(DomctlShadowOp, operation), 4, K::constant, operation},
    {offsetof(DomctlShadowOp, mode), 4, K::constant, shadow_mode_log_dirty},
    {offsetof(DomctlShadowOp, dirty_bitmap), 8, K::context},
    {offsetof(DomctlShadowOp, page_count), 8, K::number, 4096}};

inline constexpr Field console_ring[] = {
    {offsetof(SysctlReadConsole, clear), 1, K::number, 2},
    {offsetof(SysctlReadConsole, incremental), 1, K::number, 2},
    {offsetof(SysctlReadConsole, index), 4, K::number, 4096},
    {offsetof(SysctlReadConsole, buffer), 8, K::context},
    {offsetof(SysctlReadConsole, count), 4, K::number, 4096}};
inline constexpr Field debug_keys[] = {{offsetof(SysctlDebugKeys, keys), 8, K::keys},
                                       {offsetof(SysctlDebugKeys, count), 4, K::constant, 1}};
inline constexpr Field domain_list[] = {{offsetof(SysctlDomainList, first), 2, K::number, 4},
                                        {offsetof(SysctlDomainList, maximum), 4, K::number, 8},
                                        {offsetof(SysctlDomainList, buffer), 8, K::context}};
inline constexpr Field maximum_and_buffer[] = {{0, 4, K::number, 8}, {8, 8, K::context}};
inline constexpr Field heap[] = {{offsetof(SysctlAvailableHeap, node), 4, K::number, 2}};
inline constexpr Field topology[] = {{0, 4, K::number, 8}, {8, 8, K::context}, {16, 8, K::context}};
inline constexpr Field pool[] = {
    {offsetof(SysctlCpuPoolOp, operation), 4, K::number, 8},
    {offsetof(SysctlCpuPoolOp, pool), 4, K::number, 3},
    {offsetof(SysctlCpuPoolOp, scheduler), 4, K::constant, scheduler_credit2},
    {offsetof(SysctlCpuPoolOp, domain), 4, K::domain},
    {offsetof(SysctlCpuPoolOp, cpu), 4, K::cpu},
    {offsetof(SysctlCpuPoolOp, cpus), 8, K::list, list_of(K::number, 1, 16)},
    {offsetof(SysctlCpuPoolOp, cpus_bit_count), 4, K::number, 70}};
inline constexpr Field pool_scheduler[] = {
    {offsetof(SysctlSchedulerOp, pool), 4, K::number, 3},
    {offsetof(SysctlSchedulerOp, scheduler), 4, K::constant, scheduler_credit2},
    {offsetof(SysctlSchedulerOp, command), 4, K::number, 2},
    {offsetof(SysctlSchedulerOp, rate_limit), 4, K::number, 1000}};
inline constexpr Field features[] = {{offsetof(SysctlCpuFeatures, index), 4, K::number, 7},
                                     {offsetof(SysctlCpuFeatures, word_count), 4, K::number, 24},
                                     {offsetof(SysctlCpuFeatures, features), 8, K::context}};
inline constexpr Field machine_policy[] = {
    {offsetof(SysctlCpuPolicy, index), 4, K::number, 7},
    {offsetof(SysctlCpuPolicy, leaf_count), 4, K::number, 256},
    {offsetof(SysctlCpuPolicy, leaves), 8, K::context}};

inline constexpr Field time32[] = {{offsetof(SetTime32, seconds), 4, K::number, 100000},
                                   {offsetof(SetTime32, nanoseconds), 4, K::number, 1'000'000'001}};
inline constexpr Field time64[] = {{offsetof(SetTime64, seconds), 8, K::number, 100000},
                                   {offsetof(SetTime64, nanoseconds), 4, K::number, 1'000'000'001}};
inline constexpr Field firmware[] = {{offsetof(FirmwareInfo, type), 4, K::number, 7},
                                     {offsetof(FirmwareInfo, index), 4, K::number, 2}};
inline constexpr Field suspend[] = {{offsetof(EnterAcpiSleep, sleep_state), 4, K::constant, 3}};
inline constexpr Field cpu_number[] = {{offsetof(PhysicalCpuInfo, xen_cpuid), 4, K::cpu}};

constexpr Operation control(char const* name, DomctlOperation command,
                            std::span<Field const> fields, uint8_t weight = 4,
                            Kind domain = Kind::domain) {
    return {name,       H::domctl,      Shape::domctl, static_cast<uint64_t>(command),
            fields,     sizeof(Domctl), weight,        true,
            Risk::none, domain};
}
constexpr Operation system(char const* name, SysctlOperation command, std::span<Field const> fields,
                           uint8_t weight = 2) {
    return {name,   H::sysctl,      Shape::sysctl, static_cast<uint64_t>(command),
            fields, sizeof(Sysctl), weight,        true};
}
constexpr Operation platform(char const* name, PlatformOperation command,
                             std::span<Field const> fields) {
    return {name,
            H::platform_op,
            Shape::platform,
            static_cast<uint64_t>(command),
            fields,
            sizeof(PlatformOp),
            1,
            true};
}

} // namespace of

inline constexpr Operation control_operations[] = {
    of::control("createdomain", abi::DomctlOperation::createdomain, of::create, 16,
                Kind::made_domain),
    of::control("destroydomain", abi::DomctlOperation::destroydomain, {}, 4, Kind::made_domain),
    of::control("destroydomain of any", abi::DomctlOperation::destroydomain, {}, 1),
    of::control("pausedomain", abi::DomctlOperation::pausedomain, {}, 4),
    of::control("unpausedomain", abi::DomctlOperation::unpausedomain, {}, 16),
    of::control("resumedomain", abi::DomctlOperation::resumedomain, {}, 2),
    of::control("getdomaininfo", abi::DomctlOperation::getdomaininfo, {}, 4),
    of::control("max_vcpus", abi::DomctlOperation::max_vcpus, of::max_vcpus, 8, Kind::made_domain),
    of::control("max_mem", abi::DomctlOperation::max_mem, of::max_memory, 4, Kind::made_domain),
    of::control("setvcpucontext", abi::DomctlOperation::setvcpucontext, of::vcpu_context, 8),
    of::control("getvcpucontext", abi::DomctlOperation::getvcpucontext, of::vcpu_context_out, 4),
    of::control("getvcpuinfo", abi::DomctlOperation::getvcpuinfo, of::vcpu_only),
    of::control("setvcpuaffinity", abi::DomctlOperation::setvcpuaffinity, of::affinity),
    of::control("getvcpuaffinity", abi::DomctlOperation::getvcpuaffinity, of::affinity),
    of::control("scheduler_op put", abi::DomctlOperation::scheduler_op,
                of::scheduler<abi::scheduler_put>, 3, Kind::made_domain),
    of::control("scheduler_op get", abi::DomctlOperation::scheduler_op,
                of::scheduler<abi::scheduler_get>, 1),
    of::control("setdomainhandle", abi::DomctlOperation::setdomainhandle, of::body_bytes, 1),
    of::control("setdebugging", abi::DomctlOperation::setdebugging, of::one_byte, 1),
    of::control("irq_permission", abi::DomctlOperation::irq_permission, of::irq_permission),
    of::control("iomem_permission", abi::DomctlOperation::iomem_permission, of::iomem_permission),
    of::control("ioport_permission", abi::DomctlOperation::ioport_permission,
                of::ioport_permission),
    of::control("hypercall_init", abi::DomctlOperation::hypercall_init, of::frame_in_body, 2,
                Kind::made_domain),
    of::control("settimeoffset", abi::DomctlOperation::settimeoffset, of::time_offset, 1),
    of::control("sendtrigger", abi::DomctlOperation::sendtrigger, of::trigger, 2,
                Kind::made_domain),
    of::control("subscribe", abi::DomctlOperation::subscribe, of::port_in_body, 2),
    of::control("set_address_size", abi::DomctlOperation::set_address_size, of::address_size, 1),
    of::control("get_address_size", abi::DomctlOperation::get_address_size, {}, 1),
    of::control("set_ext_vcpucontext", abi::DomctlOperation::set_ext_vcpucontext,
                of::extended_context),
    of::control("get_ext_vcpucontext", abi::DomctlOperation::get_ext_vcpucontext,
                of::extended_context),
    of::control("gettscinfo", abi::DomctlOperation::gettscinfo, {}, 1),
    of::control("settscinfo", abi::DomctlOperation::settscinfo, of::tsc_info, 1),
    of::control("getpageframeinfo3", abi::DomctlOperation::getpageframeinfo3, of::page_info),
    of::control("getvcpuextstate size", abi::DomctlOperation::getvcpuextstate,
                of::extended_state_size, 1),
    of::control("getvcpuextstate", abi::DomctlOperation::getvcpuextstate, of::extended_state<4096>,
                2),
    of::control("setvcpuextstate", abi::DomctlOperation::setvcpuextstate, of::extended_state<592>,
                2),
    of::control("set_virq_handler", abi::DomctlOperation::set_virq_handler, of::virq_in_body, 2),
    of::control("setnodeaffinity", abi::DomctlOperation::setnodeaffinity, of::nodes, 1),
    of::control("getnodeaffinity", abi::DomctlOperation::getnodeaffinity, of::nodes, 1),
    of::control("get_vcpu_msrs", abi::DomctlOperation::get_vcpu_msrs, of::msrs, 1),
    of::control("set_vcpu_msrs", abi::DomctlOperation::set_vcpu_msrs, of::msrs, 1),
    of::control("get_cpu_policy", abi::DomctlOperation::get_cpu_policy, of::cpu_policy_out, 1),
    of::control("set_cpu_policy", abi::DomctlOperation::set_cpu_policy, of::cpu_policy_in, 2),
    of::control("shadow_op enable", abi::DomctlOperation::shadow_op,
                of::shadow<abi::shadow_enable_log_dirty>, 4),
    of::control("shadow_op enable mode", abi::DomctlOperation::shadow_op,
                of::shadow<abi::shadow_enable>, 1),
    of::control("shadow_op off", abi::DomctlOperation::shadow_op, of::shadow<abi::shadow_off>, 3),
    of::control("shadow_op clean", abi::DomctlOperation::shadow_op, of::shadow<abi::shadow_clean>,
                4),
    of::control("shadow_op peek", abi::DomctlOperation::shadow_op, of::shadow<abi::shadow_peek>, 2),
    of::control("set_target", abi::DomctlOperation::set_target, of::domain_in_body, 1),
    of::control("assign_device", abi::DomctlOperation::assign_device, of::body_bytes, 1),
    of::control("gethvmcontext", abi::DomctlOperation::gethvmcontext, of::body_bytes, 1),
    of::control("psr_alloc", abi::DomctlOperation::psr_alloc, of::body_bytes, 1),
    of::control("cacheflush", abi::DomctlOperation::cacheflush, of::body_bytes, 1),

    of::system("readconsole", abi::SysctlOperation::readconsole, of::console_ring, 1),
    of::system("physinfo", abi::SysctlOperation::physinfo, {}),
    of::system("sched_id", abi::SysctlOperation::sched_id, {}, 1),
    of::system("getdomaininfolist", abi::SysctlOperation::getdomaininfolist, of::domain_list),
    of::system("debug_keys", abi::SysctlOperation::debug_keys, of::debug_keys, 1),
    of::system("getcpuinfo", abi::SysctlOperation::getcpuinfo, of::maximum_and_buffer),
    of::system("availheap", abi::SysctlOperation::availheap, of::heap, 1),
    of::system("cputopoinfo", abi::SysctlOperation::cputopoinfo, of::topology, 1),
    of::system("numainfo", abi::SysctlOperation::numainfo, of::topology, 1),
    of::system("cpupool_op", abi::SysctlOperation::cpupool_op, of::pool, 8),
    of::system("scheduler_op", abi::SysctlOperation::scheduler_op, of::pool_scheduler, 2),
    of::system("get_pmstat", abi::SysctlOperation::get_pmstat, {}, 1),
    of::system("coverage_op", abi::SysctlOperation::coverage_op, {}, 1),
    of::system("pcitopoinfo", abi::SysctlOperation::pcitopoinfo, of::topology, 1),
    of::system("get_cpu_levelling_caps", abi::SysctlOperation::get_cpu_levelling_caps, {}, 1),
    of::system("get_cpu_featureset", abi::SysctlOperation::get_cpu_featureset, of::features),
    of::system("get_cpu_policy", abi::SysctlOperation::get_cpu_policy, of::machine_policy),

    of::platform("settime32", abi::PlatformOperation::settime32, of::time32),
    of::platform("settime64", abi::PlatformOperation::settime64, of::time64),
    of::platform("firmware_info", abi::PlatformOperation::firmware_info, of::firmware),
    of::platform("enter_acpi_sleep", abi::PlatformOperation::enter_acpi_sleep, of::suspend),
    of::platform("get_cpuinfo", abi::PlatformOperation::get_cpuinfo, of::cpu_number),
    of::platform("get_symbol", abi::PlatformOperation::get_symbol, {}),
};

} // namespace hearth::grammar
