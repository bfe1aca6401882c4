// The log: formatted lines to the console and into the ring that Domain 0 reads; and panic.
#pragma once

#include "base/format.h"

namespace hearth {

enum class Level : uint8_t { error, warning, info, debug };

/// Which messages are shown: those at or below this level.
void set_log_level(Level level);
bool log_enabled(Level level);
void log_line(Level level, std::string_view text);

template <class... A>
void log(Level level, std::string_view pattern, A const&... arguments) {
    if (!log_enabled(level))
        return;
    TextBuffer<240> text;
    format(text, pattern, arguments...);
    log_line(level, text.view());
}
template <class... A>
void log_error(std::string_view pattern, A const&... a) {
    log(Level::error, pattern, a...);
}
template <class... A>
void log_warning(std::string_view pattern, A const&... a) {
    log(Level::warning, pattern, a...);
}
template <class... A>
void log_info(std::string_view pattern, A const&... a) {
    log(Level::info, pattern, a...);
}
template <class... A>
void log_debug(std::string_view pattern, A const&... a) {
    log(Level::debug, pattern, a...);
}

/// Hearth found a bug in itself: prints the state of the machine and stops or reboots it.
[[noreturn]] void panic_text(std::string_view text);

template <class... A>
[[noreturn]] void panic(std::string_view pattern, A const&... arguments) {
    TextBuffer<240> text;
    format(text, pattern, arguments...);
    panic_text(text.view());
}

} // namespace hearth
