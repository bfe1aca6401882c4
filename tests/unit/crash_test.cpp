// What Hearth says when it cannot go on, and how it leaves the machine.
#include "toolstack.h"

#include "control/debug_keys.h"
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

TEST_F(Crash, OneThatCannotBeReportedLeavesAllTheSame) {
    EXPECT_DEATH(
        {
            host::write_port = [](uint16_t port, unsigned, uint32_t) {
                if (port != 0xcf9)
                    return;
                fprintf(stderr, "[%x]", port);
                panic("while it reports the first");
            };
            panic("the first");
        },
        "\\[cf9\\]\\[cf9\\](.|\n)*the fake machine stopped");
}

TEST_F(Crash, OnlyHearthsOwnStackIsFollowed) {
    host::write_port = [](uint16_t port, unsigned, uint32_t) {
        bool const followed = host::serial_output().find("Stack trace") != std::string::npos;
        if (port == 0xcf9)
            fputs(followed ? "[followed]" : "[left alone]", stderr);
    };
    Registers frame = some_registers();
    frame.cs = 0xe008;
    frame.rsp = frame.rbp = 0xffff838000002000; // where nothing is mapped
    EXPECT_DEATH(crash_report(frame, "a test"), "\\[followed\\]");
    frame.cs = 0xe033;
    EXPECT_DEATH(crash_report(frame, "a test"), "\\[left alone\\](.|\n)*CPU 0: ");
}

/// Domain 0's end is the machine's, in the manner that it asks for.
TEST_F(Crash, Domain0EndsTheMachineAsItSays) {
    Toolstack dom0;
    set_log_thresholds(LogSource::hearth, {LogThreshold::info, LogThreshold::info});
    auto const shut_down = [&](abi::ShutdownReason reason) {
        say_writes();
        dom0.argument<uint32_t>() = static_cast<uint32_t>(reason);
        (void)dom0.hypercall(abi::Hypercall::sched_op,
                             static_cast<uint64_t>(abi::SchedOperation::shutdown),
                             Guest::argument_address);
    };
    EXPECT_DEATH(shut_down(abi::ShutdownReason::poweroff), "Domain 0 halted: the machine stops");
    EXPECT_DEATH(shut_down(abi::ShutdownReason::reboot),
                 "\\[cf9<-6\\](.|\n)*Domain 0 shut down: rebooting the machine");
    EXPECT_DEATH(shut_down(abi::ShutdownReason::crash),
                 "\\[cf9<-6\\](.|\n)*Domain 0 crashed(.|\n)*Rebooting");
    EXPECT_DEATH((set_reboot_on_panic(false), shut_down(abi::ShutdownReason::crash)),
                 "Domain 0 crashed(.|\n)*Stopped; reset the machine to go on");
    set_log_thresholds(LogSource::hearth, {LogThreshold::error, LogThreshold::error});
}

TEST_F(Crash, KeysOfTheConsoleActOutsideOfItsInterrupt) {
    Guest const guest;
    set_log_thresholds(LogSource::hearth, {LogThreshold::info, LogThreshold::info});
    ASSERT_TRUE(start_debug_keys());
    auto const type = [](char key) {
        host::serial_output().clear();
        debug_key_typed(key);
        EXPECT_EQ(host::serial_output(), "");
        run_all_cpus();
        return host::serial_output();
    };
    EXPECT_NE(type('h').find("reboot the machine"), std::string::npos);
    EXPECT_NE(type('m').find("frames free"), std::string::npos);
    EXPECT_NE(type('g').find("version 1, 0 frames and 0 for status; 0 handles in use"),
              std::string::npos);
    EXPECT_NE(type('?').find("no such key"), std::string::npos);
    EXPECT_DEATH(type('C'), "PANIC on CPU .: somebody asked for it");
    EXPECT_DEATH((say_writes(), debug_key_typed('R')), "\\[cf9<-6\\]") << "by itself";
    set_log_thresholds(LogSource::hearth, {LogThreshold::error, LogThreshold::error});
}

} // namespace
} // namespace hearth::test
