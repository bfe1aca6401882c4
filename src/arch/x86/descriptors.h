// Descriptor tables: segments that the ABI fixes, the IDT, and each CPU's TSS with its stacks.
#pragma once

#include "base/address.h"

#include <array>
#include <cstdint>

namespace hearth::arch {

/// On the CPU that calls it, once: loads GDT, IDT and TSS and points `syscall` and `sysenter` at
/// entry.S. `interrupt_stacks` is one 16 KiB block, aligned, that NMI, #DF and #MC share in parts.
void initialise_descriptor_tables(unsigned cpu, uint64_t interrupt_stacks,
                                  uint64_t* stack_top_word);
/// Where entries from guests start: the end of the running vCPU's stack.
void set_entry_stack(unsigned cpu, uint64_t top);
uint64_t entry_stack(unsigned cpu);

/// On the first CPU, before the others start: entries from guests, and exits to them, change the
/// address space on the way, in airlocks (arch/x86/airlock.S). Their pages are mapped, and Hearth's
/// own tables loaded.
void use_airlocks();
/// Between two domains on this CPU: what entries of the one have left there is wiped out.
void empty_airlock(unsigned cpu);
struct AddressRange {
    uint64_t start, end;
};
using PartsForEntry = std::array<AddressRange, 4>;
/// What of Hearth's is in use on the CPU in its guests' address space then; the airlock is last.
PartsForEntry parts_for_entry(unsigned cpu);

/// The page that stands at selector 0xe000 of every guest's GDT: Hearth's own segments, read-only.
void const* reserved_gdt_page();
void load_gdt_window(uint64_t base);
/// Loads the LDT register; leaves this CPU's own GDT loaded. No entries: no LDT.
void load_ldt(unsigned cpu, uint64_t base, unsigned entries);

} // namespace hearth::arch
