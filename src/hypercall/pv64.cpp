// The hypercalls of 64-bit PV guests, all of them on one page, but for `iret`, which is a way back
// rather than a call (pv/traps.cpp).
#include "control/control.h"
#include "domain/guest_memory.h"
#include "event/event.h"
#include "grant/grant.h"
#include "hypercall/table.h"
#include "pv/callbacks.h"
#include "pv/descriptor_tables.h"
#include "pv/hypercall.h"
#include "pv/mmu.h"
#include "pv/privileged.h"
#include "pv/way_back.h"

namespace hearth {
namespace {

Result<int64_t> do_multicall(Context& context, uint64_t list, uint32_t count);

Result<int64_t> do_xsm_op(Context&, uint64_t) { return Errno::nosys; }

// What Domain 0 alone may do is written down here and nowhere else, but for physdev_op, whose
// operations look at what a domain was permitted, and for operations that name another domain
// (target_domain).

constexpr Reserved memory_operation(Caller caller, abi::MemoryOperation operation) {
    constexpr uint32_t number = 0x3f; // above it: how far a list has come
    return {caller, static_cast<uint32_t>(operation), number};
}
constexpr Reserved of_others(abi::SchedOperation operation) {
    return {Caller::privileged, static_cast<uint32_t>(operation), ~0u};
}

using abi::Hypercall;
using Pv64 = Table<
    Row<Hypercall::set_trap_table, pv::do_set_trap_table>,
    Row<Hypercall::mmu_update, pv::do_mmu_update>, Row<Hypercall::set_gdt, pv::do_set_gdt>,
    Row<Hypercall::stack_switch, pv::do_stack_switch>,
    Row<Hypercall::set_callbacks, pv::do_set_callbacks>,
    Row<Hypercall::fpu_taskswitch, pv::do_fpu_taskswitch>,
    Row<Hypercall::platform_op, do_platform_op, Caller::hardware_domain>,
    Row<Hypercall::set_debugreg, pv::do_set_debugreg>,
    Row<Hypercall::get_debugreg, pv::do_get_debugreg>,
    Row<Hypercall::update_descriptor, pv::do_update_descriptor>,
    Row<Hypercall::memory_op, do_memory_op, Caller::anyone,
        memory_operation(Caller::privileged, abi::MemoryOperation::set_memory_map),
        memory_operation(Caller::privileged, abi::MemoryOperation::claim_pages),
        memory_operation(Caller::privileged, abi::MemoryOperation::acquire_resource),
        memory_operation(Caller::hardware_domain, abi::MemoryOperation::machine_memory_map)>,
    Row<Hypercall::multicall, do_multicall>,
    Row<Hypercall::update_va_mapping, pv::do_update_va_mapping>,
    Row<Hypercall::set_timer_op, do_set_timer_op>, Row<Hypercall::xen_version, do_xen_version>,
    Row<Hypercall::console_io, do_console_io, Caller::hardware_domain>,
    Row<Hypercall::grant_table_op, do_grant_table_op>, Row<Hypercall::vm_assist, pv::do_vm_assist>,
    Row<Hypercall::update_va_mapping_otherdomain, pv::do_update_va_mapping_otherdomain>,
    Row<Hypercall::vcpu_op, do_vcpu_op>, Row<Hypercall::set_segment_base, pv::do_set_segment_base>,
    Row<Hypercall::mmuext_op, pv::do_mmuext_op>, Row<Hypercall::xsm_op, do_xsm_op>,
    Row<Hypercall::nmi_op, pv::do_nmi_op>,
    Row<Hypercall::sched_op, do_sched_op, Caller::anyone,
        of_others(abi::SchedOperation::remote_shutdown)>,
    Row<Hypercall::callback_op, pv::do_callback_op>,
    Row<Hypercall::event_channel_op, do_event_channel_op>,
    Row<Hypercall::physdev_op, do_physdev_op>,
    Row<Hypercall::sysctl, do_sysctl, Caller::privileged>,
    Row<Hypercall::domctl, do_domctl, Caller::privileged>,
    Row<Hypercall::mca, do_mca, Caller::hardware_domain>>;

/// Where a hypercall's arguments are.
struct RegisterArguments {
    Registers const& r;
    template <size_t index>
    [[nodiscard]] uint64_t get() const {
        if constexpr (index == 0)
            return r.rdi;
        else if constexpr (index == 1)
            return r.rsi;
        else if constexpr (index == 2)
            return r.rdx;
        else if constexpr (index == 3)
            return r.r10;
        else
            return index == 4 ? r.r8 : r.r9;
    }
};
struct ListedArguments {
    abi::MulticallEntry const& entry;
    template <size_t index>
    [[nodiscard]] uint64_t get() const {
        return entry.arguments[index];
    }
};

/// Iret is no row of the table but a way back, at which the vCPU looks on its border then.
[[gnu::cold, gnu::noinline]] Result<int64_t> leave_by_iret(Context& context) {
    pv::PvVcpu& vcpu = pv::pv_vcpu(context.vcpu);
    vcpu.demand(attention::border);
    return static_cast<int64_t>(pv::do_iret(vcpu, vcpu.registers()).rax);
}

/// A list of hypercalls in one, at most up to an iret. Each result goes into its entry; a list
/// within a list is refused.
Result<int64_t> do_multicall(Context& context, uint64_t list, uint32_t count) {
    GuestPointer<abi::MulticallEntry> const entries{list};
    for (uint32_t i = 0; i < count && !context.domain.is_shut_down(); ++i) {
        abi::MulticallEntry entry;
        TRY(entries.read_to(entry, i));
        if (entry.op == static_cast<uint64_t>(Hypercall::iret)) [[unlikely]]
            return leave_by_iret(context);
        auto const result = entry.op != static_cast<uint64_t>(Hypercall::multicall)
                                ? Pv64::call(entry.op, context, ListedArguments{entry})
                                : Result<int64_t>{Errno::inval};
        int64_t const value = result ? *result : abi_error(result.error());
        uint64_t const field = list + i * sizeof entry + offsetof(abi::MulticallEntry, result);
        TRY(GuestPointer<int64_t>{field}.write(value));
        if (!goes_on_after(context, 4, i)) // whatever takes long has points of its own
            break;
    }
    return 0;
}

} // namespace

uint64_t pv::hypercall(PvVcpu& vcpu, Registers const& r) {
    auto const result = Pv64::call(r.rax, vcpu.as_caller, RegisterArguments{r});
    return static_cast<uint64_t>(result ? *result : abi_error(result.error()));
}

} // namespace hearth
