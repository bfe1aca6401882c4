// What Hearth says when it cannot go on, and how it leaves the machine.
#include "fake_machine.h"

#include "cpu/crash.h"

#include <gtest/gtest.h>

namespace hearth::test {
namespace {

/// Dies after what it wrote to the serial port.
class Crash : public testing::Test {
protected:
    Crash() {
        boot_machine();
        host::serial_output().clear();
    }
};

Registers some_registers() {
    Registers r{};
    r.rip = 0xffff830000001234;
    r.rax = 0xabcdef;
    r.vector = 13;
    r.error_code = 0x18;
    return r;
}

/// Every port that is written to, in words.
void say_writes() {
    host::write_port = [](uint16_t port, unsigned, uint32_t value) {
        if (port == 0xcf9 || port == 0x64 || port == 0x700)
            fprintf(stderr, "[%x<-%x]", port, value);
    };
}

TEST_F(Crash, ReportsReasonRegistersAndWhatEachCpuRan) {
    EXPECT_DEATH(crash_report(some_registers(), "a test"), "PANIC on CPU 0: a test"
                                                           "(.|\n)*rip ffff830000001234"
                                                           "(.|\n)*rax 0000000000abcdef"
                                                           "(.|\n)*vector 13 error 18"
                                                           "(.|\n)*Stack trace:"
                                                           "(.|\n)*CPU 0: .* .reporting."
                                                           "(.|\n)*CPU 3: idle");
}

TEST_F(Crash, APanicNeedsNoFrame) {
    EXPECT_DEATH(panic("a test of {}", 7), "PANIC on CPU 0: a test of 7(.|\n)*Rebooting");
}

TEST_F(Crash, StopsIfToldTo) {
    EXPECT_DEATH((set_reboot_on_panic(false), panic("a test")),
                 "Stopped; reset the machine to go on");
    EXPECT_DEATH((set_reset_method(ResetMethod::none), reset_machine()),
                 "Stopped, since reboot=no");
}

TEST_F(Crash, ResetsByAllMeansTheChosenOneFirst) {
    EXPECT_DEATH((say_writes(), set_reset_register(0x700, 5), reset_machine()),
                 "\\[700<-5\\]\\[cf9<-6\\]\\[64<-fe\\]");
    EXPECT_DEATH((say_writes(), set_reset_method(ResetMethod::keyboard), reset_machine()),
                 "\\[64<-fe\\]\\[cf9<-6\\]\\[64<-fe\\]");
}

TEST_F(Crash, OnlyTheFirstReports) {
    EXPECT_FALSE(crash_in_progress());
    EXPECT_DEATH(
        {
            host::urgent_interrupt = nullptr;
            host::write_port = [](uint16_t port, unsigned, uint32_t) {
                if (port != 0xcf9)
                    return;
                // While it resets, another CPU finds that it cannot go on either.
                EXPECT_TRUE(crash_in_progress());
                stop_for_crash(); // this one goes on
                host::serial_output().clear();
                host::set_current_cpu(1);
                panic("another");
            };
            panic("the first");
        },
        "the fake machine stopped");
}

} // namespace
} // namespace hearth::test
