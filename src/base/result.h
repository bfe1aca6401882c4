// Result<T>: a value or a Xen errno. Nothing that can fail may be ignored.
#pragma once

#include <cstdint>
#include <expected>
#include <utility>

namespace hearth {

/// Errno values of the Xen ABI (public/errno.h). Guests see them negated.
enum class Errno : int32_t {
    perm = 1,
    noent = 2,
    srch = 3,
    intr = 4,
    io = 5,
    nxio = 6,
    toobig = 7,
    noexec = 8,
    badf = 9,
    child = 10,
    again = 11,
    nomem = 12,
    access = 13,
    fault = 14,
    busy = 16,
    exist = 17,
    xdev = 18,
    nodev = 19,
    isdir = 21,
    inval = 22,
    nfile = 23,
    nospc = 28,
    rofs = 30,
    mlink = 31,
    dom = 33,
    range = 34,
    deadlk = 35,
    nametoolong = 36,
    nolck = 37,
    nosys = 38,
    notempty = 39,
    nodata = 61,
    ilseq = 84,
    overflow = 75,
    badmsg = 74,
    users = 87,
    msgsize = 90,
    nobufs = 105,
    isconn = 106,
    notconn = 107,
    timedout = 110,
    connrefused = 111,
    opnotsupp = 95,
    addrnotavail = 99,
};

/// The negative number that a guest reads from rax.
constexpr int64_t abi_error(Errno error) { return -static_cast<int64_t>(error); }

template <class T = void>
class [[nodiscard]] Result : public std::expected<T, Errno> {
public:
    using std::expected<T, Errno>::expected;
    constexpr Result(Errno error) : std::expected<T, Errno>{std::unexpect, error} {}
};

} // namespace hearth

/// Evaluates to the value of a Result, or returns its error from the enclosing function. May be
/// nested.
#define TRY(expression)                                                                            \
    ({                                                                                             \
        _Pragma("clang diagnostic push")                                                           \
            _Pragma("clang diagnostic ignored \"-Wshadow\"") auto&& try_result_ = (expression);    \
        _Pragma("clang diagnostic pop") if (!try_result_) [[unlikely]] return try_result_.error(); \
        *std::move(try_result_);                                                                   \
    })
