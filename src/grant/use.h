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

/// Begins where it is to stay; ends by itself, unless somebody takes it over.
class GrantUse {
    DomainRef granter_;
    uint32_t const reference_;
    bool const write_;
    bool active_ = false;
    GrantTerms terms_;

public:
    GrantUse(DomainRef granter, uint32_t reference, bool write)
        : granter_{std::move(granter)}, reference_{reference}, write_{write} {}
    GrantUse(GrantUse const&) = delete;
    GrantUse& operator=(GrantUse const&) = delete;
    ~GrantUse() {
        if (active_)
            granter_->grants->table.end(reference_, write_);
    }
    GrantStatus begin(DomainId user, GrantPurpose purpose) {
        GrantStatus const status =
            granter_->grants->table.begin(reference_, user, write_, purpose, terms_);
        active_ = status == GrantStatus::okay;
        return status;
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
