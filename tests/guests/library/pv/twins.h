// Domains that a test guest makes when it is Domain 0, without a toolstack: each begins in the same
// image, and tells by its command line what it is to do.
#pragma once

#include "abi/domctl.h"
#include "library/hypercall.h"

#include <cstring>

namespace guest {

template <class T>
int64_t control(hearth::abi::DomctlOperation what, uint16_t& domain, T& body) {
    hearth::abi::Domctl op{
        static_cast<uint32_t>(what), hearth::abi::domctl_interface_version, domain, {}, {}};
    static_assert(sizeof body <= sizeof op.body);
    memcpy(op.body, &body, sizeof body);
    int64_t const result = hypercall(Hypercall::domctl, &op);
    memcpy(&body, op.body, sizeof body);
    domain = op.domain;
    return result;
}
inline int64_t control(hearth::abi::DomctlOperation what, uint16_t domain) {
    uint8_t nothing = 0;
    return control(what, domain, nothing);
}

struct Twin {
    uint16_t domain;
    uint64_t shown; // the frame of a page that it was made to show
};

/// With one vCPU, paused. The frame that is behind `shown`, a page of the image, can be looked at.
Twin make_twin(char const* command_line, void const* shown);
void let_run(Twin const& twin);
/// A twin's page, until the next is looked at.
void const* look_at(Twin const& twin);

} // namespace guest
