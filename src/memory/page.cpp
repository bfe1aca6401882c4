#include "memory/page.h"

namespace hearth {

Result<PageRef> PageRef::get(Mfn mfn, DomainId owner) {
    Page* page = find_page(mfn);
    if (!page)
        return Errno::inval;
    uint32_t old = page->references.load(std::memory_order_relaxed);
    do {
        uint32_t const count = old & Page::count_mask;
        if (count == 0 || count == Page::count_mask)
            return Errno::inval;
    } while (!page->references.compare_exchange_weak(old, old + 1, std::memory_order_acquire));
    PageRef ref{mfn};
    // Owner and state are stable now that a reference is held; before that they were a guess.
    if (page->state != PageState::guest || page->owner != owner)
        return Errno::inval;
    return ref;
}

void PageRef::reset() {
    if (mfn_ == invalid_mfn)
        return;
    Mfn const mfn = std::exchange(mfn_, invalid_mfn);
    uint32_t const old = page_at(mfn).references.fetch_sub(1, std::memory_order_release);
    if ((old & Page::count_mask) == 1) [[unlikely]] {
        std::atomic_thread_fence(std::memory_order_acquire);
        last_reference_gone(mfn);
    }
}

void show_frame(Mfn mfn) {
    Page& page = page_at(mfn);
    page.owner = domid_xen;
    page.unlisted = true;
    // In use as nothing, so that nobody gets it as writable data or as a table.
    page.type.store(TypeWord::make(PageType::none, TypeWord::valid, 1).v,
                    std::memory_order_relaxed);
    page.state = PageState::guest;
    page.references.store(1, std::memory_order_release);
}

} // namespace hearth
