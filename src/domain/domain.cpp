#include "domain/domain.h"

#include "base/bits.h"
#include "console/log.h"
#include "domain/dirty_log.h"
#include "domain/guest_page.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/tlb.h"
#include "time/clock.h"

#include <span>

namespace hearth {
namespace {

constinit std::atomic<Domain*> domains[max_domains]{};

bool has_periodic_timer(Vcpu const& vcpu) { return vcpu.period != 0 && vcpu.online.load(); }

void singleshot_expired(void* vcpu) { send_virq(*static_cast<Vcpu*>(vcpu), abi::virq_timer); }
void periodic_expired(void* pointer) {
    Vcpu& vcpu = *static_cast<Vcpu*>(pointer);
    send_virq(vcpu, abi::virq_timer);
    run_periodic_timer(vcpu);
    // Whoever stops it meanwhile finds nothing to stop.
    if (!has_periodic_timer(vcpu))
        vcpu.periodic.stop();
}
void poll_expired(void* pointer) {
    Vcpu& vcpu = *static_cast<Vcpu*>(pointer);
    vcpu.poll_timeout.store(true);
    wake(vcpu);
}

} // namespace

void run_periodic_timer(Vcpu& vcpu) {
    if (has_periodic_timer(vcpu))
        vcpu.periodic.set(now_ns() + vcpu.period);
}

uint64_t Domain::clamp(uint64_t n) const { return clamp_index(n, vcpu_count); }

Vcpu::Vcpu(Domain& owner, unsigned number)
    : domain{owner}, id{number}, singleshot{singleshot_expired, this},
      periodic{periodic_expired, this}, poll_timer{poll_expired, this} {}

void Vcpu::describe(char* text, unsigned size) const {
    TextBuffer<32> buffer;
    format(buffer, "d{}v{}", domain.id, id);
    std::string_view const view = buffer.view();
    unsigned n = 0;
    for (; n < view.size() && n + 1 < size; ++n)
        text[n] = view[n];
    if (size)
        text[n] = 0;
}

Domain* find_domain(DomainId id) {
    return id < max_domains ? domains[mask_index<max_domains>(id)].load() : nullptr;
}
Result<> register_domain(Domain& domain) {
    Domain* expected = nullptr;
    if (!domains[domain.id].compare_exchange_strong(expected, &domain))
        return Errno::exist;
    return {};
}

void drop_domain_reference(Domain& domain) {
    if (domain.references.fetch_sub(1) != 1)
        return;
    domains[domain.id].store(nullptr);
    domain_unreferenced(domain);
}

DomainRef::~DomainRef() {
    if (domain_)
        drop_domain_reference(*domain_);
}

Result<DomainRef> DomainRef::find(DomainId id) {
    Domain* const found = find_domain(id);
    uint32_t count = found ? found->references.load() : 0;
    do {
        if (count == 0)
            return Errno::srch;
    } while (!found->references.compare_exchange_weak(count, count + 1));
    return DomainRef{found};
}

DomainRef DomainRef::to(Domain& domain) {
    domain.references.fetch_add(1);
    return DomainRef{&domain};
}

Result<DomainRef> target_domain(Context const& context, DomainId id) {
    if (id == domid_self || id == context.domain.id)
        return DomainRef::to(context.domain);
    if (!context.domain.privileged)
        return Errno::perm;
    return DomainRef::find(id);
}

void give_frames_to(Domain& domain, Mfn first, uint64_t count) {
    constexpr uint64_t most_at_once = 512;
    for (; count > most_at_once; first += most_at_once, count -= most_at_once) {
        give_frames_to(domain, first, most_at_once);
        preempt_point();
    }
    domain.pages.with([&](PageList& list) {
        for (Mfn mfn = first; mfn < first + count; ++mfn) {
            Page& page = page_at(mfn);
            page.owner = domain.id;
            list.frames.push(mfn);
            page.type.store(0, std::memory_order_relaxed);
            page.unlisted = false;
            page.seen_by_others.store(SeenByOthers::never, std::memory_order_relaxed);
            page.state = PageState::guest;
            page.references.store(Page::owners_reference | 1, std::memory_order_release);
        }
        list.count += count;
    });
    if (domain.dirty_log.load(std::memory_order_acquire))
        for (Mfn mfn = first; mfn < first + count; ++mfn)
            note_written(domain, mfn);
}

Result<Mfn> allocate_guest_frame(Domain& domain) {
    bool const allowed =
        domain.pages.with([](PageList& list) { return list.count < list.maximum; });
    if (!allowed)
        return Errno::nomem;
    Mfn const mfn = TRY(allocate_zeroed_frame());
    give_frames_to(domain, mfn, 1);
    return mfn;
}

Result<Mfn> allocate_shared_frame(Domain& domain) {
    Mfn const mfn = TRY(allocate_zeroed_frame());
    Page& page = page_at(mfn);
    page.owner = domain.id;
    page.unlisted = true;
    page.seen_by_others.store(SeenByOthers::never, std::memory_order_relaxed);
    // Held as data for good: Hearth writes to it, so it must never pass for a table.
    page.type.store(TypeWord::make(PageType::writable, TypeWord::valid, 1).v,
                    std::memory_order_relaxed);
    page.state = PageState::guest;
    page.references.store(1, std::memory_order_release);
    set_m2p(mfn, invalid_m2p_entry);
    domain.pages.with([](PageList& list) { ++list.shared; });
    return mfn;
}

void free_shared_frame(Mfn mfn) {
    // Somebody may just be finding out that it is not his.
    uint32_t ours = 1;
    while (!page_at(mfn).references.compare_exchange_weak(ours, 0)) {
        ours = 1;
        wait_politely();
    }
    free_frames(mfn, 0);
}

void release_shared_frame(Domain& domain, Mfn mfn) { release_writable_page(domain, mfn); }

Result<> drop_owners_reference(Mfn mfn) {
    Page& page = page_at(mfn);
    uint32_t const old = page.references.fetch_and(~Page::owners_reference);
    if (!(old & Page::owners_reference))
        return Errno::inval;
    PageRef::adopt(mfn).reset();
    return {};
}

namespace {
/// True if it was the last frame of a domain that has come to its end.
bool take_off_books(PageList& list, Page& page) {
    if (page.unlisted) {
        --list.shared;
    } else {
        list.frames.remove(frame_of_entry(page));
        --list.count;
    }
    return list.closing && list.count + list.shared == 0;
}
} // namespace

void last_reference_gone(Mfn mfn) {
    Page& page = page_at(mfn);
    Domain* const owner = find_domain(page.owner);
    bool const last =
        owner && owner->pages.with([&](PageList& list) { return take_off_books(list, page); });
    set_m2p(mfn, invalid_m2p_entry);
    bool const only_owners =
        page.seen_by_others.load(std::memory_order_relaxed) == SeenByOthers::never;
    mark_stale(page, owner && only_owners ? owner->dirty() : all_cpus());
    // Scrubbed before anyone else may have it.
    zero_page(mfn);
    free_frames(mfn, 0);
    if (last)
        drop_domain_reference(*owner);
}

void give_up_frames(Domain& domain) {
    // Whoever is just giving it some gets done first; nobody begins.
    while (domain.pages.with([](PageList& list) {
        list.closed = true;
        return list.claimed + list.exchanges != 0;
    }))
        let_others_run();
    PageRef here;
    for (;;) {
        // The frame is held while it is worked on, so that the list goes on from it.
        PageRef next = domain.pages.with([&](PageList& list) {
            uint32_t frame = here ? page_at(here.mfn()).next : list.frames.first();
            for (; frame != no_frame; frame = page_at(Mfn{frame}).next)
                if (auto held = PageRef::get(Mfn{frame}, domain.id)) // else it is going already
                    return std::move(*held);
            return PageRef{};
        });
        if (!next)
            break;
        here = std::move(next);
        drop_pin(domain, here.mfn());
        (void)drop_owners_reference(here.mfn());
        preempt_point();
    }
    here.reset();
    bool const none_left = domain.pages.with([](PageList& list) {
        list.closing = true;
        return list.count + list.shared == 0;
    });
    if (none_left)
        drop_domain_reference(domain);
}

namespace {
/// Those that are to run and wait at the border. They find the times anew: whoever built or
/// restored the domain has cleared the page that they are in.
void start_vcpus(Domain& domain) {
    update_wall_clock(domain);
    for (Vcpu* const v : std::span{domain.vcpus, domain.vcpu_count})
        update_time_info(*v);
    for (Vcpu* const v : std::span{domain.vcpus, domain.vcpu_count})
        if (v->online.load() && domain.may_run())
            start(*v);
}

/// Each vCPU has been parked at some moment since the call.
void wait_until_parked(Domain& domain) {
    for (Vcpu* const v : std::span{domain.vcpus, domain.vcpu_count})
        while (!is_parked(*v)) {
            call_to_border(*v);
            let_others_run();
        }
}
} // namespace

void pause_domain(Domain& domain) {
    domain.pauses.fetch_add(1);
    wait_until_parked(domain);
    // One that was still on its way may have brought up another, which had been looked at. That one
    // goes no further than to its border, and now brings up nobody.
    wait_until_parked(domain);
}

void unpause_domain(Domain& domain) {
    if (domain.pauses.fetch_sub(1) == 1)
        start_vcpus(domain);
}

void call_to_border(Vcpu& vcpu) {
    vcpu.demand(attention::border);
    wake(vcpu);
    kick(vcpu);
}

void send_nmi(Vcpu& vcpu) {
    vcpu.nmi_pending = true;
    call_to_border(vcpu);
}

void shutdown_domain(Domain& domain, uint32_t reason) {
    uint32_t const latched = domain.latched_shutdown_code.load();
    uint32_t running = not_shut_down;
    if (!domain.shutdown.compare_exchange_strong(running,
                                                 latched == no_shutdown_code ? reason : latched))
        return;
    for (unsigned i = 0; i < domain.vcpu_count; ++i)
        if (Vcpu* const v = domain.vcpus[i]) {
            v->demand(attention::border);
            kick(*v);
        }
    domain_was_shut_down(domain);
}

void crash_domain(Domain& domain, std::string_view reason) {
    log_guest(Level::error, "domain {} crashed: {}", domain.id, reason);
    if (Thread& self = current_thread();
        domain.vcpu_count && domain.vcpus[0] && !domain.is_shut_down())
        for (unsigned i = 0; i < domain.vcpu_count; ++i)
            if (domain.vcpus[i] == &self)
                print_guest_state(LogSource::guest, *domain.vcpus[i]);
    shutdown_domain(domain, 3); // SHUTDOWN_crash
    // Somebody else may have shut it down already, and not have come to tell this one yet.
    current_thread().demand(attention::border);
}

namespace {
/// Held by whoever writes a domain's wall clock: the version takes one writer at a time, and the
/// last one knows the latest time.
constinit SpinLock<Rank::domain> wall_clock_writers;

void begin_update(uint32_t& version) {
    __atomic_store_n(&version, (version + 1) | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}
void end_update(uint32_t& version) {
    __atomic_store_n(&version, (version | 1) + 1, __ATOMIC_RELEASE);
}
} // namespace

void update_wall_clock(Domain& domain) {
    LockGuard guard{wall_clock_writers};
    abi::SharedInfo* const found = domain.shared_info;
    if (!found)
        return;
    abi::SharedInfo& shared = *found;
    WallClock const base = wall_clock_base();
    uint64_t const seconds = base.seconds + static_cast<uint64_t>(domain.settings.time_offset);
    begin_update(shared.wallclock_version);
    shared.wallclock_seconds = static_cast<uint32_t>(seconds);
    shared.wallclock_seconds_high = static_cast<uint32_t>(seconds >> 32);
    shared.wallclock_nanoseconds = base.nanoseconds;
    end_update(shared.wallclock_version);
}

void update_time_info(Vcpu& vcpu) {
    if (!vcpu.info)
        return;
    begin_update(vcpu.info->time.version);
    fill_time_info(vcpu.info->time);
    end_update(vcpu.info->time.version);
}

} // namespace hearth
