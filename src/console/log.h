// The log: formatted lines to the console and into the ring that Domain 0 reads; and panic.
#pragma once

#include "base/format.h"

namespace hearth {

enum class Level : uint8_t { error, warning, info, debug };
/// Who makes Hearth say it. A guest may do so over and over.
enum class LogSource : uint8_t { hearth, guest };

/// Messages up to which level: one more than the level's own number.
enum class LogThreshold : uint8_t { none, error, warning, info, debug };
struct LogThresholds {
    LogThreshold always = LogThreshold::warning;       ///< shown whatever their rate
    LogThreshold rate_limited = LogThreshold::warning; ///< up to this one shown at a limited rate
    bool operator==(LogThresholds const&) const = default;
};

void set_log_thresholds(LogSource source, LogThresholds thresholds);
/// A clock for limits in rate, and for time stamps before each line if these are wanted: ns since
/// start-up. Null while there is none: all is at 0.
void set_log_clock(uint64_t (*now)(), bool time_stamps);
bool log_enabled(LogSource source, Level level);
void log_line(LogSource source, Level level, std::string_view text);

template <class... A>
void log(LogSource source, Level level, std::string_view pattern, A const&... arguments) {
    if (!log_enabled(source, level))
        return;
    TextBuffer<240> text;
    format(text, pattern, arguments...);
    log_line(source, level, text.view());
}
template <class... A>
void log(Level level, std::string_view pattern, A const&... arguments) {
    log(LogSource::hearth, level, pattern, arguments...);
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

/// What a guest does, and may do again.
template <class... A>
void log_guest(Level level, std::string_view pattern, A const&... a) {
    log(LogSource::guest, level, pattern, a...);
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
