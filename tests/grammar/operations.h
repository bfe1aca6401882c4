// Every hypercall and sub-operation, and what its arguments are. docs/SUPPORT.md has the same list
// in prose.
#pragma once

#include "abi/event_channel.h"
#include "abi/grant_table.h"
#include "abi/operations.h"
#include "abi/physdev.h"
#include "abi/platform.h"
#include "control_operations.h"
#include "kinds.h"

namespace hearth::grammar {

namespace of {

using namespace abi;
using H = Hypercall;
using K = Kind;

// --- Registers only.
inline constexpr Field set_trap_table[] = {{0, 8, K::list, list_of(K::constant, 8, 0xe033'0003)}};
inline constexpr Field set_gdt[] = {{0, 8, K::list, list_of(K::descriptors, 8)},
                                    {1, 8, K::number, 1024}};
inline constexpr Field stack_switch[] = {{0, 8, K::constant, 0xe02b}, {1, 8, K::word}};
inline constexpr Field set_callbacks[] = {
    {0, 8, K::handler}, {1, 8, K::handler}, {2, 8, K::handler}};
inline constexpr Field one_bit[] = {{0, 8, K::number, 2}};
inline constexpr Field set_debugreg[] = {{0, 8, K::number, 9}, {1, 8, K::word}};
inline constexpr Field set_dr7[] = {{0, 8, K::constant, 7}, {1, 8, K::flags, 0xff0faa}};
inline constexpr Field get_debugreg[] = {{0, 8, K::number, 9}};
inline constexpr Field update_descriptor[] = {{0, 8, K::place, 5}, {1, 8, K::entry, 5}};
inline constexpr Field update_va_mapping[] = {
    {0, 8, K::page}, {1, 8, K::entry, 1}, {2, 8, K::number, 8}};
inline constexpr Field update_va_mapping_multi[] = {
    {0, 8, K::page}, {1, 8, K::entry, 1}, {2, 8, K::list, list_of(K::number, 1, 256)}};
inline constexpr Field update_va_mapping_other[] = {
    {0, 8, K::page}, {1, 8, K::entry, 1}, {2, 8, K::number, 8}, {3, 8, K::domain}};
inline constexpr Field set_timer[] = {{0, 8, K::deadline}};
inline constexpr Field write_console[] = {
    {0, 8, K::constant, 0}, {1, 8, K::number, 64}, {2, 8, K::list, list_of(K::constant, 1, '.')}};
inline constexpr Field read_console_input[] = {
    {0, 8, K::constant, 1}, {1, 8, K::number, 64}, {2, 8, K::list, list_of(K::number, 1, 256)}};
inline constexpr Field vm_assist[] = {{0, 8, K::number, 2}, {1, 8, K::number, 6}};
inline constexpr Field set_segment_base[] = {{0, 8, K::number, 4}, {1, 8, K::word}};
inline constexpr Field iret[] = {{0, 8, K::number, 1}};
inline constexpr Field unknown[] = {
    {0, 8, K::number, 32}, {1, 8, K::page}, {2, 8, K::anything}, {3, 8, K::frame}};

// --- mmuext_op: the two arguments of an element.
inline constexpr Field pin_l1[] = {{8, 8, K::table, 1}};
inline constexpr Field pin_l2[] = {{8, 8, K::table, 2}};
inline constexpr Field pin_l3[] = {{8, 8, K::table, 3}};
inline constexpr Field pin_l4[] = {{8, 8, K::table, 4}};
inline constexpr Field unpin[] = {{8, 8, K::table, 0}};
inline constexpr Field new_root[] = {{8, 8, K::root}};
inline constexpr Field new_user_root[] = {{8, 8, K::table, 4}};
inline constexpr Field at_page[] = {{8, 8, K::page}};
inline constexpr Field on_vcpus[] = {{8, 8, K::page}, {16, 8, K::list, list_of(K::number, 1, 16)}};
inline constexpr Field set_ldt[] = {{8, 8, K::page}, {16, 8, K::number, 1100}};
inline constexpr Field one_frame[] = {{8, 8, K::own_frame}};
inline constexpr Field two_frames[] = {{8, 8, K::own_frame}, {16, 8, K::frame}};

// --- Structures.
inline constexpr Field bind_interdomain[] = {{offsetof(BindInterdomain, remote_dom), 2, K::domain},
                                             {offsetof(BindInterdomain, remote_port), 4, K::port}};
inline constexpr Field bind_virq[] = {{offsetof(BindVirq, virq), 4, K::number, virq_count},
                                      {offsetof(BindVirq, vcpu), 4, K::vcpu}};
inline constexpr Field bind_pirq[] = {{offsetof(BindPirq, pirq), 4, K::number, 40},
                                      {offsetof(BindPirq, flags), 4, K::number, 2}};
inline constexpr Field port[] = {{offsetof(EventPort, port), 4, K::port}};
inline constexpr Field event_status[] = {{offsetof(EventStatus, dom), 2, K::domain},
                                         {offsetof(EventStatus, port), 4, K::port}};
inline constexpr Field alloc_unbound[] = {{offsetof(AllocUnbound, dom), 2, K::domain},
                                          {offsetof(AllocUnbound, remote_dom), 2, K::domain}};
inline constexpr Field bind_ipi[] = {{offsetof(BindIpi, vcpu), 4, K::vcpu}};
inline constexpr Field bind_vcpu[] = {{offsetof(BindVcpu, port), 4, K::port},
                                      {offsetof(BindVcpu, vcpu), 4, K::vcpu}};
inline constexpr Field domain_only[] = {{0, 2, K::domain}};
inline constexpr Field init_control[] = {{offsetof(InitControl, control_gfn), 8, K::own_frame},
                                         {offsetof(InitControl, offset), 4, K::number, 64},
                                         {offsetof(InitControl, vcpu), 4, K::vcpu}};
inline constexpr Field expand_array[] = {{offsetof(ExpandArray, array_gfn), 8, K::own_frame}};
inline constexpr Field set_priority[] = {{offsetof(SetPriority, port), 4, K::port},
                                         {offsetof(SetPriority, priority), 4, K::number, 17}};

inline constexpr Field map_grant[] = {{offsetof(GrantMap, host_address), 8, K::window},
                                      {offsetof(GrantMap, flags), 4, K::flags,
                                       grant_map::device | grant_map::host | grant_map::readonly},
                                      {offsetof(GrantMap, reference), 4, K::reference},
                                      {offsetof(GrantMap, domain), 2, K::domain}};
inline constexpr Field map_grant_by_entry[] = {
    {offsetof(GrantMap, host_address), 8, K::place, 1},
    {offsetof(GrantMap, flags), 4, K::constant, grant_map::host | grant_map::contains_pte},
    {offsetof(GrantMap, reference), 4, K::reference},
    {offsetof(GrantMap, domain), 2, K::domain}};
inline constexpr Field unmap_grant[] = {{offsetof(GrantUnmap, host_address), 8, K::window},
                                        {offsetof(GrantUnmap, device_address), 8, K::number, 2},
                                        {offsetof(GrantUnmap, handle), 4, K::handle}};
inline constexpr Field unmap_grant_by_entry[] = {
    {offsetof(GrantUnmap, host_address), 8, K::place, 1},
    {offsetof(GrantUnmap, handle), 4, K::handle}};
inline constexpr Field unmap_and_replace[] = {
    {offsetof(GrantUnmapAndReplace, host_address), 8, K::window},
    {offsetof(GrantUnmapAndReplace, new_address), 8, K::page},
    {offsetof(GrantUnmapAndReplace, handle), 4, K::handle}};
inline constexpr Field setup_table[] = {
    {offsetof(GrantSetupTable, domain), 2, K::domain},
    {offsetof(GrantSetupTable, frame_count), 4, K::number, 6},
    {offsetof(GrantSetupTable, frames), 8, K::list, list_of(K::number, 8, 1)}};
inline constexpr Field transfer[] = {{offsetof(GrantTransfer, mfn), 8, K::frame},
                                     {offsetof(GrantTransfer, domain), 2, K::domain},
                                     {offsetof(GrantTransfer, reference), 4, K::reference}};
constexpr Field copy_side(size_t side, size_t field, uint8_t size, Kind kind, uint64_t more = 0) {
    return {static_cast<uint16_t>(side + field), size, kind, more};
}
template <bool from_reference, bool to_reference>
inline constexpr Field grant_copy[] = {
    copy_side(offsetof(GrantCopy, source), 0, from_reference ? 4 : 8,
              from_reference ? K::reference : K::frame),
    copy_side(offsetof(GrantCopy, source), offsetof(GrantCopySide, domain), 2, K::domain),
    copy_side(offsetof(GrantCopy, source), offsetof(GrantCopySide, offset), 2, K::number, 32),
    copy_side(offsetof(GrantCopy, destination), 0, to_reference ? 4 : 8,
              to_reference ? K::reference : K::own_frame),
    copy_side(offsetof(GrantCopy, destination), offsetof(GrantCopySide, domain), 2, K::domain),
    copy_side(offsetof(GrantCopy, destination), offsetof(GrantCopySide, offset), 2, K::number, 32),
    {offsetof(GrantCopy, length), 2, K::number, 4097},
    {offsetof(GrantCopy, flags), 2, K::constant,
     (from_reference ? copy_source_reference : 0) |
         (to_reference ? copy_destination_reference : 0)}};
inline constexpr Field query_size[] = {{offsetof(GrantQuerySize, domain), 2, K::domain}};
inline constexpr Field set_version[] = {{offsetof(GrantSetVersion, version), 4, K::number, 4}};
inline constexpr Field get_status_frames[] = {
    {offsetof(GrantGetStatusFrames, frame_count), 4, K::number, 4},
    {offsetof(GrantGetStatusFrames, domain), 2, K::domain},
    {offsetof(GrantGetStatusFrames, frames), 8, K::list, list_of(K::number, 8, 1)}};
inline constexpr Field get_version[] = {{offsetof(GrantGetVersion, domain), 2, K::domain}};
inline constexpr Field swap_references[] = {{offsetof(GrantSwap, a), 4, K::reference},
                                            {offsetof(GrantSwap, b), 4, K::reference}};

inline constexpr Field reserve[] = {
    {offsetof(MemoryReservation, extents), 8, K::list, list_of(K::number, 8, 64)},
    {offsetof(MemoryReservation, extent_count), 8, K::count},
    {offsetof(MemoryReservation, extent_order), 4, K::order},
    {offsetof(MemoryReservation, flags), 4, K::number, 65},
    {offsetof(MemoryReservation, domain), 2, K::domain}};
inline constexpr Field give_up[] = {
    {offsetof(MemoryReservation, extents), 8, K::list, list_of(K::block, 8)},
    {offsetof(MemoryReservation, extent_count), 8, K::count},
    {offsetof(MemoryReservation, extent_order), 4, K::order},
    {offsetof(MemoryReservation, domain), 2, K::domain}};
template <uint32_t in_order, uint32_t out_order>
inline constexpr Field exchange[] = {
    {offsetof(MemoryExchange, in.extents), 8, K::list, list_of(K::block, 8)},
    {offsetof(MemoryExchange, in.extent_count), 8, K::constant, out_order > in_order ? 4 : 1},
    {offsetof(MemoryExchange, in.extent_order), 4, K::constant, in_order},
    {offsetof(MemoryExchange, in.domain), 2, K::constant, 0x7ff0},
    {offsetof(MemoryExchange, out.extents), 8, K::list, list_of(K::number, 8, 64)},
    {offsetof(MemoryExchange, out.extent_count), 8, K::constant, in_order > out_order ? 4 : 1},
    {offsetof(MemoryExchange, out.extent_order), 4, K::constant, out_order},
    {offsetof(MemoryExchange, out.flags), 4, K::number, 65},
    {offsetof(MemoryExchange, out.domain), 2, K::constant, 0x7ff0},
    {offsetof(MemoryExchange, exchanged), 8, K::constant, 0}};
inline constexpr Field machphys_list[] = {
    {offsetof(MachphysMfnList, max_extents), 4, K::number, 8},
    {offsetof(MachphysMfnList, extents), 8, K::list, list_of(K::number, 8, 1)}};
inline constexpr Field memory_map[] = {
    {offsetof(MemoryMapRequest, entries), 4, K::number, 8},
    {offsetof(MemoryMapRequest, buffer), 8, K::list, list_of(K::number, 4, 16)}};
inline constexpr Field set_memory_map[] = {
    {offsetof(ForeignMemoryMap, domain), 2, K::domain},
    {offsetof(ForeignMemoryMap, map.entries), 4, K::number, 12},
    {offsetof(ForeignMemoryMap, map.buffer), 8, K::list, list_of(K::number, 4, 16)}};
inline constexpr Field claim[] = {{offsetof(MemoryReservation, extent_count), 8, K::number, 64},
                                  {offsetof(MemoryReservation, domain), 2, K::made_domain}};
inline constexpr Field acquire[] = {
    {offsetof(AcquireResource, domain), 2, K::domain},
    {offsetof(AcquireResource, type), 2, K::constant, resource_grant_table},
    {offsetof(AcquireResource, id), 4, K::number, 3},
    {offsetof(AcquireResource, frame_count), 4, K::number, 4},
    {offsetof(AcquireResource, first_frame), 8, K::number, 3},
    {offsetof(AcquireResource, frames), 8, K::list, list_of(K::number, 8, 1)}};

inline constexpr Field shutdown[] = {{offsetof(SchedShutdown, reason), 4, K::number, 6}};
inline constexpr Field poll[] = {{offsetof(SchedPoll, ports), 8, K::list, list_of(K::port, 4)},
                                 {offsetof(SchedPoll, port_count), 4, K::number, 8},
                                 {offsetof(SchedPoll, timeout), 8, K::deadline}};
inline constexpr Field remote_shutdown[] = {
    {offsetof(SchedRemoteShutdown, domain), 2, K::made_domain},
    {offsetof(SchedRemoteShutdown, reason), 4, K::number, 6}};
inline constexpr Field context_pointer[] = {{0, 8, K::context}};
inline constexpr Field area[] = {{offsetof(MemoryArea, address), 8, K::word}};
inline constexpr Field periodic[] = {
    {offsetof(SetPeriodicTimer, period), 8, K::constant, 1'000'000}};
inline constexpr Field singleshot[] = {{offsetof(SetSingleshotTimer, timeout), 8, K::deadline},
                                       {offsetof(SetSingleshotTimer, flags), 4, K::number, 2}};
inline constexpr Field register_info[] = {
    {offsetof(RegisterVcpuInfo, mfn), 8, K::own_frame},
    {offsetof(RegisterVcpuInfo, offset), 4, K::constant, 512}};
inline constexpr Field register_callback[] = {{offsetof(CallbackRegister, type), 2, K::number, 8},
                                              {offsetof(CallbackRegister, flags), 2, K::number, 2},
                                              {offsetof(CallbackRegister, address), 8, K::handler}};
inline constexpr Field unregister_callback[] = {
    {offsetof(CallbackUnregister, type), 2, K::number, 8}};
inline constexpr Field nmi_callback[] = {{offsetof(NmiCallback, handler), 8, K::handler}};
inline constexpr Field feature_index[] = {{offsetof(FeatureInfo, index), 4, K::number, 2}};

inline constexpr Field pirq[] = {{0, 4, K::number, 40}};
inline constexpr Field eoi_frame[] = {{0, 8, K::own_frame}};
inline constexpr Field io_bitmap[] = {{offsetof(SetIobitmap, bitmap), 8, K::word},
                                      {offsetof(SetIobitmap, port_count), 4, K::number, 65537}};
inline constexpr Field io_apic[] = {{offsetof(PhysdevApic, base), 8, K::constant, 0xfec00000},
                                    {offsetof(PhysdevApic, reg), 4, K::number, 64}};
inline constexpr Field map_pirq[] = {{offsetof(MapPirq, domain), 2, K::domain},
                                     {offsetof(MapPirq, type), 4, K::constant, 1},
                                     {offsetof(MapPirq, index), 4, K::number, 24},
                                     {offsetof(MapPirq, pirq), 4, K::number, 40}};
inline constexpr Field map_message[] = {{offsetof(MapPirq, domain), 2, K::domain},
                                        {offsetof(MapPirq, type), 4, K::number, 5},
                                        {offsetof(MapPirq, bus), 4, K::number, 3},
                                        {offsetof(MapPirq, devfn), 4, K::number, 256},
                                        {offsetof(MapPirq, entry), 4, K::number, 4}};
inline constexpr Field unmap_pirq[] = {{offsetof(UnmapPirq, domain), 2, K::domain},
                                       {offsetof(UnmapPirq, pirq), 4, K::number, 40}};
inline constexpr Field setup_gsi[] = {{offsetof(SetupGsi, gsi), 4, K::number, 24},
                                      {offsetof(SetupGsi, triggering), 1, K::number, 2},
                                      {offsetof(SetupGsi, polarity), 1, K::number, 2}};
inline constexpr Field pci_device[] = {{offsetof(PciDevice, segment), 2, K::number, 2},
                                       {offsetof(PciDevice, bus), 1, K::number, 3},
                                       {offsetof(PciDevice, devfn), 1, K::number, 256}};

constexpr Operation plain(char const* name, H number, std::span<Field const> fields,
                          uint8_t weight = 4, Risk risk = Risk::none) {
    return {name, number, Shape::registers, 0, fields, 0, weight, false, risk};
}
template <class T, class Command>
constexpr Operation one(char const* name, H number, Command command, std::span<Field const> fields,
                        uint8_t weight = 4, Risk risk = Risk::none,
                        Shape shape = Shape::structure) {
    return {name,   number, shape, static_cast<uint64_t>(command), fields, sizeof(T),
            weight, false,  risk};
}
template <class T>
constexpr Operation event(char const* name, EventOperation command, std::span<Field const> fields,
                          uint8_t weight = 4) {
    return one<T>(name, H::event_channel_op, command, fields, weight);
}
template <class T>
constexpr Operation grant_op(char const* name, GrantOperation command,
                             std::span<Field const> fields, uint8_t weight = 4) {
    return one<T>(name, H::grant_table_op, command, fields, weight, Risk::none, Shape::listed);
}
template <class T>
constexpr Operation memory(char const* name, MemoryOperation command, std::span<Field const> fields,
                           uint8_t weight = 3) {
    return one<T>(name, H::memory_op, command, fields, weight);
}
template <class T>
constexpr Operation vcpu_op(char const* name, VcpuOperation command, std::span<Field const> fields,
                            uint8_t weight = 2, Risk risk = Risk::none) {
    return one<T>(name, H::vcpu_op, command, fields, weight, risk, Shape::of_vcpu);
}
template <class T>
constexpr Operation physdev(char const* name, PhysdevOperation command,
                            std::span<Field const> fields) {
    auto made = one<T>(name, H::physdev_op, command, fields, 1);
    made.control = true;
    return made;
}
constexpr Operation mmuext(char const* name, MmuExtCommand command, std::span<Field const> fields,
                           uint8_t weight = 3) {
    return {name,   H::mmuext_op,     Shape::mmuext, static_cast<uint64_t>(command),
            fields, sizeof(MmuExtOp), weight};
}
constexpr Operation version(char const* name, VersionOperation command,
                            std::span<Field const> fields = {}) {
    return one<FeatureInfo>(name, H::xen_version, command, fields, 1);
}

} // namespace of

inline constexpr Operation guest_operations[] = {
    of::plain("set_trap_table", abi::Hypercall::set_trap_table, of::set_trap_table, 1,
              Risk::handlers),
    {"mmu_update", abi::Hypercall::mmu_update, Shape::updates, 0, {}, sizeof(abi::MmuUpdate), 60},
    of::plain("set_gdt", abi::Hypercall::set_gdt, of::set_gdt, 6),
    of::plain("stack_switch", abi::Hypercall::stack_switch, of::stack_switch, 1),
    of::plain("set_callbacks", abi::Hypercall::set_callbacks, of::set_callbacks, 1),
    of::plain("fpu_taskswitch", abi::Hypercall::fpu_taskswitch, of::one_bit, 1),
    of::plain("set_debugreg", abi::Hypercall::set_debugreg, of::set_debugreg, 2),
    of::plain("set_debugreg 7", abi::Hypercall::set_debugreg, of::set_dr7, 1),
    of::plain("get_debugreg", abi::Hypercall::get_debugreg, of::get_debugreg, 1),
    of::plain("update_descriptor", abi::Hypercall::update_descriptor, of::update_descriptor, 6),
    {"multicall",
     abi::Hypercall::multicall,
     Shape::multicall,
     0,
     {},
     sizeof(abi::MulticallEntry),
     8},
    of::plain("update_va_mapping", abi::Hypercall::update_va_mapping, of::update_va_mapping, 30),
    of::plain("update_va_mapping multi", abi::Hypercall::update_va_mapping,
              of::update_va_mapping_multi, 2),
    of::plain("update_va_mapping_otherdomain", abi::Hypercall::update_va_mapping_otherdomain,
              of::update_va_mapping_other, 10),
    of::plain("set_timer_op", abi::Hypercall::set_timer_op, of::set_timer, 2),
    of::plain("console write", abi::Hypercall::console_io, of::write_console, 1),
    of::plain("console read", abi::Hypercall::console_io, of::read_console_input, 1),
    of::plain("vm_assist", abi::Hypercall::vm_assist, of::vm_assist, 3),
    of::plain("set_segment_base", abi::Hypercall::set_segment_base, of::set_segment_base, 2),
    of::plain("iret", abi::Hypercall::iret, of::iret, 1, Risk::handlers),
    of::plain("xsm_op", abi::Hypercall::xsm_op, of::unknown, 1),
    of::plain("hvm_op", abi::Hypercall::hvm_op, of::unknown, 1),
    of::plain("dm_op", abi::Hypercall::dm_op, of::unknown, 1),

    of::mmuext("pin L1", abi::MmuExtCommand::pin_l1_table, of::pin_l1, 8),
    of::mmuext("pin L2", abi::MmuExtCommand::pin_l2_table, of::pin_l2, 6),
    of::mmuext("pin L3", abi::MmuExtCommand::pin_l3_table, of::pin_l3, 6),
    of::mmuext("pin L4", abi::MmuExtCommand::pin_l4_table, of::pin_l4, 6),
    of::mmuext("unpin", abi::MmuExtCommand::unpin_table, of::unpin, 12),
    of::mmuext("new_baseptr", abi::MmuExtCommand::new_baseptr, of::new_root, 3),
    of::mmuext("new_user_baseptr", abi::MmuExtCommand::new_user_baseptr, of::new_user_root, 3),
    of::mmuext("tlb_flush_local", abi::MmuExtCommand::tlb_flush_local, {}, 1),
    of::mmuext("invlpg_local", abi::MmuExtCommand::invlpg_local, of::at_page, 1),
    of::mmuext("tlb_flush_multi", abi::MmuExtCommand::tlb_flush_multi, of::on_vcpus, 1),
    of::mmuext("invlpg_multi", abi::MmuExtCommand::invlpg_multi, of::on_vcpus, 1),
    of::mmuext("tlb_flush_all", abi::MmuExtCommand::tlb_flush_all, {}, 1),
    of::mmuext("invlpg_all", abi::MmuExtCommand::invlpg_all, of::at_page, 1),
    of::mmuext("flush_cache", abi::MmuExtCommand::flush_cache, {}, 1),
    of::mmuext("set_ldt", abi::MmuExtCommand::set_ldt, of::set_ldt, 4),
    of::mmuext("clear_page", abi::MmuExtCommand::clear_page, of::one_frame, 6),
    of::mmuext("copy_page", abi::MmuExtCommand::copy_page, of::two_frames, 6),
    of::mmuext("mark_super", abi::MmuExtCommand::mark_super, of::one_frame, 1),

    of::memory<abi::MemoryReservation>("increase_reservation",
                                       abi::MemoryOperation::increase_reservation, of::reserve),
    of::memory<abi::MemoryReservation>("populate_physmap", abi::MemoryOperation::populate_physmap,
                                       of::reserve, 6),
    of::memory<abi::MemoryReservation>("decrease_reservation",
                                       abi::MemoryOperation::decrease_reservation, of::give_up),
    of::memory<uint64_t>("maximum_ram_page", abi::MemoryOperation::maximum_ram_page, {}, 1),
    of::memory<uint64_t>("current_reservation", abi::MemoryOperation::current_reservation,
                         of::domain_only, 1),
    of::memory<uint64_t>("maximum_reservation", abi::MemoryOperation::maximum_reservation,
                         of::domain_only, 1),
    of::memory<uint64_t>("maximum_gpfn", abi::MemoryOperation::maximum_gpfn, of::domain_only, 1),
    of::memory<abi::MachphysMfnList>("machphys_mfn_list", abi::MemoryOperation::machphys_mfn_list,
                                     of::machphys_list, 1),
    of::memory<abi::MachphysMapping>("machphys_mapping", abi::MemoryOperation::machphys_mapping, {},
                                     1),
    of::memory<abi::MemoryMapRequest>("memory_map", abi::MemoryOperation::memory_map,
                                      of::memory_map, 1),
    of::memory<abi::MemoryMapRequest>("machine_memory_map",
                                      abi::MemoryOperation::machine_memory_map, of::memory_map, 1),
    of::memory<abi::ForeignMemoryMap>("set_memory_map", abi::MemoryOperation::set_memory_map,
                                      of::set_memory_map, 1),
    of::memory<abi::MemoryReservation>("claim_pages", abi::MemoryOperation::claim_pages, of::claim,
                                       1),
    of::memory<uint64_t>("get_vnumainfo", abi::MemoryOperation::get_vnumainfo, of::domain_only, 1),
    of::memory<uint64_t>("remove_from_physmap", abi::MemoryOperation::remove_from_physmap,
                         of::domain_only, 1),
    of::memory<abi::MemoryExchange>("exchange", abi::MemoryOperation::exchange, of::exchange<0, 0>,
                                    5),
    of::memory<abi::MemoryExchange>("exchange to larger", abi::MemoryOperation::exchange,
                                    of::exchange<0, 2>, 2),
    of::memory<abi::MemoryExchange>("exchange to smaller", abi::MemoryOperation::exchange,
                                    of::exchange<2, 0>, 2),
    of::memory<abi::AcquireResource>("acquire_resource", abi::MemoryOperation::acquire_resource,
                                     of::acquire, 2),

    of::event<abi::BindInterdomain>("bind_interdomain", abi::EventOperation::bind_interdomain,
                                    of::bind_interdomain, 10),
    of::event<abi::BindVirq>("bind_virq", abi::EventOperation::bind_virq, of::bind_virq),
    of::event<abi::BindPirq>("bind_pirq", abi::EventOperation::bind_pirq, of::bind_pirq),
    of::event<abi::EventPort>("close", abi::EventOperation::close, of::port, 6),
    of::event<abi::EventPort>("send", abi::EventOperation::send, of::port, 8),
    of::event<abi::EventStatus>("status", abi::EventOperation::status, of::event_status, 2),
    of::event<abi::AllocUnbound>("alloc_unbound", abi::EventOperation::alloc_unbound,
                                 of::alloc_unbound, 10),
    of::event<abi::BindIpi>("bind_ipi", abi::EventOperation::bind_ipi, of::bind_ipi),
    of::event<abi::BindVcpu>("bind_vcpu", abi::EventOperation::bind_vcpu, of::bind_vcpu),
    of::event<abi::EventPort>("unmask", abi::EventOperation::unmask, of::port),
    of::event<abi::EventReset>("reset", abi::EventOperation::reset, of::domain_only, 1),
    of::event<abi::InitControl>("init_control", abi::EventOperation::init_control, of::init_control,
                                3),
    of::event<abi::ExpandArray>("expand_array", abi::EventOperation::expand_array, of::expand_array,
                                3),
    of::event<abi::SetPriority>("set_priority", abi::EventOperation::set_priority, of::set_priority,
                                2),

    of::grant_op<abi::GrantMap>("map_grant_ref", abi::GrantOperation::map_grant_ref, of::map_grant,
                                16),
    of::grant_op<abi::GrantMap>("map_grant_ref by entry", abi::GrantOperation::map_grant_ref,
                                of::map_grant_by_entry, 6),
    of::grant_op<abi::GrantUnmap>("unmap_grant_ref", abi::GrantOperation::unmap_grant_ref,
                                  of::unmap_grant, 10),
    of::grant_op<abi::GrantUnmap>("unmap_grant_ref by entry", abi::GrantOperation::unmap_grant_ref,
                                  of::unmap_grant_by_entry, 4),
    of::grant_op<abi::GrantUnmapAndReplace>(
        "unmap_and_replace", abi::GrantOperation::unmap_and_replace, of::unmap_and_replace),
    of::grant_op<abi::GrantSetupTable>("setup_table", abi::GrantOperation::setup_table,
                                       of::setup_table, 3),
    of::grant_op<abi::GrantTransfer>("transfer", abi::GrantOperation::transfer, of::transfer, 1),
    of::grant_op<abi::GrantCopy>("copy between references", abi::GrantOperation::copy,
                                 of::grant_copy<true, true>),
    of::grant_op<abi::GrantCopy>("copy from reference", abi::GrantOperation::copy,
                                 of::grant_copy<true, false>, 6),
    of::grant_op<abi::GrantCopy>("copy to reference", abi::GrantOperation::copy,
                                 of::grant_copy<false, true>),
    of::grant_op<abi::GrantCopy>("copy between frames", abi::GrantOperation::copy,
                                 of::grant_copy<false, false>, 1),
    of::grant_op<abi::GrantQuerySize>("query_size", abi::GrantOperation::query_size, of::query_size,
                                      1),
    of::grant_op<abi::GrantSetVersion>("set_version", abi::GrantOperation::set_version,
                                       of::set_version),
    of::grant_op<abi::GrantGetStatusFrames>(
        "get_status_frames", abi::GrantOperation::get_status_frames, of::get_status_frames, 2),
    of::grant_op<abi::GrantGetVersion>("get_version", abi::GrantOperation::get_version,
                                       of::get_version, 1),
    of::grant_op<abi::GrantSwap>("swap_grant_ref", abi::GrantOperation::swap_grant_ref,
                                 of::swap_references),
    of::grant_op<uint64_t>("cache_flush", abi::GrantOperation::cache_flush, {}, 1),

    of::one<uint64_t>("yield", abi::Hypercall::sched_op, abi::SchedOperation::yield, {}, 3),
    of::one<uint64_t>("block", abi::Hypercall::sched_op, abi::SchedOperation::block, {}, 1,
                      Risk::sleep),
    of::one<abi::SchedShutdown>("shutdown", abi::Hypercall::sched_op, abi::SchedOperation::shutdown,
                                of::shutdown, 1, Risk::end),
    of::one<abi::SchedPoll>("poll", abi::Hypercall::sched_op, abi::SchedOperation::poll, of::poll,
                            3),
    of::one<abi::SchedRemoteShutdown>("remote_shutdown", abi::Hypercall::sched_op,
                                      abi::SchedOperation::remote_shutdown, of::remote_shutdown, 1),
    of::one<abi::SchedShutdown>("shutdown_code", abi::Hypercall::sched_op,
                                abi::SchedOperation::shutdown_code, of::shutdown, 1, Risk::end),
    of::one<abi::SchedWatchdog>("watchdog", abi::Hypercall::sched_op, abi::SchedOperation::watchdog,
                                {}, 1),

    of::vcpu_op<uint64_t>("initialise", abi::VcpuOperation::initialise, of::context_pointer, 2),
    of::vcpu_op<uint64_t>("up", abi::VcpuOperation::up, {}, 4),
    of::vcpu_op<uint64_t>("down", abi::VcpuOperation::down, {}, 1, Risk::sleep),
    of::vcpu_op<uint64_t>("is_up", abi::VcpuOperation::is_up, {}, 1),
    of::vcpu_op<abi::RunstateInfo>("get_runstate_info", abi::VcpuOperation::get_runstate_info, {},
                                   1),
    of::vcpu_op<abi::MemoryArea>("register_runstate_area",
                                 abi::VcpuOperation::register_runstate_memory_area, of::area),
    of::vcpu_op<abi::MemoryArea>("register_time_area",
                                 abi::VcpuOperation::register_vcpu_time_memory_area, of::area),
    of::vcpu_op<abi::SetPeriodicTimer>("set_periodic_timer", abi::VcpuOperation::set_periodic_timer,
                                       of::periodic, 1),
    of::vcpu_op<uint64_t>("stop_periodic_timer", abi::VcpuOperation::stop_periodic_timer, {}, 1),
    of::vcpu_op<abi::SetSingleshotTimer>("set_singleshot_timer",
                                         abi::VcpuOperation::set_singleshot_timer, of::singleshot),
    of::vcpu_op<uint64_t>("stop_singleshot_timer", abi::VcpuOperation::stop_singleshot_timer, {},
                          1),
    of::vcpu_op<abi::RegisterVcpuInfo>("register_vcpu_info", abi::VcpuOperation::register_vcpu_info,
                                       of::register_info, 1),
    of::vcpu_op<uint64_t>("send_nmi", abi::VcpuOperation::send_nmi, {}, 1),
    of::vcpu_op<uint64_t>("get_physid", abi::VcpuOperation::get_physid, {}, 1),

    of::one<abi::CallbackRegister>("register_callback", abi::Hypercall::callback_op,
                                   abi::CallbackOperation::register_callback, of::register_callback,
                                   2),
    of::one<abi::CallbackUnregister>("unregister_callback", abi::Hypercall::callback_op,
                                     abi::CallbackOperation::unregister_callback,
                                     of::unregister_callback, 1),
    of::one<abi::NmiCallback>("nmi register", abi::Hypercall::nmi_op,
                              abi::NmiOperation::register_callback, of::nmi_callback, 1),
    of::one<abi::NmiCallback>("nmi unregister", abi::Hypercall::nmi_op,
                              abi::NmiOperation::unregister_callback, {}, 1),

    of::version("version", abi::VersionOperation::version),
    of::version("extra_version", abi::VersionOperation::extra_version),
    of::version("compile_info", abi::VersionOperation::compile_info),
    of::version("capabilities", abi::VersionOperation::capabilities),
    of::version("changeset", abi::VersionOperation::changeset),
    of::version("platform_parameters", abi::VersionOperation::platform_parameters),
    of::version("get_features", abi::VersionOperation::get_features, of::feature_index),
    of::version("page_size", abi::VersionOperation::page_size),
    of::version("guest_handle", abi::VersionOperation::guest_handle),
    of::version("command_line", abi::VersionOperation::command_line),
    of::version("build_id", abi::VersionOperation::build_id),

    of::physdev<abi::PhysdevEoi>("eoi", abi::PhysdevOperation::eoi, of::pirq),
    of::physdev<abi::IrqStatusQuery>("irq_status_query", abi::PhysdevOperation::irq_status_query,
                                     of::pirq),
    of::physdev<abi::PirqEoiGmfn>("pirq_eoi_gmfn", abi::PhysdevOperation::pirq_eoi_gmfn_v2,
                                  of::eoi_frame),
    of::physdev<abi::SetIopl>("set_iopl", abi::PhysdevOperation::set_iopl, of::one_bit),
    of::physdev<abi::SetIobitmap>("set_iobitmap", abi::PhysdevOperation::set_iobitmap,
                                  of::io_bitmap),
    of::physdev<abi::PhysdevApic>("apic_read", abi::PhysdevOperation::apic_read, of::io_apic),
    of::physdev<abi::PhysdevApic>("apic_write", abi::PhysdevOperation::apic_write, of::io_apic),
    of::physdev<abi::PhysdevIrq>("alloc_irq_vector", abi::PhysdevOperation::alloc_irq_vector,
                                 of::pirq),
    of::physdev<abi::MapPirq>("map_pirq", abi::PhysdevOperation::map_pirq, of::map_pirq),
    of::physdev<abi::MapPirq>("map_pirq message", abi::PhysdevOperation::map_pirq, of::map_message),
    of::physdev<abi::UnmapPirq>("unmap_pirq", abi::PhysdevOperation::unmap_pirq, of::unmap_pirq),
    of::physdev<abi::SetupGsi>("setup_gsi", abi::PhysdevOperation::setup_gsi, of::setup_gsi),
    of::physdev<abi::PciMmcfgReserved>("pci_mmcfg_reserved",
                                       abi::PhysdevOperation::pci_mmcfg_reserved, {}),
    of::physdev<abi::PciDeviceAdd>("pci_device_add", abi::PhysdevOperation::pci_device_add,
                                   of::pci_device),
    of::physdev<abi::PciDevice>("pci_device_remove", abi::PhysdevOperation::pci_device_remove,
                                of::pci_device),
    of::physdev<abi::PciDevice>("restore_msi", abi::PhysdevOperation::restore_msi_ext,
                                of::pci_device),
    of::physdev<abi::PciDevice>("prepare_msix", abi::PhysdevOperation::prepare_msix,
                                of::pci_device),
};

} // namespace hearth::grammar
