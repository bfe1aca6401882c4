#include "boot/option_values.h"

#include <algorithm>

namespace hearth::option_values {
namespace {

char canonical(char c) { return c == '_' ? '-' : c; }

int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = static_cast<char>(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

std::optional<unsigned> shift_of(char suffix) {
    switch (suffix | 0x20) {
    case 'b':
        return 0;
    case 'k':
        return 10;
    case 'm':
        return 20;
    case 'g':
        return 30;
    case 't':
        return 40;
    default:
        return std::nullopt;
    }
}

/// Data bits, parity and stop bits, such as 8n1, as a 16550's line control register wants them.
std::optional<uint8_t> line_control(std::string_view text) {
    constexpr std::string_view parities = "noems"; // none, odd, even, mark, space
    constexpr uint8_t parity_bits[] = {0x00, 0x08, 0x18, 0x28, 0x38};
    if (text.size() != 3 || text[0] < '5' || text[0] > '8' || (text[2] != '1' && text[2] != '2'))
        return std::nullopt;
    auto parity = parities.find(text[1]);
    if (parity == parities.npos)
        return std::nullopt;
    return static_cast<uint8_t>((text[0] - '5') | (text[2] == '2' ? 0x04 : 0) |
                                parity_bits[parity]);
}

/// BAUD[/BASE]; BASE is the rate at divisor 1, a sixteenth of the clock.
bool baud_rate(UartSettings& settings, std::string_view text) {
    constexpr uint64_t fastest = 4'000'000;
    auto rate = next_field(text, '/');
    auto baud = rate == "auto" ? 0 : unsigned_number(rate);
    if (!baud || *baud > fastest || (*baud == 0 && rate != "auto"))
        return false;
    if (!text.empty()) {
        auto base = unsigned_number(text);
        if (!base || *base == 0 || *base > fastest * 16 || *base < *baud)
            return false;
        settings.clock = static_cast<uint32_t>(*base * 16);
    }
    settings.baud = static_cast<uint32_t>(*baud);
    return true;
}

} // namespace

std::string_view next_field(std::string_view& text, char separator) {
    auto length = std::min(text.find(separator), text.size());
    auto field = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    return field;
}

std::string_view next_word(std::string_view& text) {
    constexpr std::string_view blanks = " \t\r\n";
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
    auto word = text.substr(0, text.find_first_of(blanks));
    text.remove_prefix(word.size());
    return word;
}

bool same_name(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, {}, canonical, canonical);
}

std::optional<bool> boolean(std::string_view text) {
    constexpr std::string_view yes[] = {"yes", "on", "true", "1", "enable"};
    constexpr std::string_view no[] = {"no", "off", "false", "0", "disable"};
    if (std::ranges::find(yes, text) != std::end(yes))
        return true;
    if (std::ranges::find(no, text) != std::end(no))
        return false;
    return std::nullopt;
}

std::optional<uint64_t> unsigned_number(std::string_view text) {
    unsigned base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        base = 16;
        text.remove_prefix(2);
    }
    if (text.empty())
        return std::nullopt;
    uint64_t value = 0;
    for (char c : text) {
        auto d = static_cast<unsigned>(digit(c));
        if (d >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, d, &value))
            return std::nullopt;
    }
    return value;
}

std::optional<uint64_t> size(std::string_view text) {
    unsigned shift = 10;
    bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    if (!text.empty() && !(hexadecimal && (text.back() | 0x20) == 'b'))
        if (auto suffix = shift_of(text.back())) {
            shift = *suffix;
            text.remove_suffix(1);
        }
    auto value = unsigned_number(text);
    if (!value || *value > (~uint64_t{0} >> shift))
        return std::nullopt;
    return *value << shift;
}

std::optional<MemoryAmount> memory_amount(std::string_view text) {
    MemoryAmount amount;
    if (text.ends_with('%')) {
        auto plus = text.find('+');
        auto start = plus == text.npos ? 0 : plus + 1;
        auto percent = unsigned_number(text.substr(start, text.size() - 1 - start));
        if (!percent || *percent > 100)
            return std::nullopt;
        amount.percent = static_cast<uint8_t>(*percent);
        if (plus == text.npos)
            return amount;
        text = text.substr(0, plus);
    }
    amount.less_than_total = text.starts_with('-');
    if (amount.less_than_total)
        text.remove_prefix(1);
    auto bytes = size(text);
    if (!bytes)
        return std::nullopt;
    amount.bytes = *bytes;
    return amount;
}

bool serial(UartSettings& settings, std::string_view text) {
    UartSettings result = settings;
    if (text.empty())
        return false;
    auto rate = next_field(text, ',');
    if (!rate.empty() && !baud_rate(result, rate))
        return false;
    if (auto format = next_field(text, ','); !format.empty()) {
        auto control = line_control(format);
        if (!control)
            return false;
        result.line_control = *control;
    }
    if (auto port = next_field(text, ','); !port.empty()) {
        auto number = unsigned_number(port);
        if (!number || *number == 0 || *number > 0xfff8)
            return false;
        result.port = static_cast<uint16_t>(*number);
    }
    if (!text.empty()) {
        auto irq = unsigned_number(text);
        if (!irq || *irq > 255)
            return false;
        result.irq = static_cast<uint8_t>(*irq);
    }
    settings = result;
    return true;
}

} // namespace hearth::option_values
