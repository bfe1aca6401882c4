#include "memory/tlb.h"

#include "arch/intrinsics.h"
#include "base/atomic.h"
#include "base/lock.h"
#include "cpu/cpu.h"
#include "memory/guest_view.h"
#include "memory/layout.h"
#include "memory/paging.h"

#include <utility>

namespace hearth {
namespace {

constinit std::atomic<uint64_t> stale_clock{1};

constinit bool space_tags_in_use = false;
constinit bool invalidates_by_tag = false;

/// One request at a time: which CPUs have yet to serve it, and what it asks.
enum class FlushKind : uint8_t { everything, page, evict };
struct Flush {
    FlushKind kind;
    uint64_t address; // page: linear; evict: of the top-level table
};
struct FlushRequest {
    std::atomic<uint64_t> waiting{0};
    Flush what{};
};
constinit FlushRequest request;
constinit SpinLock<Rank::flush> request_lock;

void flush_here(Flush const& what) {
    switch (what.kind) {
    case FlushKind::everything:
        return flush_local_tlb();
    case FlushKind::page:
        return flush_local_page(what.address);
    case FlushKind::evict:
        if (this_cpu().space.cr3 == what.address)
            load_address_space(idle_cr3());
    }
}

CpuMask holders_of(uint64_t cr3) {
    CpuMask holders;
    online_cpus().each([&](unsigned cpu) {
        if (std::atomic_ref{cpu_block(cpu).space.cr3}.load(std::memory_order_acquire) == cr3)
            holders = holders | CpuMask::of(cpu);
    });
    return holders;
}

/// Those of the CPUs on which somebody runs. The others will drop everything before somebody does.
CpuMask in_use(CpuMask cpus) {
    CpuMask used;
    cpus.each([&](unsigned cpu) {
        auto expected = SpaceUse::nobody;
        cpu_block(cpu).space.use.compare_exchange_strong(expected, SpaceUse::nobody_and_stale);
        if (expected == SpaceUse::somebody)
            used = used | CpuMask::of(cpu);
    });
    return used;
}

void flush_on(CpuMask cpus, Flush const& what, IdleCpus idle) {
    cpus = cpus & online_cpus();
    unsigned const self = this_cpu_id();
    if (cpus.has(self))
        flush_here(what);
    cpus = cpus.without(self);
    if (idle == IdleCpus::later)
        cpus = in_use(cpus);
    if (cpus.empty())
        return;
    LockGuard guard{request_lock};
    request.what = what;
    request.waiting.store(cpus.bits, std::memory_order_release);
    send_ipi(cpus, Ipi::flush_tlb);
    while (request.waiting.load(std::memory_order_acquire) != 0)
        arch::pause();
}

} // namespace

uint64_t stale_from_now() { return stale_clock.fetch_add(1, std::memory_order_acq_rel); }

constinit bool spaces_are_kept = false;

void use_space_tags(bool invpcid) {
    spaces_are_kept = space_tags_in_use = true;
    invalidates_by_tag = invpcid;
}

namespace {
uint64_t tagged(uint64_t cr3, SpaceTag tag, bool keeps) {
    if (!space_tags_in_use)
        return cr3;
    return cr3 | static_cast<uint64_t>(tag) | (keeps ? arch::cr3::no_flush : 0);
}

/// Whether the tag last stood for the same space, and nothing of that was dropped since.
bool keep(LoadedSpace& mine, SpaceTag tag, uint64_t cr3) {
    return std::exchange(mine.kept[static_cast<unsigned>(tag)], cr3) == cr3;
}
bool is_kept(LoadedSpace const& mine, SpaceTag tag) {
    return mine.kept[static_cast<unsigned>(tag)] != 0;
}
void drop(LoadedSpace& mine, SpaceTag tag) { mine.kept[static_cast<unsigned>(tag)] = 0; }

/// Drops all of this CPU's translations with the tag that is loaded. Others hear of the new space
/// when the old one is not in use any more: what nobody has loaded may go.
void load_afresh(LoadedSpace& mine, uint64_t cr3, SpaceTag tag = SpaceTag::none) {
    uint64_t const now = stale_clock.load(std::memory_order_acquire);
    arch::write_cr3(tagged(cr3, tag, false));
    std::atomic_ref{mine.cr3}.store(cr3, std::memory_order_release);
    mine.clock.store(now, std::memory_order_release);
}

void load(LoadedSpace& mine, uint64_t cr3, SpaceTag tag) {
    if (!spaces_are_kept)
        return load_afresh(mine, cr3);
    // What other tags have is not dropped now, but before it can be used again.
    for (uint64_t& kept : mine.kept)
        kept = 0;
    (void)keep(mine, tag, cr3);
    mine.tag = tag;
    load_afresh(mine, cr3, tag);
}
} // namespace

void load_address_space(uint64_t cr3, SpaceTag tag) { load(this_cpu().space, cr3, tag); }

// Twice in every system call of a user process.
[[gnu::always_inline]] void switch_address_space(uint64_t cr3, SpaceTag tag) {
    LoadedSpace& mine = this_cpu().space;
    if (!spaces_are_kept)
        return load_afresh(mine, cr3);
    bool const keeps = keep(mine, tag, cr3);
    mine.tag = tag;
    // The clock stands: the other tag's translations are as old as they were.
    arch::write_cr3(tagged(cr3, tag, keeps));
    std::atomic_ref{mine.cr3}.store(cr3, std::memory_order_release);
}

void forget_user_space() {
    LoadedSpace& mine = this_cpu().space;
    drop(mine, SpaceTag::guest_user);
    drop(mine, SpaceTag::user_view);
}

uint64_t loaded_address_space() { return this_cpu().space.cr3; }

uint64_t address_space_loaded_on(unsigned cpu) {
    return std::atomic_ref{cpu_block(cpu).space.cr3}.load(std::memory_order_acquire);
}

void evict_address_space(uint64_t cr3) {
    if (CpuMask const holders = holders_of(cr3); !holders.empty())
        flush_on(holders, {FlushKind::evict, cr3}, IdleCpus::now);
}

void flush_page_of_other_spaces(uint64_t address) {
    LoadedSpace& mine = this_cpu().space;
    for (SpaceTag const tag : {SpaceTag::guest_kernel, SpaceTag::guest_user}) {
        if (!is_kept(mine, tag) || tag == mine.tag)
            continue;
        if (invalidates_by_tag)
            arch::invalidate_page_of(static_cast<unsigned>(tag), address);
        else
            drop(mine, tag);
    }
    // INVLPG drops entries of the tables above the page, too, and there the copies are.
    drop(mine, SpaceTag::kernel_view);
    drop(mine, SpaceTag::user_view);
}

namespace {
/// The guest's own view of the space that is loaded.
SpaceTag view_of(LoadedSpace const& mine) {
    return mine.tag == SpaceTag::guest_user ? SpaceTag::user_view : SpaceTag::kernel_view;
}
unsigned mode_of(SpaceTag view) {
    return view == SpaceTag::user_view ? GuestView::for_user : GuestView::for_kernel;
}
} // namespace

uint64_t cr3_for_guest() {
    Cpu& cpu = this_cpu();
    GuestView const& view = guest_view(cpu.id);
    SpaceTag const tag = view_of(cpu.space);
    bool const keeps = keep(cpu.space, tag, cpu.space.cr3);
    if (!keeps)
        view.copy(mode_of(tag), frame_of(PhysicalAddress{cpu.space.cr3}));
    return tagged(address_of(view.root(mode_of(tag))).raw(), tag, keeps);
}

uint64_t cr3_for_hearth() {
    LoadedSpace const& mine = this_cpu().space;
    return tagged(mine.cr3, mine.tag, mine.tag != SpaceTag::none);
}

bool renew_guest_view(uint64_t address) {
    if (!guests_are_isolated())
        return false;
    Cpu& cpu = this_cpu();
    SpaceTag const tag = view_of(cpu.space);
    if (!guest_view(cpu.id).differs(mode_of(tag), frame_of(PhysicalAddress{cpu.space.cr3}),
                                    address))
        return false;
    drop(cpu.space, tag);
    return true;
}

void flush_local_tlb() {
    LoadedSpace& mine = this_cpu().space;
    load(mine, mine.cr3, mine.tag);
}

void flush_stale_translations(uint64_t stamp, CpuMask cpus, IdleCpus idle) {
    CpuMask needed;
    (cpus & online_cpus()).each([&](unsigned cpu) {
        if (cpu_block(cpu).space.clock.load(std::memory_order_acquire) <= stamp)
            needed = needed | CpuMask::of(cpu);
    });
    if (stamp != 0 && !needed.empty())
        flush_on(needed, {FlushKind::everything, 0}, idle);
}

namespace {
// Of frames that any CPU may translate to.
constinit std::atomic<uint64_t> stale_frame_of_all{0};
} // namespace

void mark_stale(Page& page, CpuMask holders) {
    uint64_t const stamp = stale_from_now();
    page.flush_stamp.store(stamp, std::memory_order_relaxed);
    if (holders.bits == online_cpus().bits)
        raise_to(stale_frame_of_all, stamp);
    else
        holders.each([&](unsigned cpu) { raise_to(cpu_block(cpu).space.stale_frame, stamp); });
}

void flush_stale_frames(uint64_t stamp) {
    uint64_t const of_all = stale_frame_of_all.load(std::memory_order_acquire);
    CpuMask holders;
    online_cpus().each([&](unsigned cpu) {
        LoadedSpace const& space = cpu_block(cpu).space;
        uint64_t const clock = space.clock.load(std::memory_order_acquire);
        if (clock <= of_all || clock <= space.stale_frame.load(std::memory_order_acquire))
            holders = holders | CpuMask::of(cpu);
    });
    flush_stale_translations(stamp, holders, IdleCpus::now);
}

void flush_tlb(CpuMask cpus) { flush_on(cpus, {FlushKind::everything, 0}, IdleCpus::later); }
void flush_tlb_page(CpuMask cpus, uint64_t address) {
    flush_on(cpus, {FlushKind::page, address},
             layout::is_ours(address) ? IdleCpus::now : IdleCpus::later);
}

void guest_leaves() { this_cpu().space.use.store(SpaceUse::nobody); }
// Whoever made a translation stale did so before it looked who runs here.
bool guest_comes() {
    return this_cpu().space.use.exchange(SpaceUse::somebody) == SpaceUse::nobody_and_stale;
}

void serve_flush_request() {
    uint64_t const mine = CpuMask::of(this_cpu_id()).bits;
    if (!(request.waiting.load(std::memory_order_acquire) & mine))
        return;
    flush_here(request.what);
    request.waiting.fetch_and(~mine, std::memory_order_release);
}

void wait_politely() {
    arch::pause();
    serve_flush_request();
}

CpuMask all_cpus() { return online_cpus(); }

} // namespace hearth
