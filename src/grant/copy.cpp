// Copying between frames, of which either may be another domain's that grants it.
#include "domain/guest_memory.h"
#include "domain/guest_page.h"
#include "grant/operations.h"
#include "memory/direct_map.h"

#include <cstring>
#include <optional>

namespace hearth {
namespace {

/// One side of a copy: a frame that stays where it is, and may be written to if so opened.
class CopyFrame {
    std::optional<DomainRef> other_;       // whose it is, if not the caller's by its name
    std::optional<GrantUse> use_, behind_; // behind_: the grant that a transitive one stands for
    PageRef page_;
    Domain* written_ = nullptr; // whose frame is held as writable data
    uint32_t first_ = 0, end_ = page_size;

    GrantStatus hold(Domain& owner, uint64_t frame, bool write) {
        Page* const page = find_page(Mfn{frame});
        if (!page || !take_reference(*page, owner.id))
            return GrantStatus::bad_page;
        page_ = PageRef::adopt(Mfn{frame});
        if (write) {
            if (!hold_writable_use(owner, Mfn{frame}))
                return GrantStatus::permission_denied;
            written_ = &owner;
        }
        return GrantStatus::okay;
    }

    /// The terms of the grant itself, or of the one that it stands for.
    [[gnu::noinline]] GrantStatus open_behind(bool write, GrantTerms& terms) {
        GrantTerms const& outer = use_->terms();
        if (outer.via == use_->granter().id)
            return GrantStatus::general_error;
        auto granter = DomainRef::find(outer.via);
        if (!granter)
            return GrantStatus::general_error;
        behind_.emplace(*std::move(granter), static_cast<uint32_t>(outer.frame_or_reference),
                        write);
        GrantStatus const status = behind_->begin(use_->granter().id, GrantPurpose::copy);
        terms = behind_->terms();
        return status == GrantStatus::okay && terms.transitive ? GrantStatus::general_error
                                                               : status;
    }

    GrantStatus open_grant(Context const& c, abi::GrantCopySide const& side, bool write) {
        use_.emplace(other_ ? *std::move(other_) : DomainRef::to(c.domain),
                     static_cast<uint32_t>(side.reference_or_frame), write);
        GrantStatus status = use_->begin(c.domain.id, GrantPurpose::copy);
        if (status != GrantStatus::okay)
            return status;
        GrantTerms terms = use_->terms();
        if (terms.transitive) [[unlikely]] {
            status = open_behind(write, terms);
            if (status != GrantStatus::okay)
                return status;
        }
        first_ = terms.offset;
        end_ = uint32_t{terms.offset} + terms.length;
        return hold(behind_ ? behind_->granter() : use_->granter(), terms.frame_or_reference,
                    write);
    }

public:
    CopyFrame() = default;
    CopyFrame(CopyFrame const&) = delete;
    CopyFrame& operator=(CopyFrame const&) = delete;
    ~CopyFrame() {
        if (written_)
            release_writable_use(*written_, page_.mfn());
    }

    /// Before anything is opened: bad_domain.
    GrantStatus find(abi::GrantCopySide const& side) {
        if (side.domain == domid_self)
            return GrantStatus::okay;
        auto found = DomainRef::find(side.domain);
        if (!found)
            return GrantStatus::bad_domain;
        other_.emplace(*std::move(found));
        return GrantStatus::okay;
    }
    GrantStatus open(Context const& c, abi::GrantCopySide const& side, bool is_grant, bool write) {
        if (is_grant)
            return open_grant(c, side, write);
        if (other_)
            return GrantStatus::permission_denied;
        return hold(c.domain, side.reference_or_frame, write);
    }
    [[nodiscard]] bool covers(uint32_t offset, uint32_t length) const {
        return offset >= first_ && offset + length <= end_;
    }
    [[nodiscard]] char* at(uint32_t offset) const { return direct<char>(page_.mfn()) + offset; }
};

GrantStatus copy_one(Context const& c, abi::GrantCopy const& op) {
    uint32_t const from = op.source.offset, to = op.destination.offset, length = op.length;
    CopyFrame source, destination;
    if (source.find(op.source) != GrantStatus::okay ||
        destination.find(op.destination) != GrantStatus::okay)
        return GrantStatus::bad_domain;
    if (auto const status = source.open(c, op.source, op.flags & abi::copy_source_reference, false);
        status != GrantStatus::okay)
        return status;
    if (auto const status =
            destination.open(c, op.destination, op.flags & abi::copy_destination_reference, true);
        status != GrantStatus::okay)
        return status;
    if (from + length > page_size || to + length > page_size)
        return GrantStatus::bad_copy_argument;
    if (!source.covers(from, length) || !destination.covers(to, length))
        return GrantStatus::general_error;
    memmove(destination.at(to), source.at(from), length);
    return GrantStatus::okay;
}

} // namespace

Result<int64_t> copy_grants(Context& c, uint64_t argument, uint32_t count) {
    GuestPointer<abi::GrantCopy> const list{argument};
    for (uint32_t i = 0; i < count; ++i) {
        abi::GrantCopy op = TRY(list.read(i));
        op.status = copy_one(c, op);
        TRY(list.write(op, i));
        if (!goes_on_after(c, 1, i))
            break;
    }
    return 0;
}

} // namespace hearth
