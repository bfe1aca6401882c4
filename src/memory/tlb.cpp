#include "memory/tlb.h"

#include "arch/intrinsics.h"
#include "base/lock.h"
#include "cpu/cpu.h"
#include "memory/paging.h"

#include <utility>

namespace hearth {
namespace {

constinit std::atomic<uint64_t> stale_clock{1};

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

void flush_on(CpuMask cpus, Flush const& what) {
    cpus = cpus & online_cpus();
    unsigned const self = this_cpu_id();
    if (cpus.has(self))
        flush_here(what);
    cpus = cpus.without(self);
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

constinit bool space_tags_in_use = false;

void use_space_tags(bool invpcid) {
    space_tags_in_use = true;
    invalidates_by_tag = invpcid;
}

namespace {
/// Drops all of this CPU's translations with the tag that is loaded.
void load_afresh(LoadedSpace& mine, uint64_t cr3, unsigned tag = 0) {
    uint64_t const now = stale_clock.load(std::memory_order_acquire);
    std::atomic_ref{mine.cr3}.store(cr3, std::memory_order_release);
    arch::write_cr3(cr3 | tag);
    mine.clock.store(now, std::memory_order_release);
}

void load(LoadedSpace& mine, uint64_t cr3, SpaceTag tag) {
    if (!space_tags_in_use)
        return load_afresh(mine, cr3);
    // What other tags have is not dropped now, but before it can be used again.
    for (uint64_t& kept : mine.kept)
        kept = 0;
    auto const index = static_cast<unsigned>(tag);
    mine.kept[index] = cr3;
    mine.tag = tag;
    load_afresh(mine, cr3, index);
}
} // namespace

void load_address_space(uint64_t cr3, SpaceTag tag) { load(this_cpu().space, cr3, tag); }

void switch_address_space(uint64_t cr3, SpaceTag tag) {
    LoadedSpace& mine = this_cpu().space;
    if (!space_tags_in_use)
        return load_afresh(mine, cr3);
    auto const index = static_cast<unsigned>(tag);
    bool const keeps = std::exchange(mine.kept[index], cr3) == cr3;
    std::atomic_ref{mine.cr3}.store(cr3, std::memory_order_release);
    mine.tag = tag;
    // The clock stands: the other tag's translations are as old as they were.
    arch::write_cr3(cr3 | index | (keeps ? arch::cr3::no_flush : 0));
}

void forget_user_space() { this_cpu().space.kept[static_cast<unsigned>(SpaceTag::guest_user)] = 0; }

uint64_t loaded_address_space() { return this_cpu().space.cr3; }

bool is_loaded_anywhere(uint64_t cr3) { return !holders_of(cr3).empty(); }

void evict_address_space(uint64_t cr3) {
    if (CpuMask const holders = holders_of(cr3); !holders.empty())
        flush_on(holders, {FlushKind::evict, cr3});
}

void flush_page_of_other_tags(uint64_t address) {
    LoadedSpace& mine = this_cpu().space;
    for (unsigned tag = 1; tag < space_tags; ++tag) {
        if (mine.kept[tag] == 0 || tag == static_cast<unsigned>(mine.tag))
            continue;
        if (invalidates_by_tag)
            arch::invalidate_page_of(tag, address);
        else
            mine.kept[tag] = 0;
    }
}

void flush_local_tlb() {
    LoadedSpace& mine = this_cpu().space;
    load(mine, mine.cr3, mine.tag);
}

void flush_stale_translations(uint64_t stamp, CpuMask cpus) {
    CpuMask needed;
    (cpus & online_cpus()).each([&](unsigned cpu) {
        if (cpu_block(cpu).space.clock.load(std::memory_order_acquire) <= stamp)
            needed = needed | CpuMask::of(cpu);
    });
    if (stamp != 0 && !needed.empty())
        flush_on(needed, {FlushKind::everything, 0});
}

void flush_tlb(CpuMask cpus) { flush_on(cpus, {FlushKind::everything, 0}); }
void flush_tlb_page(CpuMask cpus, uint64_t address) { flush_on(cpus, {FlushKind::page, address}); }

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
