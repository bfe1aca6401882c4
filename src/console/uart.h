// A 16550 serial port, behind port I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace hearth {

struct UartSettings {
    uint16_t port = 0x3f8;
    uint8_t irq = 4;
    uint32_t baud = 115200; // 0: leave as the firmware set it
    uint32_t clock = 1843200;
    uint8_t line_control = 0x03; // 8 data bits, no parity, 1 stop bit
};

class Uart {
    UartSettings settings_{};
    bool present_ = false;
    bool stopped_ = false; // it did not answer when it was last waited for
    uint8_t room_ = 1;     // bytes that it takes when it has none

    void wait_for_room();

public:
    /// False when there is no such port.
    bool initialise(UartSettings const& settings);
    /// Waits until the port has taken all of it; gives up on a byte that it does not take.
    void put(std::string_view text);
    /// Hands over what the port takes at once; how many bytes that were.
    size_t offer(std::string_view text);
    [[nodiscard]] bool has_input() const;
    /// The next received byte, or -1.
    int get();
    /// For received bytes always. For room to send, as an edge when there already is some.
    void enable_interrupts(bool room_to_send);
    [[nodiscard]] bool present() const { return present_; }
    [[nodiscard]] UartSettings const& settings() const { return settings_; }
};

} // namespace hearth
