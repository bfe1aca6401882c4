// A domain: an operating system's share of the machine. And its vCPUs.
#pragma once

#include "abi/operations.h"
#include "abi/xen.h"
#include "base/lock.h"
#include "base/result.h"
#include "console/log.h"
#include "cpu/mask.h"
#include "cpuid/features.h"
#include "domain/permissions.h"
#include "memory/page.h"
#include "sched/mutex.h"
#include "sched/thread.h"
#include "time/timer.h"

#include <algorithm>
#include <atomic>
#include <string_view>
#include <utility>

namespace hearth {

class EventTable; // event/
struct Grants;    // grant/
class DirtyLog;   // domain/dirty_log.h
struct Vcpu;
namespace pv {
class Shadow;
}

inline constexpr unsigned max_domain_vcpus = 128;
inline constexpr DomainId max_domains = 1024;

inline constexpr uint32_t not_shut_down = ~uint32_t{0};
inline constexpr uint32_t no_shutdown_code = ~uint32_t{0};

/// The frames that a domain owns.
struct PageList {
    FrameList frames;
    uint64_t count = 0;
    uint64_t shared = 0;  // frames that Hearth shares with it; not in the list
    uint64_t claimed = 0; // promised to allocations under way
    uint64_t staked = 0;  // kept free for it by claim_pages
    uint64_t maximum = 0;
    uint32_t exchanges = 0; // under way
    bool closed = false;    // its end has begun: no more frames
    bool closing = false;   // the last frame to go drops a reference to the domain
};

/// The memory map that a guest of the toolstack's is told. Null: none.
struct GuestMemoryMap {
    abi::E820Entry* entries = nullptr;
    uint32_t count = 0;
};

/// What the toolstack says of a domain; kept for it.
struct DomainSettings {
    uint8_t handle[16] = {};
    uint32_t security_id = 0;
    uint32_t flags = 0; // of createdomain
    uint32_t max_vcpus = 0;
    uint32_t emulation_flags = 0;
    int64_t time_offset = 0; // of its wall clock, s
    uint32_t tsc_incarnation = 0;
    uint32_t weight = 256;     // of each vCPU
    uint32_t cap = 0;          // percent of one CPU, for all vCPUs together; 0: none
    uint32_t suspend_port = 0; // hears when it has suspended; 0: the toolstack does
    bool debugging = false;
    bool invariant_tsc = false; // shown where there is one: it will not be migrated
    uint32_t allowed_features[feature_words];

    DomainSettings() { std::fill_n(allowed_features, feature_words, ~0u); }
};

struct Domain {
    DomainId id = domid_invalid;
    /// What keeps its structures in being: one while it is alive, one while it owns frames, and
    /// each DomainRef.
    std::atomic<uint32_t> references{2};
    bool privileged = false;            // may use the control interface
    bool hardware = false;              // owns the machine's devices
    bool absent_entries_matter = false; // of its page tables: they may name no memory
    /// Held during control operations on the domain; guards what they change. Never taken for the
    /// domain's own hypercalls: who holds it may be waiting for the caller to come to its border.
    Mutex control;
    DomainSettings settings;
    static constexpr uint32_t no_cpu_pool = ~uint32_t{0};
    std::atomic<uint32_t> cpu_pool{no_cpu_pool};        // none: it is being made, or ends
    Guarded<Permissions*, Rank::page_list> permissions; // null: none yet
    std::atomic<bool> may_map_devices{false};           // its permissions had frames at some time
    std::atomic<uint32_t> pci_address{0};               // what it last wrote to port 0xcf8
    Cap cap;                                            // of its vCPUs, where the settings have one
    unsigned toolstack_pauses = 0;
    /// Reasons for which no vCPU may enter the guest.
    std::atomic<unsigned> pauses{0};
    /// Somebody is about to end it: what its vCPUs have begun need not be finished.
    std::atomic<bool> doomed{false};
    std::atomic<bool> dying{false};
    unsigned vcpu_count = 0;
    Vcpu* vcpus[max_domain_vcpus]{};
    abi::SharedInfo* shared_info = nullptr;
    Mfn shared_info_frame = invalid_mfn;
    std::atomic<uint64_t> vm_assist{0};
    std::atomic<uint32_t> pollers{0}; // how many of its vCPUs are `polling`
    /// CPUs whose TLB may hold this domain's translations.
    std::atomic<uint64_t> dirty_cpus{0};
    Guarded<PageList, Rank::page_list> pages;
    EventTable* events = nullptr;
    Grants* grants = nullptr;
    /// While the toolstack wants to know which frames are written to. What these point to holds
    /// until the next preemption point, or under `control`.
    std::atomic<DirtyLog*> dirty_log{nullptr};
    std::atomic<pv::Shadow*> shadow{nullptr};
    /// Why it has shut down, as it says itself.
    std::atomic<uint32_t> shutdown{not_shut_down};
    /// What the next shutdown is to report, whatever its own reason.
    std::atomic<uint32_t> latched_shutdown_code{no_shutdown_code};

    Guarded<GuestMemoryMap, Rank::domain> memory_map;

    Domain* next_unreferenced = nullptr; // in the list of those that are only to be freed

    [[nodiscard]] bool is_shut_down() const {
        return shutdown.load(std::memory_order_acquire) != not_shut_down;
    }
    [[nodiscard]] bool may_run() const {
        return shutdown.load(std::memory_order_relaxed) == not_shut_down &&
               pauses.load(std::memory_order_relaxed) == 0;
    }
    [[nodiscard]] bool assists(abi::VmAssist what) const {
        return vm_assist.load(std::memory_order_relaxed) >> static_cast<unsigned>(what) & 1;
    }
    [[nodiscard]] CpuMask dirty() const { return {dirty_cpus.load(std::memory_order_acquire)}; }
    [[nodiscard]] Vcpu* vcpu(uint64_t n) const {
        return n < vcpu_count ? vcpus[clamp(n)] : nullptr;
    }

private:
    [[nodiscard]] uint64_t clamp(uint64_t n) const;
};

/// Who asked: the calling vCPU, and the domain that it belongs to.
struct Context {
    Vcpu& vcpu;
    Domain& domain;

    /// Asked on the way through a list of the guest's, which may be as long as it likes: its vCPU
    /// comes to its border before that when the domain is to end.
    [[nodiscard]] bool may_go_on() const { return !domain.doomed.load(std::memory_order_relaxed); }
};

/// In such loops whose steps are short, behind each: a preemption point after each `steps` of them,
/// and then whether to go on. `step` counts from 0.
inline bool goes_on_after(Context const& context, unsigned steps, uint64_t step) {
    if (step % steps != steps - 1)
        return true;
    preempt_point();
    return context.may_go_on();
}

/// Whether a vCPU has a context to run with. Only one caller at a time gets to give it one.
enum class VcpuSetup : uint8_t { none, under_way, done };

struct Vcpu : Thread {
    Vcpu(Domain& owner, unsigned number);

    Domain& domain;
    Context as_caller{*this, domain};
    unsigned const id;
    abi::VcpuInfo* info = nullptr;
    std::atomic<bool> info_registered{false}; // by whoever comes first
    /// Where the guest registered its own; empty: in the shared info page or nowhere.
    PageRef info_page;
    std::atomic<VcpuSetup> setup{VcpuSetup::none};
    std::atomic<bool> online{false};
    std::atomic<bool> polling{false};
    CpuMask hard_affinity = any_cpu; // where it may run, of what its CPU pool has
    std::atomic<bool> nmi_pending{false};
    GuestAddress runstate_area{0};
    GuestAddress time_area{0};
    bool time_area_stale = false;
    uint32_t virq_ports[abi::virq_count]{};
    uint32_t poll_port = 0;
    Timer singleshot;
    Timer periodic;
    uint64_t period = 10'000'000; // ns; 0: stopped
    std::atomic<bool> poll_timeout{false};
    Timer poll_timer;

    void describe(char* text, unsigned size) const override;
    /// Whether an event waits for it; others set this at any time.
    [[nodiscard]] bool upcall_pending() const {
        return __atomic_load_n(&info->upcall_pending, __ATOMIC_ACQUIRE) != 0;
    }
    [[nodiscard]] bool upcall_due() const { return upcall_pending() && !info->upcall_mask; }
    /// It parks at the border to the guest, and leaves what it sleeps in to get there.
    [[nodiscard]] bool must_stay_out() const {
        return !domain.may_run() || !online.load(std::memory_order_relaxed);
    }

protected:
    ~Vcpu() = default;
};

/// Keeps a domain's structures in being across preemption points. Move-only; releases itself.
class DomainRef {
    Domain* domain_ = nullptr;
    explicit DomainRef(Domain* domain) : domain_{domain} {}

public:
    DomainRef(DomainRef&& other) noexcept : domain_{std::exchange(other.domain_, nullptr)} {}
    DomainRef& operator=(DomainRef&& other) noexcept {
        std::swap(domain_, other.domain_);
        return *this;
    }
    ~DomainRef();
    /// srch: there is none of that number, or it is going.
    static Result<DomainRef> find(DomainId id);
    static DomainRef to(Domain& domain);
    /// Takes over a reference that release() left.
    static DomainRef adopt(Domain& domain) { return DomainRef{&domain}; }
    Domain& release() { return *std::exchange(domain_, nullptr); }

    [[nodiscard]] Domain& operator*() const { return *domain_; }
    [[nodiscard]] Domain* operator->() const { return domain_; }
};

/// The domain of that number, or null. The pointer holds until the next preemption point or sleep:
/// nothing is freed before each CPU has passed one. Beyond that a DomainRef is needed.
Domain* find_domain(DomainId id);
/// The domain that a hypercall's argument names: DOMID_SELF, the caller's own, or another's if the
/// caller is privileged. srch: no such domain; perm.
Result<DomainRef> target_domain(Context const& context, DomainId id);
/// Puts the domain into the table. exist: the number is taken.
Result<> register_domain(Domain& domain);
/// Drops one of the references that `Domain::references` names.
void drop_domain_reference(Domain& domain);
/// Nothing refers to the domain any more, which has left the table; owned by control/. Any lock may
/// be held.
void domain_unreferenced(Domain& domain);

/// Marks frames as the domain's: owner, books, references. They come from allocate_frames().
void give_frames_to(Domain& domain, Mfn first, uint64_t count);
/// A fresh zeroed frame of the domain's. nomem.
Result<Mfn> allocate_guest_frame(Domain& domain);
/// For structures that Hearth shares with it: not counted against its reservation, and never freed
/// while in use, since one reference is the caller's.
Result<Mfn> allocate_shared_frame(Domain& domain);
/// One that never was anybody's after all.
void free_shared_frame(Mfn mfn);
/// Gives such a frame up; it is freed when nobody maps it any more.
void release_shared_frame(Domain& domain, Mfn mfn);
/// Drops the owner's reference: the frame is freed when nobody uses it any more. inval if already
/// dropped.
Result<> drop_owners_reference(Mfn mfn);

/// Ends the domain's ownership of frames: each whose owner's reference still stands loses it, and
/// its pin with it. May reschedule.
void give_up_frames(Domain& domain);
/// Drops a pin of a frame's; owned by the guest mode's folder.
void drop_pin(Domain& domain, Mfn mfn);

/// Keeps the vCPUs out of the guest; returns when each of them has come to its border, where its
/// state is the architecture's. Counted. Not for the caller's own domain. May reschedule.
void pause_domain(Domain& domain);
void unpause_domain(Domain& domain);

/// Its next tick is a period from now, if it is up and has a period.
void run_periodic_timer(Vcpu& vcpu);

/// Has a vCPU look at its border whether it may go on: what says so has been changed.
void call_to_border(Vcpu& vcpu);

/// The guest made a mistake that it cannot survive: says why, with its registers, and stops it.
void crash_domain(Domain& domain, std::string_view reason);
void shutdown_domain(Domain& domain, uint32_t reason);

/// Called when a domain shut down; owned by control/. Domain 0's means the machine's.
void domain_was_shut_down(Domain& domain);
/// Sends a virtual interrupt to a vCPU, or to a domain's vCPU 0; owned by event/.
void send_virq(Vcpu& vcpu, uint32_t virq);
void send_domain_virq(Domain& domain, uint32_t virq);
/// Sends one that is the machine's to the domain that handles it: Domain 0, or who was told to.
void send_global_virq(uint32_t virq);
/// inval: a virtual interrupt that each vCPU or domain has for itself.
Result<> handle_global_virq(Domain& domain, uint32_t virq);
/// What it handled is Domain 0's again.
void forget_virq_handler(DomainId gone);
/// As if the domain sent on its own port; owned by event/.
void send_from(Domain& domain, uint32_t port);
void send_nmi(Vcpu& vcpu);
/// Registers of the running guest, for messages; owned by the guest mode's folder.
void print_guest_state(LogSource source, Vcpu& vcpu);

/// The version counters tell a guest that reads along whether it saw a whole update. Of a domain
/// that comes to its end, nothing.
void update_wall_clock(Domain& domain);
void update_time_info(Vcpu& vcpu);

} // namespace hearth
