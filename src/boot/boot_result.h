// A value, or one line that tells a human why not. For start-up code, whose errors go to the
// console.
#pragma once

#include "base/result.h"

#include <expected>
#include <string_view>

namespace hearth {

struct BootError {
    /// Static text.
    std::string_view reason;
};

template <class T = void>
class [[nodiscard]] BootResult : public std::expected<T, BootError> {
public:
    using std::expected<T, BootError>::expected;
    constexpr BootResult(BootError error) : std::expected<T, BootError>{std::unexpect, error} {}
};

} // namespace hearth
