// What is written while a serial port is busy, and when it is sent.
#include "cpu/crash.h"
#include "fake_machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace hearth::test {
namespace {

bool port_is_busy = false;
unsigned looks_until_room = 0, looks = 0;
uint8_t waiting_input = 0, interrupt_cause = 0xc1;

uint8_t read_uart(uint16_t port, uint8_t) {
    constexpr uint16_t com1 = 0x3f8, cause = com1 + 2, line_status = com1 + 5, scratch = com1 + 7;
    switch (port) {
    case line_status:
        ++looks;
        if (looks_until_room != 0 && --looks_until_room == 0)
            port_is_busy = false;
        return static_cast<uint8_t>((port_is_busy ? 0 : 0x60) | (waiting_input ? 1 : 0));
    case cause:
        return interrupt_cause;
    case scratch:
        return 0x5a;
    case com1:
        return std::exchange(waiting_input, 0);
    default:
        return 0xff;
    }
}

class ConsoleQueue : public testing::Test {
protected:
    void SetUp() override {
        boot_machine();
        host::read_port = read_uart;
        console_initialise({.com1 = true});
        console_enable_interrupts(true);
        host::serial_output().clear();
        port_is_busy = true;
    }
    void TearDown() override {
        port_is_busy = false;
        console_flush();
        host::read_port = nullptr;
    }
    static void interrupts(unsigned count) {
        for (unsigned i = 0; i < count; ++i)
            console_service();
    }
};

TEST_F(ConsoleQueue, ABusyPortIsNotWaitedFor) {
    console_write("first\n");
    console_write("second\n");
    EXPECT_EQ(host::serial_output(), "");
    port_is_busy = false;
    console_service();
    EXPECT_EQ(host::serial_output(), "first\r\nsecond\r\n");
}

TEST_F(ConsoleQueue, MuchIsSentInParts) {
    std::string text;
    for (unsigned i = 0; text.size() < 4000; ++i)
        text += std::to_string(i) + ' ';
    console_write(text);
    port_is_busy = false;
    console_service();
    EXPECT_LT(host::serial_output().size(), 100u) << "in one interrupt";
    interrupts(100);
    EXPECT_EQ(host::serial_output(), text);
}

TEST_F(ConsoleQueue, OneWithoutAFifoIsGivenAByteAtATime) {
    interrupt_cause = 0x01; // a 16450
    console_initialise({.com1 = true});
    host::serial_output().clear();
    console_write("abcdefghijklmnopqrstuvwxyz");
    port_is_busy = false;
    looks = 0;
    console_service();
    EXPECT_LT(host::serial_output().size(), looks) << "it is asked before each";
    EXPECT_NE(host::serial_output(), "");
    interrupts(26);
    EXPECT_EQ(host::serial_output(), "abcdefghijklmnopqrstuvwxyz");
    interrupt_cause = 0xc1;
    console_initialise({.com1 = true});
}

TEST_F(ConsoleQueue, TellsWhenThereIsRoom) {
    EXPECT_TRUE(console_has_room(8192));
    console_write(std::string(8000, 'x'));
    EXPECT_TRUE(console_has_room(192));
    EXPECT_FALSE(console_has_room(193));
    port_is_busy = false;
    interrupts(10);
    EXPECT_TRUE(console_has_room(193));
}

TEST_F(ConsoleQueue, AFullOneLosesTheOldestToThePort) {
    std::string const text = std::string(8192, 'a') + std::string(100, 'b');
    console_write(text); // waits for the port, which takes a byte although it does not say so
    console_flush();
    EXPECT_EQ(host::serial_output(), text);
}

TEST_F(ConsoleQueue, AFlushSendsAllAndEndsIt) {
    console_write(std::string(5000, 'x'));
    port_is_busy = false;
    console_flush();
    EXPECT_EQ(host::serial_output().size(), 5000u);
    console_write("at once");
    EXPECT_EQ(host::serial_output().substr(5000), "at once");
}

TEST_F(ConsoleQueue, APortThatIsSlowLosesNothing) {
    console_write("all of it");
    looks_until_room = 1'000'000; // somebody at the other end has other things to do
    console_flush();
    EXPECT_FALSE(port_is_busy) << "written before there was room";
    EXPECT_EQ(host::serial_output(), "all of it");
}

TEST_F(ConsoleQueue, NothingIsLeftInItWhenTheMachineStops) {
    set_reboot_on_panic(false);
    set_log_thresholds(LogSource::hearth, {LogThreshold::error, LogThreshold::error});
    looks_until_room = 1'000;
    EXPECT_DEATH(leave_machine_after_crash(), "Stopped; reset the machine to go on");
    set_reboot_on_panic(true);
}

TEST_F(ConsoleQueue, APortThatStopsIsWaitedForOnce) {
    console_flush();
    looks = 0;
    console_write("a");
    unsigned const once = looks;
    console_write("b");
    EXPECT_LE(looks, once + 1);
    port_is_busy = false;
    console_write("c");
    port_is_busy = true;
    looks = 0;
    console_write("d");
    EXPECT_EQ(looks, once) << "it answers again";
}

TEST_F(ConsoleQueue, KeysAreTakenWhileOutputWaits) {
    console_write("text");
    waiting_input = 'k';
    console_service();
    char key = 0;
    EXPECT_EQ(console_read_input({&key, 1}), 1u);
    EXPECT_EQ(key, 'k');
}

TEST_F(ConsoleQueue, LinesBearTheTimeWhenThatIsWanted) {
    port_is_busy = false;
    set_log_clock([] { return uint64_t{12'345'678'901}; }, true);
    log_error("now");
    set_log_clock(nullptr, false);
    log_error("later");
    EXPECT_EQ(host::serial_output(), "(HEARTH) [   12.345678] now\r\n(HEARTH) later\r\n");
}

TEST_F(ConsoleQueue, AGuestThatMakesHearthTalkIsCutShort) {
    port_is_busy = false;
    static uint64_t now = 1'000'000'000'000;
    set_log_clock([] { return now; }, false);
    for (unsigned i = 0; i < 1000; ++i)
        log_guest(Level::error, "one more");
    interrupts(1000);
    EXPECT_LT(host::serial_output().size(), 2000u);
    host::serial_output().clear();
    now += 60'000'000'000;
    log_guest(Level::error, "again");
    set_log_clock(nullptr, false);
    EXPECT_EQ(host::serial_output(), "(HEARTH) 936 messages left out\r\n(HEARTH) again\r\n");
}

// --- Keys

std::string debug_keys;
unsigned times_told = 0;

class ConsoleKeys : public ConsoleQueue {
protected:
    void SetUp() override {
        ConsoleQueue::SetUp();
        port_is_busy = false;
        debug_keys.clear();
        times_told = 0;
        console_set_input_sinks({.guest_input_ready = [] { ++times_told; },
                                 .debug_key = [](char key) { debug_keys.push_back(key); }});
    }
    void TearDown() override {
        console_set_input_sinks({});
        ConsoleQueue::TearDown();
    }
    static void type(std::string_view keys) {
        for (char const key : keys) {
            waiting_input = static_cast<uint8_t>(key);
            console_service();
        }
    }
    static std::string read() {
        char keys[2048];
        return {keys, console_read_input(keys)};
    }
};

TEST_F(ConsoleKeys, AreDomain0sUntilThreeTimesControlA) {
    type("ls\x01\x01x\x01y"); // twice is not enough, nor do they count on
    EXPECT_EQ(times_told, 4u);
    type("\x01\x01\x01hq");
    EXPECT_EQ(debug_keys, "hq");
    EXPECT_EQ(times_told, 4u);
    EXPECT_NE(host::serial_output().find("keys go to Hearth now"), std::string::npos);
    type("\x01\x01\x01");
    EXPECT_NE(host::serial_output().find("keys go to Domain 0 now"), std::string::npos);
    type("\n");
    EXPECT_EQ(debug_keys, "hq");
    EXPECT_EQ(read(), "ls\x01\x01x\x01y\n");
}

TEST_F(ConsoleKeys, ThatNobodyReadsAreLostInTheEnd) {
    std::string typed(3000, 'a');
    typed.front() = 'f';
    type(typed);
    std::string const kept = read();
    EXPECT_EQ(kept, typed.substr(0, kept.size())) << "the oldest are kept";
    EXPECT_EQ(times_told, kept.size());
    EXPECT_LT(kept.size(), typed.size());
    type("on");
    EXPECT_EQ(read(), "on");
}

// --- Other devices

class ConsoleDevices : public testing::Test {
protected:
    ConsoleDevices() { boot_machine(); }
    ~ConsoleDevices() override {
        console_move_vga(nullptr);
        host::read_port = nullptr;
        host::write_port = nullptr;
    }
};

TEST_F(ConsoleDevices, BothPortsSayTheSame) {
    static std::string second;
    second.clear();
    static uint8_t scratch = 0;
    host::read_port = [](uint16_t port, uint8_t) {
        return port % 8 == 7 ? scratch : uint8_t{0x60};
    };
    host::write_port = [](uint16_t port, unsigned, uint32_t value) {
        if (port % 8 == 7)
            scratch = static_cast<uint8_t>(value);
        if (port == 0x2f8)
            second.push_back(static_cast<char>(value));
    };
    console_initialise({.com1 = true, .com2 = true});
    uint8_t lines[2]{};
    EXPECT_EQ(console_interrupt_lines(lines), 2u);
    EXPECT_EQ(lines[0], 4u);
    EXPECT_EQ(lines[1], 3u);
    second.clear();
    host::serial_output().clear();
    console_write("to both\n");
    EXPECT_EQ(host::serial_output(), "to both\r\n");
    EXPECT_EQ(second, "to both\r\n");
}

constexpr unsigned columns = 80, rows = 25;
std::string row_of(uint16_t const* cells, unsigned row) {
    std::string text;
    for (unsigned i = 0; i < columns; ++i)
        text.push_back(static_cast<char>(cells[row * columns + i]));
    return text.substr(0, text.find_last_not_of(' ') + 1);
}

TEST_F(ConsoleDevices, TheScreenScrolls) {
    auto* const cells = direct<uint16_t>(PhysicalAddress{0xb8000});
    cells[rows * columns] = 0x1234;
    console_initialise({.vga = true});
    EXPECT_EQ(cells[7], 0x0720u);
    console_write(std::string(rows, '\n'));
    console_write("first\n" + std::string(columns + 3, 'x') + "\nlast");
    EXPECT_EQ(row_of(cells, rows - 5), "");
    EXPECT_EQ(row_of(cells, rows - 4), "first");
    EXPECT_EQ(row_of(cells, rows - 3), std::string(columns, 'x'));
    EXPECT_EQ(row_of(cells, rows - 2), "xxx");
    EXPECT_EQ(row_of(cells, rows - 1), "last");
    EXPECT_EQ(cells[rows * columns], 0x1234u) << "beyond the screen";
}

TEST_F(ConsoleDevices, TheScreenIsLeftAloneOnceItIsDomain0s) {
    console_initialise({.vga = true});
    uint16_t moved[rows * columns]{};
    console_move_vga(moved);
    console_write("still ours");
    EXPECT_NE(std::ranges::count(moved, 0), rows * columns);
    console_move_vga(nullptr);
    uint16_t before[rows * columns];
    memcpy(before, moved, sizeof moved);
    console_write("not ours\n");
    EXPECT_EQ(memcmp(before, moved, sizeof moved), 0);
    console_move_vga(moved);
    console_write("nor again");
    EXPECT_EQ(memcmp(before, moved, sizeof moved), 0);
}

TEST_F(ConsoleDevices, WhatASuddenEndLeftComesBack) {
    struct Room {
        LogRing::Header header;
        char text[4096];
    };
    static Room room{};
    static char scratch[4096];
    set_log_thresholds(LogSource::hearth, {LogThreshold::info, LogThreshold::info});
    console_ring_clear();
    EXPECT_FALSE(console_ring_move(room.header, room.text, scratch)) << "never used";
    log_info("the last words");
    static Room before = room; // the machine restarts here
    console_ring_clear();
    EXPECT_TRUE(console_ring_move(before.header, before.text, scratch));
    auto const all = [] {
        char text[4096];
        uint32_t index = 0;
        return std::string{text, console_ring_read(text, index, false)};
    };
    EXPECT_NE(all().find("restarted without being told to:\n(HEARTH) the last words"),
              std::string::npos)
        << all();
    console_leave_in_order();
    static Room in_order = before;
    EXPECT_FALSE(console_ring_move(in_order.header, in_order.text, scratch));
    set_log_thresholds(LogSource::hearth, {LogThreshold::error, LogThreshold::error});
}

} // namespace
} // namespace hearth::test
