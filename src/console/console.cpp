#include "console/console.h"

#include "base/lock.h"
#include "console/log_filter.h"
#include "console/vga.h"

#include <algorithm>
#include <utility>

namespace hearth {
namespace {

constexpr uint32_t first_ring_size = 16 * 1024;
constexpr uint32_t queue_size = 8 * 1024; // of each port: 0.7 s at 115200 baud
constexpr unsigned input_size = 128;
constexpr char escape_key = 0x01; // Ctrl-A
constexpr unsigned escapes_to_switch = 3;

constinit char first_ring[first_ring_size]{};
constinit LogRing::Header first_header{};
constinit LogRing ring{first_header, first_ring};

/// A serial port and what waits to be sent on it.
struct Port {
    Uart uart;
    bool queues = false;
    char queue[queue_size]{};
    uint32_t first = 0, end = 0; // count all bytes that were ever queued

    [[nodiscard]] uint32_t waiting() const { return end - first; }
    /// Up to where the array ends.
    [[nodiscard]] std::string_view next() const {
        uint32_t const at = first % queue_size;
        return {queue + at, std::min(waiting(), queue_size - at)};
    }
    void put(std::string_view text) {
        if (!queues)
            return uart.put(text);
        while (!text.empty()) {
            if (waiting() == queue_size) {
                uart.put(next().substr(0, 1));
                ++first;
            }
            uint32_t const at = end % queue_size;
            size_t const room = std::min(queue_size - waiting(), queue_size - at);
            size_t const count = text.copy(queue + at, room);
            text.remove_prefix(count);
            end += static_cast<uint32_t>(count);
        }
    }
    /// A bounded part of it.
    void send() {
        if (!queues)
            return;
        for (unsigned tries = 0; tries < 4 && waiting() != 0; ++tries)
            first += static_cast<uint32_t>(uart.offer(next()));
        uart.enable_interrupts(waiting() != 0);
    }
    void flush() {
        for (; waiting() != 0; first += static_cast<uint32_t>(next().size()))
            uart.put(next());
        queues = false;
    }
};

struct State {
    Port ports[2];
    bool vga = false;
    char input[input_size]{};
    unsigned input_head = 0, input_used = 0;
    unsigned escapes = 0;
    bool to_hearth = false;
};
constinit State state{};
constinit SpinLock<Rank::console> console_lock;
constinit bool lock_broken = false;
constinit ConsoleInputSinks sinks{};
constinit LogFilter filters[] = {
    LogFilter{{LogThreshold::info, LogThreshold::info}},   // Hearth's own
    LogFilter{{LogThreshold::none, LogThreshold::warning}} // of guests' making
};
constinit uint64_t (*log_clock)() = nullptr;
constinit bool time_stamps = false;

template <class Function>
void locked(Function&& function) {
    if (lock_broken)
        return function();
    LockGuard guard{console_lock};
    function();
}

void put_devices(std::string_view text) {
    // Terminals want a carriage return before each line feed.
    while (!text.empty()) {
        size_t const end = text.find('\n');
        std::string_view const part = text.substr(0, end);
        for (Port& port : state.ports) {
            port.put(part);
            if (end != std::string_view::npos)
                port.put("\r\n");
        }
        if (state.vga)
            vga_put(end == std::string_view::npos ? part : text.substr(0, end + 1));
        if (end == std::string_view::npos)
            return;
        text.remove_prefix(end + 1);
    }
}

void send_devices() {
    for (Port& port : state.ports)
        port.send();
}

void put_log_line(std::string_view text, uint64_t now) {
    TextBuffer<32> stamp;
    if (time_stamps)
        format(stamp, "[{:5}.{:06}] ", now / 1'000'000'000, now / 1'000 % 1'000'000);
    for (std::string_view part :
         {std::string_view{"(HEARTH) "}, stamp.view(), text, std::string_view{"\n"}}) {
        put_devices(part);
        ring.put(part);
    }
}

/// False: there is no room.
bool queue_input(char c) {
    if (state.input_used == input_size)
        return false;
    state.input[(state.input_head + state.input_used++) % input_size] = c;
    return true;
}

/// One typed byte: true if Domain 0 has something new to read. An escape key is held back until it
/// is known whom it is for.
bool accept(char c) {
    if (c == escape_key) {
        if (++state.escapes < escapes_to_switch)
            return false;
        state.escapes = 0;
        state.to_hearth = !state.to_hearth;
        put_devices(
            state.to_hearth
                ? "\n(HEARTH) keys go to Hearth now (three times Ctrl-A to go back, h for help)\n"
                : "\n(HEARTH) keys go to Domain 0 now\n");
        return false;
    }
    unsigned const held_back = std::exchange(state.escapes, 0);
    if (state.to_hearth)
        return false;
    for (unsigned i = 0; i < held_back; ++i)
        queue_input(escape_key);
    return queue_input(c);
}

} // namespace

void console_initialise(ConsoleSettings const& settings) {
    if (settings.com1)
        state.ports[0].uart.initialise(settings.com1_settings);
    if (settings.com2)
        state.ports[1].uart.initialise(settings.com2_settings);
    state.vga = settings.vga && vga_initialise();
}

void console_enable_interrupts(bool queue_output) {
    locked([&] {
        for (Port& port : state.ports) {
            port.queues = queue_output && port.uart.present();
            port.uart.enable_interrupts(false);
        }
    });
}

unsigned console_interrupt_lines(std::span<uint8_t, 2> lines) {
    unsigned count = 0;
    for (Port const& port : state.ports)
        if (port.uart.present())
            lines[count++] = port.uart.settings().irq;
    return count;
}

void console_service() {
    bool news = false;
    char keys[16];
    unsigned key_count = 0;
    auto const receive = [&](Uart& uart) {
        for (int c = uart.get(); c >= 0 && key_count < sizeof keys; c = uart.get()) {
            bool const was_ours = state.to_hearth;
            news |= accept(static_cast<char>(c));
            if (was_ours && state.to_hearth && c != escape_key)
                keys[key_count++] = static_cast<char>(c);
        }
    };
    // The line's edges are what counts, and it stays high for either cause. So the last look for
    // input comes after the interrupt for room was turned off and on: what comes later finds the
    // line low, or an edge that is on its way.
    constexpr unsigned most_rounds = 16;
    locked([&] {
        for (Port& port : state.ports)
            for (unsigned round = 0; round < most_rounds; ++round) {
                receive(port.uart);
                port.send();
                if (!port.uart.has_input())
                    break;
            }
    });
    if (news && sinks.guest_input_ready)
        sinks.guest_input_ready();
    for (unsigned i = 0; i < key_count && sinks.debug_key; ++i)
        sinks.debug_key(keys[i]);
}

void console_write(std::string_view text) {
    locked([&] {
        put_devices(text);
        send_devices();
    });
}

bool console_has_room(size_t size) {
    bool room = true;
    locked([&] {
        for (Port& port : state.ports) {
            port.send();
            room = room && (!port.queues || queue_size - port.waiting() >= size);
        }
    });
    return room;
}

void console_flush() {
    locked([] {
        for (Port& port : state.ports)
            port.flush();
    });
}

void console_break_lock() {
    lock_broken = true;
    console_flush();
}

size_t console_read_input(std::span<char> out) {
    size_t count = 0;
    locked([&] {
        while (count < out.size() && state.input_used) {
            out[count++] = state.input[state.input_head];
            state.input_head = (state.input_head + 1) % input_size;
            --state.input_used;
        }
    });
    return count;
}

void console_set_input_sinks(ConsoleInputSinks s) { sinks = s; }

size_t console_ring_read(std::span<char> out, uint32_t& index, bool incremental) {
    size_t count = 0;
    locked([&] { count = ring.read(out, index, incremental); });
    return count;
}

void console_ring_clear() {
    locked([] { ring.clear(); });
}

bool console_ring_move(LogRing::Header& header, std::span<char> room, std::span<char> scratch) {
    std::string_view const left{scratch.data(), LogRing::left_behind(header, room, scratch)};
    locked([&] {
        ring.move_to(header, room);
        if (left.empty())
            return;
        ring.put(
            "(HEARTH) --- what was logged before the machine restarted without being told to:\n");
        ring.put(left);
        ring.put("\n(HEARTH) --- end of that\n");
    });
    return !left.empty();
}

void console_leave_in_order() {
    console_flush();
    locked([] { ring.note_orderly_end(); });
}

void console_move_vga(void* cells) {
    locked([&] {
        state.vga = state.vga && cells;
        vga_move(cells);
    });
}

void set_log_thresholds(LogSource source, LogThresholds thresholds) {
    filters[static_cast<size_t>(source)].set(thresholds);
}

void set_log_clock(uint64_t (*now)(), bool stamps) {
    log_clock = now;
    time_stamps = stamps;
}

bool log_enabled(LogSource source, Level level) {
    return filters[static_cast<size_t>(source)].concerns(level);
}

void log_line(LogSource source, Level level, std::string_view text) {
    locked([&] {
        uint64_t const now = log_clock ? log_clock() : 0;
        auto const verdict = filters[static_cast<size_t>(source)].judge(level, now);
        if (verdict.left_out != 0) {
            TextBuffer<64> note;
            format(note, "{} messages left out", verdict.left_out);
            put_log_line(note.view(), now);
        }
        if (verdict.shown)
            put_log_line(text, now);
        send_devices();
    });
}

} // namespace hearth
