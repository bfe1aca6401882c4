// The console: serial ports and VGA text out, a ring that remembers, and keys in.
//
// Keys go to Domain 0 until Ctrl-A has been typed three times, then to Hearth's own debug keys, and
// back likewise.
#pragma once

#include "console/log_ring.h"
#include "console/uart.h"

#include <span>
#include <string_view>

namespace hearth {

struct ConsoleSettings {
    bool com1 = true;
    bool com2 = false;
    bool vga = false;
    UartSettings com1_settings{};
    UartSettings com2_settings{.port = 0x2f8, .irq = 3};
};

void console_initialise(ConsoleSettings const& settings);
/// Interrupt lines of the ports in use, to be routed to console_service(); returns how many.
unsigned console_interrupt_lines(std::span<uint8_t, 2> lines);
/// The lines are routed. Unless output is to be queued, whoever writes waits for the ports.
void console_enable_interrupts(bool queue_output);
/// Takes what has been typed, and sends of what is queued; called from the ports' interrupts.
void console_service();

/// A guest's text, to the devices only. Hearth's own lines come through log.h, and the ring keeps
/// those.
void console_write(std::string_view text);
/// Whether so much can be written without waiting for a port.
bool console_has_room(size_t size);
/// Sends all that is queued, and queues no more: before the machine stops.
void console_flush();
/// For panic: from here on no lock is taken.
void console_break_lock();

/// Up to `out.size()` typed bytes for Domain 0, oldest first.
size_t console_read_input(std::span<char> out);

/// Sinks for input, set once at start-up by the layers that own them.
struct ConsoleInputSinks {
    void (*guest_input_ready)() = nullptr;
    void (*debug_key)(char key) = nullptr;
};
void console_set_input_sinks(ConsoleInputSinks sinks);

/// The ring: copies from position `index`, or from the oldest byte kept unless `incremental`, and
/// moves `index` on.
size_t console_ring_read(std::span<char> out, uint32_t& index, bool incremental);
void console_ring_clear();
/// Moves the ring to other room (a power of two), once there is memory, and what it holds with it.
/// If the room holds what was left behind by an end that was not in order, that goes into the ring,
/// too, by way of `scratch`, as far as it has room: true.
bool console_ring_move(LogRing::Header& header, std::span<char> room, std::span<char> scratch);
/// The machine stops because somebody said so: what is queued is sent, and the next start has
/// nothing to tell.
void console_leave_in_order();

/// Where VGA text memory is mapped from now on; null: no longer ours to write to.
void console_move_vga(void* cells);

} // namespace hearth
