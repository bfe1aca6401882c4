// What a paravirtualised vCPU has beyond any vCPU's: the guest's handlers, tables and segments.
#pragma once

#include "arch/registers.h"
#include "domain/domain.h"
#include "pv/trap_table.h"

namespace hearth::pv {

/// An entry point of the guest kernel's.
struct Handler {
    uint64_t address = 0;
    bool masks_events = false;
};

inline constexpr unsigned gdt_guest_frames = 14;
inline constexpr unsigned ldt_frames = 16;

/// An entry path that saves the guest's registers where the ABI's next instruction expects them.
struct PvVcpu final : Vcpu {
    PvVcpu(Domain& owner, unsigned number) : Vcpu{owner, number} {}

    // Address spaces: top-level tables, each held by a type reference. Invalid: none.
    Mfn kernel_table = invalid_mfn;
    Mfn user_table = invalid_mfn;
    bool kernel_mode = true;

    TrapTable traps;
    Handler event_callback, failsafe_callback, syscall_callback, syscall32_callback,
        sysenter_callback;
    /// Who sets the one sets the other: a callback is the trap table's vector 2.
    static constexpr uint8_t nmi_vector = static_cast<uint8_t>(Vector::nmi);
    uint64_t kernel_sp = 0;
    uint64_t kernel_ss = 0;
    bool task_switched = false; // the guest's CR0.TS
    uint64_t cr4 = 0;           // what is the guest's own of it
    uint64_t iopl = 0;          // where rflags has it; the processor's own is 0
    uint64_t io_bitmap = 0;     // linear address in the guest; 0: none
    uint32_t io_bitmap_ports = 0;
    uint64_t debug[8]{};

    // Segments while it is not on a CPU. The base that the mode in use has is `active`.
    uint16_t ds = 0, es = 0, fs = 0, gs = 0;
    uint64_t fs_base = 0;
    uint64_t gs_base_active = 0;
    uint64_t gs_base_other = 0;
    uint32_t tsc_aux = 0;
    uint64_t speculation_control = 0; // its SPEC_CTRL

    Mfn gdt[gdt_guest_frames];
    unsigned gdt_entries = 0;
    uint64_t ldt_base = 0;
    unsigned ldt_entries = 0;
    Mfn ldt[ldt_frames]; // mapped on first use
    uint64_t window = 0; // linear address of its GDT and LDT pages

    void* fpu = nullptr; // XSAVE area, behind this object
    uint64_t xcr0 = 0;
    Hint<int> loaded_on{-1}; // CPU whose registers still hold its segments and FPU

    abi::VcpuInfo* first_info = nullptr; // of a vCPU that has no place in the shared info page

    void switch_in() override;
    void switch_out() override;

    /// The guest's registers, at the top of its stack.
    [[nodiscard]] Registers& registers() const {
        return *reinterpret_cast<Registers*>(stack_end() - 16 - sizeof(Registers));
    }
    [[nodiscard]] Mfn active_table() const { return kernel_mode ? kernel_table : user_table; }
};

inline PvVcpu& pv_vcpu(Vcpu& vcpu) { return static_cast<PvVcpu&>(vcpu); }
/// The thread being a vCPU's.
inline PvVcpu& pv_vcpu(Thread& thread) { return static_cast<PvVcpu&>(thread); }
PvVcpu& current();

/// Notes which selectors a vCPU that runs here has loaded.
void save_selectors(PvVcpu& vcpu);

/// CPUs that ran them last forget them; they must have parked. What a CPU is looking at just now
/// stays until it passes a preemption point.
void forget(PvVcpu& vcpu);
void forget(Domain& domain);

} // namespace hearth::pv
