#include "fake_machine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <random>

namespace hearth::test {
namespace {

constexpr uint64_t second = 1'000'000'000;

TEST(TimeScale, IsAccurateAtEveryFrequency) {
    std::mt19937_64 random{5};
    std::vector<uint64_t> frequencies{1'000'000,     14'318'180,     second - 1,  second,
                                      second + 1,    2 * second - 1, 2 * second,  2 * second + 1,
                                      2'400'000'000, 4 * second,     10 * second, 65 * second};
    for (unsigned i = 0; i < 2000; ++i)
        frequencies.push_back(1'000'000 + random() % (20 * second));
    for (uint64_t const f : frequencies) {
        TimeScale const scale = TimeScale::from_frequency(f);
        EXPECT_GE(scale.multiplier, 1u << 31) << f; // or precision would be lost
        for (uint64_t const ticks : {uint64_t{0}, uint64_t{1}, f, f * 60, f * 3600, f * 86400,
                                     f * 86400 * 30, random() % (f * 1000)}) {
            long double const exact = static_cast<long double>(ticks) * second / f;
            long double const got = scale.nanoseconds(ticks);
            // A part in 2^31, and what shifts to the right drop of ticks and frequency.
            EXPECT_NEAR(static_cast<double>(got - exact), 0.0,
                        static_cast<double>(exact / (1ll << 31) + 70 +
                                            exact * 64 / static_cast<long double>(f)))
                << f << " Hz, " << ticks << " ticks";
        }
    }
}

TEST(TimeScale, NeverGoesBack) {
    std::mt19937_64 random{6};
    for (uint64_t const f :
         {uint64_t{3'000'000}, second / 3, second, 2'893'305'123ul, 5 * second}) {
        TimeScale const scale = TimeScale::from_frequency(f);
        uint64_t ticks = random() % (f * 1000), before = 0;
        for (unsigned i = 0; i < 20000; ++i, ticks += random() % 7) {
            uint64_t const now = scale.nanoseconds(ticks);
            ASSERT_GE(now, before);
            before = now;
        }
    }
}

TEST(Clock, GuestsComputeTheSameTime) {
    boot_machine();
    host::tsc += 123456789;
    abi::VcpuTimeInfo info{};
    fill_time_info(info);
    uint64_t ticks = host::tsc - info.tsc_timestamp;
    ticks = info.tsc_shift < 0 ? ticks >> -info.tsc_shift : ticks << info.tsc_shift;
    uint64_t const guest =
        info.system_time +
        static_cast<uint64_t>((static_cast<unsigned __int128>(ticks) * info.tsc_to_system_mul) >>
                              32);
    EXPECT_EQ(guest, now_ns());
}

TEST(Clock, ADeadlineInTicksIsNeverEarly) {
    boot_machine();
    uint64_t const saved = host::tsc;
    constexpr uint64_t year = 365ull * 86400 * second;
    for (uint64_t const f : {machine_hertz, 2'893'305'123ul, 999'999'937ul, 4'100'000'011ul}) {
        host::tsc = saved;
        clock_start(f);
        for (uint64_t const since : {uint64_t{0}, year / 365, year, 10 * year}) {
            uint64_t const here = saved + since / second * f;
            for (uint64_t wait = 0; wait < second; wait += 1 + wait / 3) {
                host::tsc = here;
                uint64_t const deadline = now_ns() + wait;
                host::tsc = tsc_at(deadline);
                ASSERT_GE(now_ns(), deadline) << f << " Hz";
                ASSERT_LE(now_ns(), deadline + 25) << f << " Hz"; // and not late either
            }
        }
    }
    host::tsc = saved;
    clock_start(machine_hertz);
}

// --- The CMOS clock

struct Cmos {
    uint8_t registers[128]{};
    unsigned updates_left = 0;
};
Cmos cmos;
uint8_t read_cmos(uint16_t port, uint8_t index) {
    if (port != 0x71)
        return 0xff;
    if (index == 0x0a && cmos.updates_left > 0) {
        --cmos.updates_left;
        return 0x80;
    }
    return cmos.registers[index & 0x7f];
}

enum class Digits : uint8_t { bcd, binary };
enum class Hours : uint8_t { of_12, of_24 };

void set_cmos(tm const& t, Digits digits, Hours hours) {
    auto const coded = [&](int n) {
        return static_cast<uint8_t>(digits == Digits::binary ? n : (n / 10) << 4 | n % 10);
    };
    cmos = {};
    cmos.registers[0] = coded(t.tm_sec);
    cmos.registers[2] = coded(t.tm_min);
    if (hours == Hours::of_24)
        cmos.registers[4] = coded(t.tm_hour);
    else
        cmos.registers[4] = static_cast<uint8_t>(coded(t.tm_hour % 12 ? t.tm_hour % 12 : 12) |
                                                 (t.tm_hour >= 12 ? 0x80 : 0));
    cmos.registers[7] = coded(t.tm_mday);
    cmos.registers[8] = coded(t.tm_mon + 1);
    cmos.registers[9] = coded(t.tm_year % 100);
    cmos.registers[0x0b] =
        static_cast<uint8_t>((digits == Digits::binary ? 4 : 0) | (hours == Hours::of_24 ? 2 : 0));
}

uint64_t seconds_now() {
    WallClock const base = wall_clock_base();
    return static_cast<uint64_t>(
        (static_cast<unsigned __int128>(base.seconds) * second + base.nanoseconds + now_ns()) /
        second);
}

class CmosTest : public testing::Test {
protected:
    CmosTest() {
        boot_machine();
        host::read_port = read_cmos;
    }
    ~CmosTest() override { host::read_port = nullptr; }
};

TEST_F(CmosTest, EveryDateAndFormat) {
    std::mt19937_64 random{1999};
    std::vector<time_t> times{951782399, 951782400, 1709164800, 1735689599,
                              1735689600}; // around leap days and years
    for (unsigned i = 0; i < 500; ++i)
        times.push_back(static_cast<time_t>(946684800 + random() % 3155760000)); // 2000 to 2099
    for (time_t const when : times) {
        tm t{};
        gmtime_r(&when, &t);
        if (t.tm_year >= 200)
            continue;
        for (Digits const digits : {Digits::bcd, Digits::binary})
            for (Hours const hours : {Hours::of_12, Hours::of_24}) {
                set_cmos(t, digits, hours);
                wall_clock_from_rtc();
                ASSERT_EQ(seconds_now(), static_cast<uint64_t>(when));
            }
    }
}

TEST_F(CmosTest, WaitsForAnUpdateToEnd) {
    time_t const when = 1700000000;
    tm t{};
    gmtime_r(&when, &t);
    set_cmos(t, Digits::bcd, Hours::of_24);
    cmos.updates_left = 5;
    wall_clock_from_rtc();
    EXPECT_EQ(seconds_now(), 1700000000u);
}

TEST_F(CmosTest, NoClockAtAllDoesNoHarm) {
    for (uint8_t const garbage : {uint8_t{0x00}, uint8_t{0x7f}, uint8_t{0xff}}) {
        memset(cmos.registers, garbage, sizeof cmos.registers);
        wall_clock_from_rtc();
    }
}

TEST(WallClock, CountsBackToSystemTimeZero) {
    boot_machine();
    set_wall_clock(1'000'000, 500, 1'500'000'600);
    WallClock const base = wall_clock_base();
    EXPECT_EQ(base.seconds, 999'998u);
    EXPECT_EQ(base.nanoseconds, 499'999'900u);
}

} // namespace
} // namespace hearth::test
