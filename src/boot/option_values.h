// The kinds of value that options on the command line take, from text.
#pragma once

#include "boot/command_line.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace hearth::option_values {

/// Cuts the text up to `separator` off the front, and the separator.
std::string_view next_field(std::string_view& text, char separator);
/// Cuts leading white space and the word after it off the front.
std::string_view next_word(std::string_view& text);
/// Equal, with '-' and '_' taken as the same.
bool same_name(std::string_view a, std::string_view b);

std::optional<bool> boolean(std::string_view text);
/// Decimal, or hexadecimal after 0x.
std::optional<uint64_t> unsigned_number(std::string_view text);
/// A number with a suffix B, K, M, G or T; K when there is none.
std::optional<uint64_t> size(std::string_view text);
/// [-]SIZE, PERCENT% or [-]SIZE+PERCENT%.
std::optional<MemoryAmount> memory_amount(std::string_view text);
/// BAUD[/BASE][,[DPS][,[PORT][,IRQ]]] into `settings`, which stay as they are if the text is
/// malformed.
bool serial(UartSettings& settings, std::string_view text);

} // namespace hearth::option_values
