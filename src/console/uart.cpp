#include "console/uart.h"

#include "arch/port_io.h"

#include <algorithm>

namespace hearth {
namespace {
// Registers of the National Semiconductor 16550.
constexpr uint16_t data = 0, interrupt_enable = 1, fifo_control = 2, line_control = 3,
                   modem_control = 4, line_status = 5, scratch = 7;
constexpr uint8_t status_data_ready = 0x01, status_transmit_empty = 0x20;
constexpr uint8_t interrupt_on_data = 0x01, interrupt_on_room = 0x02;
constexpr uint8_t fifo_works = 0xc0; // both bits, in what is read where its control is written
} // namespace

bool Uart::initialise(UartSettings const& settings) {
    settings_ = settings;
    uint16_t const port = settings.port;
    arch::out8(port + scratch, 0x5a);
    present_ = arch::in8(port + scratch) == 0x5a;
    if (!present_)
        return false;
    arch::out8(port + interrupt_enable, 0);
    if (settings.baud != 0) {
        uint32_t const divisor = std::max(settings.clock / 16 / settings.baud, 1u);
        arch::out8(port + line_control, settings.line_control | 0x80);
        arch::out8(port + data, static_cast<uint8_t>(divisor));
        arch::out8(port + interrupt_enable, static_cast<uint8_t>(divisor >> 8));
    }
    arch::out8(port + line_control, settings.line_control);
    arch::out8(port + fifo_control, 0x07); // on, both cleared, interrupt at one byte
    bool const has_fifo = (arch::in8(port + fifo_control) & fifo_works) == fifo_works;
    room_ = has_fifo ? 16 : 1;
    arch::out8(port + modem_control, 0x0b); // DTR, RTS, OUT2: interrupts reach the controller
    return true;
}

/// Bounded: a port that stops answering must not stop the machine, and is waited for once. Seconds,
/// since at the other end somebody may have been kept from reading.
void Uart::wait_for_room() {
    constexpr unsigned patience = 3'000'000; // a look takes a microsecond
    for (unsigned looks = stopped_ ? 1 : patience; looks != 0; --looks)
        if (arch::in8(settings_.port + line_status) & status_transmit_empty) {
            stopped_ = false;
            return;
        }
    stopped_ = true;
}

void Uart::put(std::string_view text) {
    if (!present_)
        return;
    for (char c : text) {
        wait_for_room();
        arch::out8(settings_.port + data, static_cast<uint8_t>(c));
    }
}

size_t Uart::offer(std::string_view text) {
    if (!present_)
        return text.size();
    if (!(arch::in8(settings_.port + line_status) & status_transmit_empty))
        return 0;
    size_t const count = std::min<size_t>(text.size(), room_);
    for (char c : text.substr(0, count))
        arch::out8(settings_.port + data, static_cast<uint8_t>(c));
    return count;
}

bool Uart::has_input() const {
    return present_ && (arch::in8(settings_.port + line_status) & status_data_ready);
}

int Uart::get() { return has_input() ? arch::in8(settings_.port + data) : -1; }

void Uart::enable_interrupts(bool room_to_send) {
    if (!present_)
        return;
    arch::out8(settings_.port + interrupt_enable, interrupt_on_data);
    if (room_to_send)
        arch::out8(settings_.port + interrupt_enable, interrupt_on_data | interrupt_on_room);
}

} // namespace hearth
