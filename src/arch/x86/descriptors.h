// Descriptor tables: segments that the ABI fixes, the IDT, and each CPU's TSS with its stacks.
#pragma once

#include "base/address.h"

#include <cstdint>

namespace hearth::arch {

/// On the CPU that calls it, once: loads GDT, IDT and TSS and points `syscall` and `sysenter` at
/// entry.S. `interrupt_stacks` is one 16 KiB block, aligned, that NMI, #DF and #MC share in parts.
void initialise_descriptor_tables(unsigned cpu, uint64_t interrupt_stacks,
                                  uint64_t* stack_top_word);
/// Where entries from guests start: the end of the running vCPU's stack.
void set_entry_stack(unsigned cpu, uint64_t top);
uint64_t entry_stack(unsigned cpu);

/// The page that stands at selector 0xe000 of every guest's GDT: Hearth's own segments, read-only.
void const* reserved_gdt_page();
void load_gdt_window(uint64_t base);
/// Loads the LDT register; leaves this CPU's own GDT loaded. No entries: no LDT.
void load_ldt(unsigned cpu, uint64_t base, unsigned entries);

} // namespace hearth::arch
