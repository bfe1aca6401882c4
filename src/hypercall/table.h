// A table of hypercalls: number, function and who may call, side by side. Argument decoding follows
// from the signature.
#pragma once

#include "abi/xen.h"
#include "domain/domain.h"

#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

namespace hearth {

enum class Caller : uint8_t { anyone, hardware_domain, privileged };

template <class Function>
struct Signature;
template <class... A>
struct Signature<Result<int64_t> (*)(Context&, A...)> {
    template <auto function, class Arguments, size_t... I>
    [[gnu::always_inline]] static Result<int64_t> call(Context& context, Arguments const& a,
                                                       std::index_sequence<I...>) {
        // Apart, so that what one function saves and reserves is not every hypercall's.
        [[clang::noinline]] return function(context, static_cast<A>(a.template get<I>())...);
    }
    template <auto function, class Arguments>
    [[gnu::always_inline]] static Result<int64_t> decode(Context& context, Arguments const& a) {
        static_assert(sizeof...(A) <= 6);
        return call<function>(context, a, std::index_sequence_for<A...>{});
    }
};

[[gnu::always_inline]] inline bool may_call(Domain const& domain, Caller who) {
    switch (who) {
    case Caller::anyone:
        return true;
    case Caller::hardware_domain:
        return domain.hardware;
    case Caller::privileged:
        return domain.privileged;
    }
    return false;
}

/// One sub-operation, by the bits of the first argument that name it, that not everyone may use.
struct Reserved {
    Caller caller;
    uint32_t operation, mask;
};

template <abi::Hypercall hypercall_number, auto function, Caller caller = Caller::anyone,
          Reserved... reserved>
struct Row {
    static constexpr auto number = static_cast<uint64_t>(hypercall_number);
    template <class Arguments>
    static bool allowed(Domain const& domain, Arguments const& a) {
        return may_call(domain, caller) &&
               (((a.template get<0>() & reserved.mask) != reserved.operation ||
                 may_call(domain, reserved.caller)) &&
                ...);
    }
    template <class Arguments>
    [[gnu::always_inline]] static Result<int64_t> call(uint64_t n, Context& context,
                                                       Arguments const& a) {
        if (n != number)
            return Errno::nosys;
        if constexpr (sizeof...(reserved) > 1)
            return call_if_allowed(context, a);
        if (!allowed(context.domain, a))
            return Errno::perm;
        return Signature<decltype(function)>::template decode<function>(context, a);
    }

private:
    /// Apart where there is much to compare.
    template <class Arguments>
    [[gnu::noinline]] static Result<int64_t> call_if_allowed(Context& context, Arguments const& a) {
        if (!allowed(context.domain, a))
            return Errno::perm;
        return Signature<decltype(function)>::template decode<function>(context, a);
    }
};

/// Their numbers ascend.
template <class... Rows>
class Table {
    using Sorted = std::tuple<Rows...>;
    template <size_t index>
    static constexpr uint64_t number_at = std::tuple_element_t<index, Sorted>::number;
    template <size_t... I>
    static constexpr bool ascend(std::index_sequence<I...>) {
        return ((number_at<I> < number_at<I + 1>) && ...);
    }
    static_assert(ascend(std::make_index_sequence<sizeof...(Rows) - 1>()));

    /// Looks among the rows [low, high).
    template <size_t low, size_t high, class Arguments>
    [[gnu::always_inline]] static Result<int64_t> search(uint64_t number, Context& context,
                                                         Arguments const& a) {
        if constexpr (high - low == 1) {
            return std::tuple_element_t<low, Sorted>::call(number, context, a);
        } else {
            constexpr size_t middle = (low + high) / 2;
            return number < number_at<middle> ? search<low, middle>(number, context, a)
                                              : search<middle, high>(number, context, a);
        }
    }

public:
    /// nosys for a number that is not in the table. Found by comparing, so that there is no
    /// indirect branch for a guest to train.
    template <class Arguments>
    [[gnu::always_inline]] static Result<int64_t> call(uint64_t number, Context& context,
                                                       Arguments const& a) {
        return search<0, sizeof...(Rows)>(number, context, a);
    }
};

} // namespace hearth
