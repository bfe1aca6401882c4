// What a domain has of the grants: its own table and what it has mapped of others'. And one use of
// a grant.
#pragma once

#include "grant/maptrack.h"
#include "grant/table.h"

namespace hearth {

struct Grants {
    Grants(Domain& domain, uint32_t max_frames, uint32_t max_maptrack, unsigned max_version)
        : table{domain, max_frames, max_version}, maptrack{max_maptrack} {}
    GrantTable table;
    Maptrack maptrack;
};

/// Ends by itself, unless somebody takes it over.
class GrantUse {
    DomainRef granter_;
    uint32_t reference_;
    bool write_;
    bool active_ = true;
    GrantTerms terms_;

    GrantUse(DomainRef granter, uint32_t reference, bool write, GrantTerms terms)
        : granter_{std::move(granter)}, reference_{reference}, write_{write}, terms_{terms} {}

public:
    GrantUse(GrantUse&& other) noexcept
        : granter_{std::move(other.granter_)}, reference_{other.reference_}, write_{other.write_},
          active_{std::exchange(other.active_, false)}, terms_{other.terms_} {}
    GrantUse& operator=(GrantUse&&) = delete;
    ~GrantUse() {
        if (active_)
            granter_->grants->table.end(reference_, write_);
    }
    static std::expected<GrantUse, GrantStatus>
    begin(DomainRef granter, uint32_t reference, DomainId user, bool write, GrantPurpose purpose) {
        auto const terms = granter->grants->table.begin(reference, user, write, purpose);
        if (!terms)
            return std::unexpected{terms.error()};
        return GrantUse{std::move(granter), reference, write, *terms};
    }

    [[nodiscard]] Domain& granter() const { return *granter_; }
    [[nodiscard]] GrantTerms const& terms() const { return terms_; }
    /// It is the caller's to end, and so is a reference to the granter.
    void release() {
        active_ = false;
        (void)granter_.release();
    }
};

} // namespace hearth
