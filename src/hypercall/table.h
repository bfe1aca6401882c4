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

struct Arguments {
    uint64_t values[6];
};

template <class Function>
struct Signature;
template <class... A>
struct Signature<Result<int64_t> (*)(Context&, A...)> {
    template <auto function, size_t... I>
    static Result<int64_t> call(Context& context, Arguments const& a, std::index_sequence<I...>) {
        return function(context, static_cast<A>(a.values[I])...);
    }
    template <auto function>
    static Result<int64_t> decode(Context& context, Arguments const& a) {
        static_assert(sizeof...(A) <= 6);
        return call<function>(context, a, std::index_sequence_for<A...>{});
    }
};

inline bool may_call(Domain const& domain, Caller who) {
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
    static bool allowed(Domain const& domain, Arguments const& a) {
        return may_call(domain, caller) && (((a.values[0] & reserved.mask) != reserved.operation ||
                                             may_call(domain, reserved.caller)) &&
                                            ...);
    }
    static Result<int64_t> call(Context& context, Arguments const& a) {
        return Signature<decltype(function)>::template decode<function>(context, a);
    }
};

template <class... Rows>
struct Table {
    /// nosys for a number that is not in the table.
    static Result<int64_t> call(uint64_t number, Context& context, Arguments const& a) {
        Result<int64_t> result = Errno::nosys;
        // Compared one after the other: no indirect branch for a guest to train.
        (void)((number == Rows::number &&
                (result = Rows::allowed(context.domain, a) ? Rows::call(context, a)
                                                           : Result<int64_t>{Errno::perm},
                 true)) ||
               ...);
        return result;
    }
};

} // namespace hearth
