#include "pv/callbacks.h"

#include "abi/operations.h"
#include "arch/intrinsics.h"
#include "arch/x86/asm.h"
#include "domain/guest_memory.h"
#include "memory/layout.h"
#include "pv/descriptor_tables.h"
#include "pv/vcpu.h"

namespace hearth::pv {
namespace {

Handler* callback_slot(PvVcpu& v, uint16_t type) {
    switch (static_cast<abi::CallbackType>(type)) {
    case abi::CallbackType::event:
        return &v.event_callback;
    case abi::CallbackType::failsafe:
        return &v.failsafe_callback;
    case abi::CallbackType::syscall:
        return &v.syscall_callback;
    case abi::CallbackType::nmi:                 // has a place of its own
    case abi::CallbackType::sysenter_deprecated: // 32-bit kernels'
        break;
    case abi::CallbackType::sysenter:
        return &v.sysenter_callback;
    case abi::CallbackType::syscall32:
        return &v.syscall32_callback;
    }
    return nullptr;
}

Result<int64_t> register_nmi(PvVcpu& v, uint64_t handler) {
    constexpr uint8_t masks_events = 4;
    if (!layout::is_canonical(handler))
        return Errno::inval;
    TRY(v.traps.set(PvVcpu::nmi_vector, {handler, RING3_CS64, masks_events}));
    v.demand(attention::border); // an NMI may have waited for its handler
    return 0;
}

bool is_nmi(uint16_t type) { return type == static_cast<uint16_t>(abi::CallbackType::nmi); }

Result<int64_t> register_callback(PvVcpu& v, abi::CallbackRegister const& request) {
    if (!layout::is_canonical(request.address))
        return Errno::inval;
    if (is_nmi(request.type))
        return register_nmi(v, request.address);
    Handler* const slot = callback_slot(v, request.type);
    if (!slot)
        return Errno::nosys;
    *slot = {request.address,
             slot == &v.event_callback || (request.flags & abi::callback_masks_events) != 0};
    return 0;
}

} // namespace

Result<int64_t> do_set_trap_table(Context& c, uint64_t table) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    if (table == 0) {
        v.traps.clear();
        return 0;
    }
    // Ends at an entry without an address; a table without one cannot be longer than there are
    // vectors.
    GuestPointer<abi::TrapInfo> const list{table};
    v.demand(attention::border); // an NMI may have waited for its handler
    for (unsigned i = 0; i < 256; ++i) {
        abi::TrapInfo const entry = TRY(list.read(i));
        if (entry.address == 0)
            return 0;
        if (!layout::is_canonical(entry.address))
            return Errno::inval;
        TRY(v.traps.set(entry.vector,
                        {entry.address, static_cast<uint16_t>(entry.cs | 3), entry.flags}));
    }
    return 0;
}

Result<int64_t> do_stack_switch(Context& c, uint64_t ss, uint64_t sp) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    v.kernel_ss = ss | 3;
    v.kernel_sp = sp;
    return 0;
}

Result<int64_t> do_set_callbacks(Context& c, uint64_t event, uint64_t failsafe, uint64_t syscall) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    for (uint64_t address : {event, failsafe, syscall})
        if (!layout::is_canonical(address))
            return Errno::inval;
    v.event_callback = {event, true};
    v.failsafe_callback = {failsafe, false};
    v.syscall_callback = {syscall, false};
    return 0;
}

Result<int64_t> do_callback_op(Context& c, uint32_t command, uint64_t argument) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    switch (static_cast<abi::CallbackOperation>(command)) {
    case abi::CallbackOperation::register_callback:
        return register_callback(v, TRY(GuestPointer<abi::CallbackRegister>{argument}.read()));
    case abi::CallbackOperation::unregister_callback: {
        auto const request = TRY(GuestPointer<abi::CallbackUnregister>{argument}.read());
        // The guest cannot do without most of them; Xen lets only the NMI's go.
        if (!is_nmi(request.type))
            return callback_slot(v, request.type) ? Errno::inval : Errno::nosys;
        v.traps.remove(PvVcpu::nmi_vector);
        return 0;
    }
    }
    return Errno::nosys;
}

Result<int64_t> do_nmi_op(Context& c, uint32_t command, uint64_t argument) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    switch (static_cast<abi::NmiOperation>(command)) {
    case abi::NmiOperation::register_callback: {
        auto const request = TRY(GuestPointer<abi::NmiCallback>{argument}.read());
        return register_nmi(v, request.handler);
    }
    case abi::NmiOperation::unregister_callback:
        v.traps.remove(PvVcpu::nmi_vector);
        return 0;
    }
    return Errno::nosys;
}

Result<int64_t> do_set_segment_base(Context& c, uint32_t which, uint64_t base) {
    using abi::SegmentBase;
    if (static_cast<SegmentBase>(which) != SegmentBase::gs_user_selector &&
        !layout::is_canonical(base))
        return Errno::inval;
    switch (static_cast<SegmentBase>(which)) {
    case SegmentBase::fs:
        arch::write_msr(arch::msr::fs_base, base);
        return 0;
    case SegmentBase::gs_user: // the base not in use: hypercalls come from the kernel
        arch::write_msr(arch::msr::kernel_gs_base, base);
        return 0;
    case SegmentBase::gs_kernel:
        arch::write_msr(arch::msr::gs_base, base);
        return 0;
    case SegmentBase::gs_user_selector: {
        // Its descriptor may lie in a page of the LDT that nobody has used yet.
        if (constexpr uint64_t in_ldt = 4; base & in_ldt)
            (void)map_ldt_page(pv_vcpu(c.vcpu), ldt_offset + (base & 0xfff8));
        // Loading the selector sets the active base, so it is done on the user's.
        arch::swap_gs();
        bool const is_null = (base & 0xfffc) == 0;
        if (is_null || !arch::load_segment_gs(static_cast<uint16_t>(base))) {
            // On AMD's before Zen 2 a null selector leaves the base as it is.
            (void)arch::load_segment_gs(RING3_DS);
            (void)arch::load_segment_gs(is_null ? static_cast<uint16_t>(base) : 0);
        }
        arch::swap_gs();
        return 0;
    }
    }
    return Errno::inval;
}

Result<int64_t> do_vm_assist(Context& c, uint32_t command, uint32_t type) {
    if (type >= 64 || !(known_vm_assists >> type & 1))
        return Errno::inval;
    switch (command) {
    case 0: // VMASST_CMD_enable
        c.domain.vm_assist.fetch_or(bit(type));
        return 0;
    case 1: // VMASST_CMD_disable
        c.domain.vm_assist.fetch_and(~bit(type));
        return 0;
    default:
        return Errno::nosys;
    }
}

} // namespace hearth::pv
