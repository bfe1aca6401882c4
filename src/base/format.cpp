#include "base/format.h"

namespace hearth {
namespace {

struct Spec {
    bool hexadecimal = false;
    bool zero_padded = false;
    unsigned width = 0;
};

Spec parse_spec(std::string_view text) {
    Spec spec;
    for (char c : text) {
        if (c == 'x')
            spec.hexadecimal = true;
        else if (c == '0' && spec.width == 0)
            spec.zero_padded = true;
        else if (c >= '0' && c <= '9')
            spec.width = spec.width * 10 + static_cast<unsigned>(c - '0');
    }
    return spec;
}

void pad(TextSink& sink, unsigned used, Spec spec) {
    constexpr std::string_view zeros = "0000000000000000", spaces = "                ";
    while (used < spec.width) {
        std::string_view const part =
            (spec.zero_padded ? zeros : spaces).substr(0, spec.width - used);
        sink.put(part);
        used += static_cast<unsigned>(part.size());
    }
}

void put_number(TextSink& sink, uint64_t n, bool negative, Spec spec) {
    char digits[20];
    unsigned start = sizeof digits;
    uint64_t const base = spec.hexadecimal ? 16 : 10;
    do {
        digits[--start] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n != 0);
    unsigned const length = static_cast<unsigned>(sizeof digits) - start + (negative ? 1 : 0);
    if (negative)
        sink.put("-");
    pad(sink, length, spec);
    sink.put({digits + start, sizeof digits - start});
}

void put_argument(TextSink& sink, FormatArgument const& a, Spec spec) {
    switch (a.kind) {
    case FormatArgument::Kind::text:
        sink.put(a.text);
        pad(sink, static_cast<unsigned>(a.text.size()), spec);
        break;
    case FormatArgument::Kind::character: {
        char const c = static_cast<char>(a.number);
        sink.put({&c, 1});
        break;
    }
    case FormatArgument::Kind::unsigned_number:
        put_number(sink, a.number, false, spec);
        break;
    case FormatArgument::Kind::signed_number: {
        bool const negative = static_cast<int64_t>(a.number) < 0 && !spec.hexadecimal;
        put_number(sink, negative ? 0 - a.number : a.number, negative, spec);
        break;
    }
    }
}

} // namespace

void format_arguments(TextSink& sink, std::string_view pattern,
                      std::span<FormatArgument const> arguments) {
    size_t next = 0;
    while (!pattern.empty()) {
        size_t const open = pattern.find('{');
        sink.put(pattern.substr(0, open));
        if (open == std::string_view::npos)
            return;
        size_t const close = pattern.find('}', open);
        if (close == std::string_view::npos)
            return sink.put("{?}");
        if (next < arguments.size())
            put_argument(sink, arguments[next++],
                         parse_spec(pattern.substr(open + 1, close - open - 1)));
        else
            sink.put("{?}");
        pattern.remove_prefix(close + 1);
    }
}

} // namespace hearth
