#include "grant/table.h"

#include "base/bits.h"
#include "domain/guest_page.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"

#include <algorithm>
#include <span>

namespace hearth {
namespace {

using namespace abi;

constexpr uint16_t use_flags = grant::reading | grant::writing;

uint16_t flags_for(bool write) { return write ? use_flags : grant::reading; }

/// Whether an entry's first half lets `user` do that.
bool permits(uint16_t flags, DomainId granted_to, DomainId user, bool write) {
    return granted_to == user && !(write && flags & grant::readonly);
}

GrantTerms whole_frame(uint64_t frame) {
    return {frame, 0, page_size, domid_invalid, false, false};
}

} // namespace

Result<> GrantTable::initialise() {
    shared_ = static_cast<Mfn*>(TRY(allocate_bytes(max_frames_ * sizeof(Mfn))));
    status_ = static_cast<Mfn*>(TRY(allocate_bytes(status_frames_for(max_frames_) * sizeof(Mfn))));
    chunks_ = static_cast<Piece**>(TRY(allocate_bytes(max_frames_ * sizeof(Piece*))));
    return {};
}

uint32_t GrantTable::status_frames() const {
    return version() == 2 ? status_frames_for(frames()) : 0;
}
uint32_t GrantTable::max_frames(Kind kind) const {
    return kind == Kind::shared ? max_frames_ : status_frames_for(max_frames_);
}
Mfn GrantTable::frame(Kind kind, uint32_t index) const {
    return (kind == Kind::shared ? shared_ : status_)[clamp_index(index, max_frames(kind))];
}

GrantTable::Piece& GrantTable::piece_of(uint32_t reference) const {
    return chunks_[clamp_index(reference / entries_per_chunk, max_frames_)]
                  [reference / entries_per_piece % pieces_per_chunk];
}
GrantTable::ActiveGrant* GrantTable::active(uint32_t reference) const {
    if (reference / entries_per_chunk >= frames())
        return nullptr;
    ActiveGrant* const piece = piece_of(reference);
    return piece ? &piece[reference % entries_per_piece] : nullptr;
}

[[gnu::noinline]] std::expected<GrantTable::ActiveGrant*, GrantStatus>
GrantTable::obtain(uint32_t reference) {
    if (reference / entries_per_chunk >= frames())
        return std::unexpected{GrantStatus::bad_reference};
    Piece& piece = piece_of(reference);
    // Under the lock under which the version becomes 0: who does that sees the piece, or whoever
    // made it sees the version.
    LockGuard guard{lock_};
    if (!piece) {
        auto const bytes = allocate_bytes(entries_per_piece * sizeof(ActiveGrant));
        if (!bytes)
            return std::unexpected{GrantStatus::no_space};
        auto* const made = static_cast<ActiveGrant*>(*bytes);
        for (uint32_t i = 0; i < entries_per_piece; ++i)
            new (&made[i]) ActiveGrant{};
        piece = made;
    }
    return &piece[reference % entries_per_piece];
}
GrantEntryV1& GrantTable::entry_v1(uint32_t reference) const {
    uint32_t const per_frame = entries_per_frame(1);
    return direct<GrantEntryV1>(frame(Kind::shared, reference / per_frame))[reference % per_frame];
}
GrantEntryV2& GrantTable::entry_v2(uint32_t reference) const {
    uint32_t const per_frame = entries_per_frame(2);
    return direct<GrantEntryV2>(frame(Kind::shared, reference / per_frame))[reference % per_frame];
}
uint16_t& GrantTable::status_of(uint32_t reference) const {
    uint32_t const per_frame = page_size / sizeof(uint16_t);
    return direct<uint16_t>(frame(Kind::status, reference / per_frame))[reference % per_frame];
}

// --- Use

bool GrantTable::claim_v1(uint32_t reference, DomainId user, bool write, GrantTerms& terms) {
    GrantEntryV1& entry = entry_v1(reference);
    auto* const header = reinterpret_cast<uint32_t*>(&entry); // flags and domain at once
    uint32_t seen = __atomic_load_n(header, __ATOMIC_ACQUIRE);
    for (unsigned tries = 0; tries < 5; ++tries) {
        auto const flags = static_cast<uint16_t>(seen);
        if ((flags & grant::type_mask) != grant::permit_access ||
            !permits(flags, static_cast<DomainId>(seen >> 16), user, write))
            return false;
        if (__atomic_compare_exchange_n(header, &seen, seen | flags_for(write), false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            terms = whole_frame(__atomic_load_n(&entry.frame, __ATOMIC_RELAXED));
            return true;
        }
    }
    return false;
}

bool GrantTable::claim_v2(uint32_t reference, DomainId user, bool write, GrantPurpose purpose,
                          GrantTerms& terms) {
    GrantEntryV2& entry = entry_v2(reference);
    auto* const header = reinterpret_cast<uint64_t*>(&entry);
    // Shown first and looked at afterwards: whoever takes a grant back clears the entry first and
    // looks at the status afterwards.
    __atomic_fetch_or(&status_of(reference), flags_for(write), __ATOMIC_SEQ_CST);
    uint64_t const seen = __atomic_load_n(header, __ATOMIC_SEQ_CST);
    auto const flags = static_cast<uint16_t>(seen);
    auto const third = static_cast<uint16_t>(seen >> 32);
    auto const fourth = static_cast<uint16_t>(seen >> 48);
    uint16_t const type = flags & grant::type_mask;
    bool const known = type == grant::permit_access ||
                       (type == grant::transitive && purpose == GrantPurpose::copy);
    if (!known || !permits(flags, static_cast<DomainId>(seen >> 16), user, write))
        return false;
    terms = whole_frame(__atomic_load_n(&entry.frame_or_reference, __ATOMIC_RELAXED));
    if (type == grant::transitive) {
        terms.transitive = true;
        terms.via = third;
    } else if (flags & grant::sub_page) {
        terms.sub_page = true;
        terms.offset = third;
        terms.length = fourth;
    }
    return true;
}

GrantStatus GrantTable::begin(uint32_t reference, DomainId user, bool write, GrantPurpose purpose,
                              GrantTerms& terms) {
    ActiveGrant* found = active(reference);
    if (!found) [[unlikely]] {
        auto const made = obtain(reference);
        if (!made)
            return made.error();
        found = *made;
    }
    ActiveGrant& grant = *found;
    LockGuard guard{grant.lock};
    unsigned const now = version();
    if (now == 0)
        return closed_.load() ? GrantStatus::general_error : GrantStatus::again;
    if (!exists(reference, now))
        return GrantStatus::bad_reference;
    bool const first = !grant.in_use();
    if (!first && grant.user != user)
        return GrantStatus::general_error;
    terms = grant.terms;
    bool claimed = true;
    if (first || (write && grant.writers == 0)) {
        GrantTerms offered;
        claimed = now == 1 ? claim_v1(reference, user, write, offered)
                           : claim_v2(reference, user, write, purpose, offered);
        if (claimed && first)
            terms = offered;
    }
    bool const whole = !(terms.sub_page || terms.transitive);
    if (!claimed || (purpose == GrantPurpose::map && !whole)) {
        if (now == 2)
            show_use(reference, grant, now);
        return GrantStatus::general_error;
    }
    grant.user = user;
    grant.terms = terms;
    ++(write ? grant.writers : grant.readers);
    return GrantStatus::okay;
}

void GrantTable::end(uint32_t reference, bool write) {
    ActiveGrant& grant = piece_of(reference)[reference % entries_per_piece]; // which is in use
    LockGuard guard{grant.lock};
    --(write ? grant.writers : grant.readers);
    // While the version changes, whoever changes it shows what is left.
    if (unsigned const now = version())
        show_use(reference, grant, now);
}

void GrantTable::show_use(uint32_t reference, ActiveGrant const& grant, unsigned version) {
    uint16_t const wanted = grant.writers ? use_flags : grant.readers ? grant::reading : 0;
    uint16_t& word = version == 1 ? entry_v1(reference).flags : status_of(reference);
    uint16_t const seen = __atomic_load_n(&word, __ATOMIC_RELAXED);
    if (wanted & ~seen)
        __atomic_fetch_or(&word, wanted, __ATOMIC_ACQ_REL);
    if (seen & use_flags & ~wanted)
        __atomic_fetch_and(&word, static_cast<uint16_t>(~use_flags | wanted), __ATOMIC_ACQ_REL);
}

GrantStatus GrantTable::swap(uint32_t a, uint32_t b) {
    if (a == b)
        return exists(a, version()) ? GrantStatus::okay : GrantStatus::bad_reference;
    auto const lower = obtain(a < b ? a : b);
    auto const higher = obtain(a < b ? b : a);
    if (!lower || !higher)
        return lower ? higher.error() : lower.error();
    ActiveGrant* const first = *lower;
    ActiveGrant* const second = *higher;
    first->lock.lock();
    second->lock.lock_second(); // the lower reference first
    GrantStatus const status = [&] {
        unsigned const now = version();
        if (now == 0)
            return GrantStatus::again;
        if (!exists(a, now) || !exists(b, now))
            return GrantStatus::bad_reference;
        if (first->in_use() || second->in_use())
            return GrantStatus::again;
        if (now == 1)
            std::swap(entry_v1(a), entry_v1(b));
        else
            std::swap(entry_v2(a), entry_v2(b));
        return GrantStatus::okay;
    }();
    second->lock.unlock();
    first->lock.unlock();
    return status;
}

// --- Size and version

Result<> GrantTable::add_frame() {
    uint32_t const have = frames();
    auto* const chunk = static_cast<Piece*>(TRY(allocate_bytes(pieces_per_chunk * sizeof(Piece))));
    for (uint32_t i = 0; i < pieces_per_chunk; ++i)
        new (&chunk[i]) Piece{};
    auto const fresh = allocate_shared_frame(domain_);
    if (!fresh) {
        free_bytes(chunk);
        return fresh.error();
    }
    chunks_[have] = chunk;
    shared_[have] = *fresh;
    frames_.store(have + 1, std::memory_order_release);
    return {};
}

Result<> GrantTable::add_status_frames(uint32_t wanted) {
    while (status_allocated_ < wanted) {
        status_[status_allocated_] = TRY(allocate_shared_frame(domain_));
        ++status_allocated_;
    }
    return {};
}

Result<> GrantTable::grow(uint32_t wanted) {
    if (wanted > max_frames_)
        return Errno::inval;
    while (frames() < wanted) {
        {
            LockGuard guard{lock_};
            unsigned const now = version();
            if (now == 0)
                return Errno::busy;
            if (now == 2)
                TRY(add_status_frames(status_frames_for(frames() + 1)));
            if (frames() < wanted)
                TRY(add_frame());
        }
        preempt_point();
    }
    return {};
}

template <class Function>
void GrantTable::for_each_active(uint32_t count, Function&& function) {
    for (uint32_t reference = 0; reference < count; ++reference) {
        if (ActiveGrant* const grant = active(reference)) {
            LockGuard guard{grant->lock};
            function(reference, *grant);
        } else {
            reference |= entries_per_piece - 1;
        }
        preempt_point_each(64, reference);
    }
}

bool GrantTable::wait_for_users() {
    bool idle = true;
    for_each_active(frames() * entries_per_chunk,
                    [&](uint32_t reference, ActiveGrant const& grant) {
                        idle = idle && (reference < grant::reserved_entries || !grant.in_use());
                    });
    return idle;
}

void GrantTable::rewrite_entries(unsigned from, unsigned to) {
    GrantEntryV1 kept[grant::reserved_entries]{};
    if (frames())
        for (uint32_t i = 0; i < grant::reserved_entries; ++i) {
            if (from == 1) {
                kept[i] = entry_v1(i);
                continue;
            }
            GrantEntryV2 const entry = entry_v2(i);
            if ((entry.flags & grant::type_mask) == grant::permit_access)
                kept[i] = {static_cast<uint16_t>(entry.flags & ~grant::sub_page), entry.domain,
                           static_cast<uint32_t>(entry.frame_or_reference)};
        }
    for (uint32_t i = 0; i < frames(); ++i) {
        zero_page(shared_[i]);
        preempt_point();
    }
    for (uint32_t i = 0; i < status_allocated_; ++i) {
        zero_page(status_[i]);
        preempt_point();
    }
    for (uint32_t i = 0; frames() && i < grant::reserved_entries; ++i) {
        auto const flags = static_cast<uint16_t>(kept[i].flags & ~use_flags);
        if (to == 1)
            entry_v1(i) = {flags, kept[i].domain, kept[i].frame};
        else if ((flags & grant::type_mask) == grant::permit_access)
            entry_v2(i) = {static_cast<uint16_t>(flags & ~grant::sub_page), kept[i].domain, 0, 0,
                           kept[i].frame};
    }
}

bool GrantTable::status_frame_is_mapped() const {
    return std::ranges::any_of(std::span{status_, status_allocated_},
                               [](Mfn mfn) { return page_at(mfn).references.load() > 1; });
}

Result<> GrantTable::set_version(unsigned wanted) {
    if (wanted > max_version_)
        return Errno::nosys;
    unsigned before = 0;
    for (bool begun = false; !begun; preempt_point()) {
        LockGuard guard{lock_};
        before = version();
        if (before == wanted)
            return {};
        if (before == 0)
            return Errno::busy;
        begun = wanted == 1 || status_allocated_ >= status_frames_for(frames());
        if (begun)
            version_.store(0, std::memory_order_release);
        else // one at a time: they are scrubbed under the lock
            TRY(add_status_frames(status_allocated_ + 1));
    }
    bool const idle = wait_for_users() && !(wanted == 1 && status_frame_is_mapped());
    if (idle)
        rewrite_entries(before, wanted);
    unsigned const now = idle ? wanted : before;
    version_.store(now, std::memory_order_release);
    // Those in use, and uses that ended meanwhile.
    uint32_t const shown =
        idle ? uint32_t{grant::reserved_entries} : frames() * entries_per_frame(now);
    for_each_active(std::min(shown, frames() * entries_per_frame(now)),
                    [&](uint32_t reference, ActiveGrant const& grant) {
                        if (version() == now)
                            show_use(reference, grant, now);
                    });
    if (!idle)
        return Errno::busy;
    return {};
}

// --- The end

void GrantTable::close() {
    {
        LockGuard guard{lock_};
        closed_.store(true);
        version_.store(0);
    }
    (void)wait_for_users();
    for (uint32_t i = 0; i < frames(); ++i) {
        release_shared_frame(domain_, shared_[i]);
        preempt_point();
    }
    for (uint32_t i = 0; i < status_allocated_; ++i) {
        release_shared_frame(domain_, status_[i]);
        preempt_point();
    }
    status_allocated_ = 0;
}

void GrantTable::free_structures() {
    for (uint32_t i = 0; chunks_ && i < frames(); ++i) {
        for (Piece const& piece : std::span{chunks_[i], pieces_per_chunk})
            free_bytes(piece);
        free_bytes(chunks_[i]);
        preempt_point();
    }
    free_bytes(static_cast<void*>(chunks_));
    free_bytes(shared_);
    free_bytes(status_);
}

} // namespace hearth
