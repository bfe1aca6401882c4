#include "memory/page.h"

namespace hearth {

Result<PageRef> PageRef::get(Mfn mfn, DomainId owner) {
    Page* const page = find_page(mfn);
    if (!page || !take_reference(*page, owner))
        return Errno::inval;
    return PageRef{mfn};
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
