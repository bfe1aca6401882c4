#include "pv/page_type.h"

#include "base/lock.h"
#include "memory/tlb.h"
#include "pv/contents.h"

namespace hearth::pv {
namespace {

bool replace(Page& page, TypeWord& expected, TypeWord desired) {
    return page.type.compare_exchange_weak(expected.v, desired.v, std::memory_order_acq_rel,
                                           std::memory_order_acquire);
}

/// Only whoever made the frame busy calls this, so no other change can come between.
void settle(Page& page, TypeWord word) { page.type.store(word.v, std::memory_order_release); }

/// The frame is ours to retype: flush, check, and publish.
Result<> become(Domain& domain, Mfn mfn, PageType old_type, PageType type) {
    Page& page = page_at(mfn);
    if (old_type != type) {
        // On others' CPUs there may be translations to write by. On the owner's, which may not be
        // this domain's, tables are walked.
        SeenByOthers seen = page.seen_by_others.load(std::memory_order_acquire);
        bool const everywhere = seen == SeenByOthers::for_writing || page.owner != domain.id;
        // What is nothing now may have been a table until it failed to become one again.
        bool const was_data = old_type == PageType::writable || old_type == PageType::descriptors;
        flush_stale_translations(page.flush_stamp.load(std::memory_order_acquire),
                                 everywhere ? all_cpus() : domain.dirty(),
                                 was_data ? IdleCpus::later : IdleCpus::now);
        if (seen == SeenByOthers::for_writing) // it is in use as nothing now, so nobody does
            page.seen_by_others.compare_exchange_strong(seen, SeenByOthers::for_reading);
    }
    if (auto checked = take_contents(domain, mfn, type); !checked) {
        settle(page, TypeWord::make(PageType::none, 0, 0));
        return checked;
    }
    settle(page, TypeWord::make(type, TypeWord::valid, 1));
    return {};
}

} // namespace

Result<> make_type(Domain& domain, Mfn mfn, PageType type) {
    Page& page = page_at(mfn);
    TypeWord word = page.type_word();
    for (;;) {
        if (word.has(TypeWord::busy)) {
            // Becoming or ceasing to be something else. Waiting for that could be waiting for
            // oneself: a table that maps itself writable, or two that map each other.
            if (word.type() != type)
                return Errno::inval;
            wait_politely();
            preempt_point();
            word = page.type_word();
            continue;
        }
        if (word.count() == 0) {
            // A writable frame needs no look at its contents; only the flush must come first.
            if (!replace(page, word, TypeWord::make(type, TypeWord::busy, 1)))
                continue;
            return become(domain, mfn, word.type(), type);
        }
        if (word.type() != type || word.count() == TypeWord::count_mask)
            return Errno::inval;
        if (replace(page, word, {word.v + 1}))
            return {};
    }
}

void end_type(Domain& domain, Mfn mfn) {
    Page& page = page_at(mfn);
    TypeWord word = page.type_word();
    for (;;) {
        if (word.count() > 1) {
            if (replace(page, word, {word.v - 1}))
                return;
            continue;
        }
        PageType const type = word.type();
        // Busy until it has its stamp: a use that began and ended in between would be younger.
        if (!replace(page, word, TypeWord::make(type, TypeWord::busy, 1)))
            continue;
        release_contents(domain, mfn, type);
        page.flush_stamp.store(stale_from_now(), std::memory_order_release);
        settle(page, TypeWord::make(type, 0, 0));
        return;
    }
}

Result<> pin(Domain& domain, Mfn mfn, PageType type) {
    TypeRef ref = TRY(TypeRef::get(domain, mfn, type));
    uint32_t const old = page_at(mfn).type.fetch_or(TypeWord::pinned, std::memory_order_acq_rel);
    if (old & TypeWord::pinned)
        return Errno::inval;
    (void)ref.release();
    // Whoever ends the domain may have dropped the frame's pin before it was there.
    if (domain.dying.load()) {
        (void)unpin(domain, mfn);
        return Errno::srch;
    }
    return {};
}

Result<> unpin(Domain& domain, Mfn mfn) {
    PageRef ref = TRY(PageRef::get(mfn, domain.id));
    uint32_t const old = page_at(mfn).type.fetch_and(~TypeWord::pinned, std::memory_order_acq_rel);
    if (!(old & TypeWord::pinned))
        return Errno::inval;
    put_page_and_type(domain, mfn);
    return {};
}

} // namespace hearth::pv
