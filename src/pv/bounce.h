// Making a PV guest run one of its handlers: frames on its kernel stack, and events.
#pragma once

#include "pv/vcpu.h"

namespace hearth::pv {

/// Enters the guest's handler for a processor exception, as if raised at its current instruction.
/// Crashes a guest that has none, or whose stack cannot take the frame.
void deliver_trap(PvVcpu& vcpu, Vector vector, uint32_t error_code = 0);
void deliver_page_fault(PvVcpu& vcpu, uint64_t address, uint32_t error_code);
/// `int n` of the guest's, which has that handler; rip is already behind it.
void deliver_software_interrupt(PvVcpu& vcpu, TrapHandler const& handler);
/// A system call by one of the callbacks.
void deliver_callback(PvVcpu& vcpu, Handler const& handler);
/// The one for `syscall`, which there is, from user mode. False: the guest has crashed, and where
/// it stands may be no place to go back to.
[[nodiscard]] bool deliver_system_call(PvVcpu& vcpu, Registers& registers);
/// The guest's own return state could not be loaded.
void deliver_failsafe(PvVcpu& vcpu);
/// Enters the event callback, if there is one; events are pending and not masked.
void deliver_event(PvVcpu& vcpu);
/// Enters the NMI's callback if one is pending, else the event callback if one is due.
void deliver_pending(PvVcpu& vcpu);

} // namespace hearth::pv
