#include "domain/permissions.h"

#include "console/log.h"
#include "domain/domain.h"
#include "memory/allocator.h"
#include "memory/own_devices.h"

namespace hearth {
namespace {

/// Written at start-up only.
constinit RangeSet own_ports;

/// The configuration of PCI devices is Domain 0's, by ports that name a device first.
constexpr uint16_t first_pci_port = 0xcf8, last_pci_port = 0xcff;

Result<> change(Domain& domain, RangeSet Permissions::* which, uint64_t first, uint64_t last,
                bool allow) {
    if (domain.hardware) // has them
        return allow ? Result<>{} : Result<>{Errno::opnotsupp};
    return domain.permissions.with([&](Permissions*& permissions) -> Result<> {
        if (!permissions && !allow)
            return {};
        if (!permissions)
            permissions = TRY(make<Permissions>());
        RangeSet& set = permissions->*which;
        if (!(allow ? set.add(first, last) : set.remove(first, last)))
            return Errno::nomem;
        return {};
    });
}

bool holds(Domain& domain, RangeSet Permissions::* which, uint64_t first, uint64_t last) {
    return domain.permissions.with([&](Permissions const* permissions) {
        return permissions && (permissions->*which).holds(first, last);
    });
}

} // namespace

void forbid_ports(uint16_t first, uint16_t last) {
    if (!own_ports.add(first, last))
        panic("too many ranges of the hypervisor's own");
}

bool may_use_ports(Domain& domain, uint16_t first, uint16_t last) {
    if (last < first || own_ports.meets(first, last))
        return false;
    return domain.hardware || holds(domain, &Permissions::ports, first, last);
}

bool may_map_device(Domain& domain, Mfn mfn) {
    if (meets_own_device(mfn, mfn))
        return false;
    return domain.hardware || holds(domain, &Permissions::frames, mfn.raw(), mfn.raw());
}

bool may_use_pirq(Domain& domain, uint32_t pirq) {
    return domain.hardware || holds(domain, &Permissions::pirqs, pirq, pirq);
}

Result<> permit_ports(Domain& domain, uint32_t first, uint32_t count, bool allow) {
    constexpr uint32_t all = 0x10000;
    if (count == 0 || first >= all || count > all - first)
        return Errno::inval;
    uint32_t const last = first + count - 1;
    if (own_ports.meets(first, last) || (first <= last_pci_port && first_pci_port <= last))
        return Errno::perm;
    return change(domain, &Permissions::ports, first, last, allow);
}

Result<> permit_device_frames(Domain& domain, uint64_t first, uint64_t count, bool allow) {
    if (count == 0 || first + (count - 1) < first)
        return Errno::inval;
    uint64_t const last = first + (count - 1);
    if (meets_own_device(Mfn{first}, Mfn{last}))
        return Errno::perm;
    TRY(change(domain, &Permissions::frames, first, last, allow));
    if (allow)
        domain.may_map_devices.store(true);
    return {};
}

Result<> permit_pirq(Domain& domain, uint32_t pirq, bool allow) {
    return change(domain, &Permissions::pirqs, pirq, pirq, allow);
}

} // namespace hearth
