// The unions in the arguments of control operations, as bytes.
#pragma once

#include <cstring>

namespace hearth {

/// The member of the union that the operation is about, by value.
template <class T, class Operation>
T body_of(Operation const& op) {
    static_assert(sizeof(T) <= sizeof op.body);
    T body;
    memcpy(&body, op.body, sizeof body);
    return body;
}
template <class T, class Operation>
void set_body(Operation& op, T const& body) {
    static_assert(sizeof(T) <= sizeof op.body);
    memcpy(op.body, &body, sizeof body);
}

} // namespace hearth
