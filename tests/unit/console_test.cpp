// What is written while a serial port is busy, and when it is sent.
#include "fake_machine.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth::test {
namespace {

bool port_is_busy = false;
unsigned looks_until_room = 0, looks = 0;
uint8_t waiting_input = 0;

uint8_t read_uart(uint16_t port, uint8_t) {
    constexpr uint16_t com1 = 0x3f8, line_status = com1 + 5, scratch = com1 + 7;
    switch (port) {
    case line_status:
        ++looks;
        if (looks_until_room != 0 && --looks_until_room == 0)
            port_is_busy = false;
        return static_cast<uint8_t>((port_is_busy ? 0 : 0x60) | (waiting_input ? 1 : 0));
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

} // namespace
} // namespace hearth::test
