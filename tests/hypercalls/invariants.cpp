// Looks at what is private, too: this file is compiled without access control.
#include "invariants.h"

#include "event/table.h"
#include "grant/use.h"

#include <cstring>

namespace hearth::test {
namespace {

template <class... A>
std::string text(char const* format, A... a) {
    char line[200];
    snprintf(line, sizeof line, format, a...);
    return line;
}

/// Calls `function` with each port that is in use.
template <class Function>
std::string each_port(Domain& d, Function&& function) {
    for (uint32_t number = 0; number < abi::fifo::ports; ++number) {
        Port const* const port = d.events->find(number);
        if (!port)
            number |= PortGroup::ports_per_piece - 1;
        else if (port->state != Port::State::free)
            if (std::string problem = function(number, *port); !problem.empty())
                return problem;
    }
    return {};
}

/// Calls `function` with each handle in use.
template <class Function>
void each_handle(Domain& d, Function&& function) {
    Maptrack const& maptrack = d.grants->maptrack;
    for (uint32_t n = 0; n < maptrack.limit(); ++n)
        if (MapHandle const& handle = *maptrack.find(n); handle.state.load() != 0)
            function(n, handle);
}

void add_events(Domain& d, HeldElsewhere& held) {
    for (FifoVcpu const* const fifo : d.events->fifo_vcpus_)
        if (fifo && fifo->control)
            ++held.writable[fifo->page.raw()];
    for (unsigned page = 0; page < d.events->word_pages_; ++page)
        ++held.writable[mfn_of(d.events->words_[page]).raw()];
}
std::vector<Mfn> grant_frames(Domain& d) {
    GrantTable const& table = d.grants->table;
    std::vector<Mfn> frames;
    for (uint32_t i = 0; i < table.frames() && !table.closed_.load(); ++i)
        frames.push_back(table.shared_[i]);
    for (uint32_t i = 0; i < table.status_allocated_; ++i)
        frames.push_back(table.status_[i]);
    return frames;
}
void add_grants(Domain& d, HeldElsewhere& held) {
    for (Mfn const frame : grant_frames(d))
        held.shared.push_back(frame);
    each_handle(d, [&](uint32_t, MapHandle const& handle) {
        uint32_t const state = handle.state.load();
        ++held.read_only[handle.frame];
        if (state & MapHandle::for_device && state & MapHandle::writable)
            ++held.writable[handle.frame];
    });
}

} // namespace

std::vector<Domain*> Invariants::all_domains() {
    std::vector<Domain*> domains;
    for (DomainId id = 0; id < max_domains; ++id)
        if (Domain* const d = find_domain(id))
            domains.push_back(d);
    return domains;
}

/// The heads of free blocks are the frames that are marked so; each is aligned, linked both ways,
/// and all of them make up what the allocator says it has.
std::string Invariants::check_free_frames() {
    uint64_t counted = 0;
    for (Mfn mfn = host::RamLayout::low_start; mfn < host::RamLayout::high_end;) {
        if (mfn == host::RamLayout::low_end)
            mfn = host::RamLayout::high_start;
        Page const& page = page_at(mfn);
        if (page.state != PageState::free) {
            ++mfn;
            continue;
        }
        uint64_t const size = uint64_t{1} << page.order;
        if (page.order > max_order || !is_aligned(mfn.raw(), size))
            return text("free block %lx of order %u", mfn.raw(), page.order);
        auto const self = static_cast<uint32_t>(mfn.raw());
        if (page.next != no_frame && (page_at(Mfn{page.next}).state != PageState::free ||
                                      page_at(Mfn{page.next}).previous != self))
            return text("free block %lx: the next, %x, does not know it", mfn.raw(), page.next);
        if (page.previous != no_frame && (page_at(Mfn{page.previous}).state != PageState::free ||
                                          page_at(Mfn{page.previous}).next != self))
            return text("free block %lx: the one before, %x, does not know it", mfn.raw(),
                        page.previous);
        for (uint64_t i = 1; i < size && i < 8; ++i)
            if (page_at(mfn + i).state != PageState::hypervisor)
                return text("frame %lx is in a free block and in use", (mfn + i).raw());
        counted += size;
        mfn += size;
    }
    if (counted != free_frame_count())
        return text("%lu frames are free, %lu are said to be", counted, free_frame_count());
    return {};
}

std::string Invariants::check_events(std::vector<Domain*> const& domains) {
    for (Domain* const d : domains) {
        std::string problem = each_port(*d, [&](uint32_t number, Port const& port) -> std::string {
            Remote const far = port.remote.get();
            switch (port.state) {
            case Port::State::interdomain: {
                Domain* const other = find_domain(far.domain);
                Port const* const end = other ? other->events->find(far.port) : nullptr;
                if (!end || end->state != Port::State::interdomain ||
                    end->remote.get() != Remote{d->id, number})
                    return text("port d%u:%u has no other end at d%u:%u", d->id, number, far.domain,
                                far.port);
                return {};
            }
            case Port::State::unbound:
                return far.port == 0
                           ? ""
                           : text("unbound port d%u:%u leads to %u", d->id, number, far.port);
            case Port::State::virq:
                if (d->vcpu(port.vcpu) && (d->vcpus[port.vcpu]->virq_ports[port.number] == number ||
                                           d->vcpus[0]->virq_ports[port.number] == number))
                    return {};
                return text("port d%u:%u is no virtual interrupt's", d->id, number);
            case Port::State::reserved:
                return text("port d%u:%u is still reserved", d->id, number);
            default:
                return {};
            }
        });
        for (unsigned v = 0; v < d->vcpu_count && problem.empty(); ++v)
            for (uint32_t virq = 0; virq < abi::virq_count; ++virq) {
                uint32_t const number = d->vcpus[v]->virq_ports[virq];
                Port const* const port = number ? d->events->find(number) : nullptr;
                if (number != 0 &&
                    (!port || port->state != Port::State::virq || port->number != virq))
                    return text("d%uv%u: virtual interrupt %u goes to port %u", d->id, v, virq,
                                number);
            }
        if (!problem.empty())
            return problem;
    }
    return {};
}

/// Uses of grants and handles for them go together, and so do references to the granters.
std::string Invariants::check_grants(std::vector<Domain*> const& domains) {
    struct Uses {
        uint32_t readers = 0, writers = 0;
        DomainId user = domid_invalid;
    };
    std::map<std::pair<DomainId, uint32_t>, Uses> uses;
    std::map<DomainId, uint32_t> references;
    std::string problem;
    for (Domain* const d : domains)
        each_handle(*d, [&](uint32_t n, MapHandle const& handle) {
            uint32_t const state = handle.state.load();
            if (state & MapHandle::busy)
                problem = text("handle %u of d%u is still busy", n, d->id);
            Uses& u = uses[{handle.granter, handle.reference}];
            ++(state & MapHandle::writable ? u.writers : u.readers);
            if (u.user != domid_invalid && u.user != d->id)
                problem =
                    text("two domains have grant %u of d%u", handle.reference, handle.granter);
            u.user = d->id;
            ++references[handle.granter];
        });
    for (auto const& [which, u] : uses)
        if (!find_domain(which.first))
            problem = text("d%u, gone, has granted to d%u", which.first, u.user);
    for (Domain* const d : domains) {
        GrantTable const& table = d->grants->table;
        uint32_t const references_end = table.frames() * GrantTable::entries_per_chunk;
        for (uint32_t reference = 0; reference < references_end; ++reference) {
            GrantTable::ActiveGrant const* const active = table.active(reference);
            if (!active) { // what is left of `uses` after all is a problem
                reference |= GrantTable::entries_per_piece - 1;
                continue;
            }
            if (!active->in_use() && uses.empty())
                continue;
            auto const found = uses.find({d->id, reference});
            Uses const u = found == uses.end() ? Uses{} : found->second;
            if (active->readers != u.readers || active->writers != u.writers ||
                (active->in_use() && active->user != u.user))
                problem = text("grant %u of d%u: %u readers, %u writers of d%u, but %u and %u "
                               "handles of d%u",
                               reference, d->id, active->readers, active->writers, active->user,
                               u.readers, u.writers, u.user);
            if (found != uses.end())
                uses.erase(found);
        }
        bool const has_frames =
            d->pages.with([](PageList& list) { return !list.closing || list.count + list.shared; });
        uint32_t const expected = references[d->id] + !d->dying.load() + has_frames;
        if (d->references.load() < expected)
            problem =
                text("d%u has %u references, should be %u", d->id, d->references.load(), expected);
    }
    if (problem.empty() && !uses.empty())
        problem = text("a handle of d%u is for no grant", uses.begin()->second.user);
    return problem;
}

/// A CPU with the tables of a domain may reach its own memory, and what it has been granted.
std::string Invariants::check_reach() const {
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu) {
        Mfn const root = frame_of(PhysicalAddress{host::cpu_state(cpu).cr3});
        bool const guests = is_ram(root) && page_at(root).state == PageState::guest;
        Domain* const d = guests ? find_domain(page_at(root).owner) : nullptr;
        if (!d || d->id == maps_all)
            continue;
        std::set<uint64_t> granted;
        each_handle(*d, [&](uint32_t, MapHandle const& handle) { granted.insert(handle.frame); });
        for (Mfn const mfn : tlb_.reachable(cpu)) {
            Page const& page = page_at(mfn);
            if (page.state == PageState::guest && page.owner != d->id && page.owner != domid_xen &&
                !granted.contains(mfn.raw()))
                return text("CPU %u may reach frame %lx of d%u for d%u", cpu, mfn.raw(), page.owner,
                            d->id);
        }
    }
    return {};
}

std::string Invariants::check_locks() {
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        if (cpu_block(cpu).held_ranks != 0)
            return text("CPU %u holds locks %lx", cpu, cpu_block(cpu).held_ranks);
    return {};
}

std::string Invariants::check() {
    std::vector<Domain*> const domains = all_domains();
    HeldElsewhere held;
    if (held_for_good != invalid_mfn)
        ++held.writable[held_for_good.raw()];
    for (Domain* const d : domains) {
        add_events(*d, held);
        add_grants(*d, held);
    }
    std::string problem = check_locks();
    if (problem.empty())
        problem = accounting_.check(domains, held);
    if (problem.empty())
        problem = tlb_.check([](DomainId owner) { return find_domain(owner) != nullptr; });
    if (problem.empty())
        problem = check_reach();
    if (problem.empty())
        problem = check_free_frames();
    if (problem.empty())
        problem = check_events(domains);
    if (problem.empty())
        problem = check_grants(domains);
    return problem;
}

bool has_secret(void const* bytes, size_t size) {
    auto const* const at = static_cast<uint8_t const*>(bytes);
    unsigned row = 0;
    for (size_t i = 0; i < size; ++i) {
        row = at[i] == host::canary ? row + 1 : 0;
        if (row == 4)
            return true;
    }
    return false;
}

std::string Invariants::look_for_secrets() {
    for (Domain* const d : all_domains()) {
        std::vector<Mfn> frames = owned_frames(*d);
        for (Mfn const frame : grant_frames(*d))
            frames.push_back(frame);
        for (Mfn const mfn : frames) {
            auto const* const words = direct<uint64_t>(mfn);
            for (unsigned i = 0; i < page_size / 8; ++i)
                if (uint64_t const word = words[i];
                    static_cast<uint32_t>(word) == 0xaaaaaaaa || word >> 32 == 0xaaaaaaaa)
                    return text("frame %lx of d%u has at %x what nobody wrote there: %lx",
                                mfn.raw(), d->id, i * 8, word);
        }
    }
    return {};
}

} // namespace hearth::test
