// What a frame is in use as, and the references that keep it so.
//
// The rule, stated once: a frame has one type; references of that type keep it; with none left the
// type may change, and only after every TLB that could hold a translation made under the old one
// has been flushed. A frame becomes a page table or descriptor table only when its whole contents
// have been checked, and from then on only checked values are written to it. So a frame is never at
// once writable by a guest and in use by the processor as a table.
//
// Checking or releasing a table may take long. While it lasts the frame is `busy`: others who want
// it wait, at preemption points. Tables refer downwards only (an L4 to L3s, and so on), so nobody
// waits in a circle.
#pragma once

#include "domain/domain.h"
#include "memory/page.h"

namespace hearth::pv {

/// Takes a type reference, validating the frame if it has none yet. The caller holds a page
/// reference meanwhile and after. inval: in use as something else, bad contents, not the domain's.
/// May reschedule.
inline Result<> get_type(Domain& domain, Mfn mfn, PageType type);
/// Drops one, releasing what the table refers to when it was the last.
inline void put_type(Domain& domain, Mfn mfn);

// The long ways: a frame that is not in use as that, and last references.
Result<> make_type(Domain& domain, Mfn mfn, PageType type);
void end_type(Domain& domain, Mfn mfn);

inline Result<> get_type(Domain& domain, Mfn mfn, PageType type) {
    Page& page = page_at(mfn);
    TypeWord word = page.type_word();
    if (word.can_share(type) &&
        page.type.compare_exchange_strong(word.v, word.v + 1, std::memory_order_acq_rel)) [[likely]]
        return {};
    return make_type(domain, mfn, type);
}
inline void put_type(Domain& domain, Mfn mfn) {
    Page& page = page_at(mfn);
    TypeWord word = page.type_word();
    if (word.count() > 1 &&
        page.type.compare_exchange_strong(word.v, word.v - 1, std::memory_order_acq_rel)) [[likely]]
        return;
    end_type(domain, mfn);
}

/// Page and type reference together, as a page-table entry or CR3 holds them.
[[gnu::always_inline]] inline Result<> get_page_and_type(Domain& domain, Page& page, Mfn mfn,
                                                         PageType type) {
    if (!take_reference(page, domain.id)) [[unlikely]]
        return Errno::inval;
    auto const got = get_type(domain, mfn, type);
    if (!got) [[unlikely]]
        drop_reference(mfn);
    return got;
}
inline Result<> get_page_and_type(Domain& domain, Mfn mfn, PageType type) {
    Page* const page = find_page(mfn);
    if (!page) [[unlikely]]
        return Errno::inval;
    return get_page_and_type(domain, *page, mfn, type);
}
inline void put_page_and_type(Domain& domain, Mfn mfn) {
    put_type(domain, mfn);
    drop_reference(mfn);
}

/// A type reference for as long as it lives; with the page reference that it needs.
class TypeRef {
    Domain* domain_ = nullptr;
    Mfn mfn_ = invalid_mfn;
    TypeRef(Domain& domain, Mfn mfn) : domain_{&domain}, mfn_{mfn} {}

public:
    TypeRef(TypeRef&& other) noexcept
        : domain_{other.domain_}, mfn_{std::exchange(other.mfn_, invalid_mfn)} {}
    TypeRef& operator=(TypeRef&&) = delete;
    ~TypeRef() {
        if (mfn_ != invalid_mfn)
            put_page_and_type(*domain_, mfn_);
    }
    static Result<TypeRef> get(Domain& domain, Mfn mfn, PageType type) {
        TRY(get_page_and_type(domain, mfn, type));
        return TypeRef{domain, mfn};
    }
    [[nodiscard]] Mfn mfn() const { return mfn_; }
    /// The reference now belongs to whatever the caller stored it in.
    Mfn release() { return std::exchange(mfn_, invalid_mfn); }
};

/// Pins: the guest's own lasting type reference. inval: already pinned, or not such a table; srch:
/// the domain ends.
Result<> pin(Domain& domain, Mfn mfn, PageType type);
Result<> unpin(Domain& domain, Mfn mfn);

constexpr bool is_page_table(PageType type) { return type >= PageType::l1 && type <= PageType::l4; }
constexpr unsigned level_of(PageType type) {
    return static_cast<unsigned>(type) - static_cast<unsigned>(PageType::l1) + 1;
}
constexpr PageType table_type(unsigned level) {
    return static_cast<PageType>(static_cast<unsigned>(PageType::l1) + level - 1);
}

} // namespace hearth::pv
