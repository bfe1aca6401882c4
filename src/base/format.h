// Type-safe text formatting without allocation: format(sink, "{} frames at {:x}", n, address).
// Specs: {} decimal or text, {:x} hexadecimal, {:016x} padded. A missing argument prints "{?}".
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>

namespace hearth {

/// Where formatted text goes. Implementations never fail; they may truncate.
class TextSink {
public:
    virtual void put(std::string_view text) = 0;

protected:
    ~TextSink() = default;
};

/// Collects text in a fixed buffer, cutting what does not fit.
template <size_t Size>
class TextBuffer final : public TextSink {
    char data_[Size]{};
    size_t used_ = 0;

public:
    void put(std::string_view text) override { used_ += text.copy(data_ + used_, Size - used_); }
    [[nodiscard]] std::string_view view() const { return {data_, used_}; }
};

/// One argument with its type erased.
struct FormatArgument {
    enum class Kind : uint8_t { text, character, unsigned_number, signed_number };
    Kind kind;
    uint64_t number = 0;
    std::string_view text = {};

    FormatArgument(std::string_view t) : kind{Kind::text}, text{t} {}
    FormatArgument(char const* t) : kind{Kind::text}, text{t} {}
    FormatArgument(char c) : kind{Kind::character}, number{static_cast<uint8_t>(c)} {}
    FormatArgument(bool b) : kind{Kind::text}, text{b ? "true" : "false"} {}
    template <std::unsigned_integral T>
    FormatArgument(T n) : kind{Kind::unsigned_number}, number{n} {}
    template <std::signed_integral T>
    FormatArgument(T n) : kind{Kind::signed_number}, number{static_cast<uint64_t>(int64_t{n})} {}
    template <class T>
        requires std::is_enum_v<T>
    FormatArgument(T e) : FormatArgument{static_cast<std::underlying_type_t<T>>(e)} {}
    template <class Tag>
    FormatArgument(Number<Tag> n) : kind{Kind::unsigned_number}, number{n.raw()} {}
    template <class T>
    FormatArgument(T const* p)
        : kind{Kind::unsigned_number}, number{reinterpret_cast<uintptr_t>(p)} {}
};

void format_arguments(TextSink& sink, std::string_view pattern,
                      std::span<FormatArgument const> arguments);

template <class... A>
void format(TextSink& sink, std::string_view pattern, A const&... arguments) {
    if constexpr (sizeof...(A) == 0) {
        format_arguments(sink, pattern, {});
    } else {
        FormatArgument const list[] = {FormatArgument{arguments}...};
        format_arguments(sink, pattern, list);
    }
}

} // namespace hearth
