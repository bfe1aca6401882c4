// What the folder of each guest mode provides for the layers above it.
#pragma once

#include "domain/domain.h"

#include <span>

namespace hearth::abi {
struct DomctlExtendedContext;
struct VcpuMsr;
} // namespace hearth::abi

namespace hearth {

struct GuestLimits {
    uint32_t vcpus = 1;
    int32_t grant_frames = -1, maptrack_frames = -1; // below 0: the default
    uint32_t grant_version = 2;                      // the highest that it may choose
    uint32_t event_ports = ~0u;
};
/// A guest of the toolstack's: in the table of domains, paused, without vCPUs or memory. exist,
/// nomem.
Result<Domain*> make_guest(DomainId id, GuestLimits const& limits);
/// Its vCPUs, up to the limit; none of them runs yet. nomem: those that there was memory for exist.
Result<> create_guest_vcpus(Domain& domain);

/// Whether an NMI waits for the vCPU, and its guest has a handler for it.
bool nmi_is_due(Vcpu const& vcpu);

/// Brings a vCPU up from a context that its guest gave. exist: it has one; inval, fault, nomem.
Result<> initialise_vcpu(Vcpu& vcpu, uint64_t guest_context);

// A vCPU's state, while its domain is paused.
/// As the toolstack gives it: all of it to begin with; later registers and handlers only. inval.
Result<> load_vcpu_context(Vcpu& vcpu, abi::VcpuGuestContext const& context);
/// Into a zeroed context.
void store_vcpu_context(Vcpu& vcpu, abi::VcpuGuestContext& context);
Result<> load_extended_context(Vcpu& vcpu, abi::DomctlExtendedContext const& context);
void store_extended_context(Vcpu& vcpu, abi::DomctlExtendedContext& context);
/// Its FPU state in the layout of XSAVE, which bits of XCR0 there are, and its XCR0.
struct ExtendedState {
    std::span<std::byte const> area;
    uint64_t features, xcr0;
};
ExtendedState extended_state(Vcpu& vcpu);
/// inval: an XCR0, or components, that are not for guests here.
Result<> load_extended_state(Vcpu& vcpu, uint64_t xcr0, std::span<std::byte const> area);
/// Registers that no context names, and which of them are not 0: how many it has put out.
inline constexpr unsigned most_vcpu_msrs = 2;
unsigned store_msrs(Vcpu const& vcpu, std::span<abi::VcpuMsr, most_vcpu_msrs> out);
/// inval: none of these, or nothing that the guest could write there itself.
Result<> load_msr(Vcpu& vcpu, abi::VcpuMsr const& msr);

/// Fills a guest's frame with the entry points of its hypercalls. inval.
Result<> write_hypercall_page(Domain& domain, uint64_t frame);
struct FrameUse {
    uint8_t table_level; // 0: no table
    bool pinned;
};
FrameUse frame_use(Mfn mfn);

// Its dirty log (domain/dirty_log.h). The domain's `control` is held.
/// Begins it: everything that the domain, which is paused, writes to from now on is noted. nomem.
Result<> start_logging(Domain& domain);
/// Ends it, if there is one. The domain is paused. May reschedule.
void stop_logging(Domain& domain);
/// Has what was noted before noted again when it is written to again. May reschedule.
void watch_writes_anew(Domain& domain);

/// Takes from a domain's vCPUs, which have parked for good, all that they hold of its memory. May
/// reschedule.
void release_guest_state(Domain& domain);
/// Frees the structures of a domain and its vCPUs, which nobody can reach any more.
void free_domain(Domain& domain);
/// Port access of the guest's kernel and user mode.
void set_io_privilege(Vcpu& vcpu, uint8_t iopl);
void set_io_bitmap(Vcpu& vcpu, uint64_t bitmap, uint32_t ports);

} // namespace hearth
