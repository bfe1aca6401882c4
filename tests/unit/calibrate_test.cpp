// How fast counters run, measured against others that the fake machine makes of its own TSC.
#include "time/calibrate.h"

#include "fake_machine.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth::test {
namespace {

constexpr uint64_t tsc_hertz = 2'400'000'000;

/// What a counter of `hertz` shows now.
uint64_t counted(uint64_t hertz, uint64_t mask) {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(host::tsc.load()) * hertz /
                                 tsc_hertz) &
           mask;
}
constexpr uint64_t pm_hertz = 3'579'545, pit_hertz = 1'193'182;

class Calibrating : public testing::Test {
protected:
    Calibrating() {
        boot_machine();
        host::tsc_step = 100; // each reading takes its time
    }
    ~Calibrating() override {
        host::tsc_step = 0;
        host::read_port = nullptr;
        host::read_wide_port = nullptr;
    }
    static void expect_near(uint64_t found, uint64_t expected, double part) {
        EXPECT_NEAR(static_cast<double>(found) / static_cast<double>(expected), 1, part);
    }
};

TEST_F(Calibrating, AgainstThePowerManagementTimer) {
    host::read_wide_port = [](uint16_t port, unsigned) {
        host::tsc += 1000; // a port is slow
        return port == 0x608 ? static_cast<uint32_t>(counted(pm_hertz, 0xffffff)) : ~0u;
    };
    ReferenceCounter const timer = pm_timer_counter(0x608, false);
    EXPECT_EQ(timer.mask, 0xffffffu);
    EXPECT_EQ(pm_timer_counter(0x608, true).mask, 0xffffffffu);
    EXPECT_TRUE(counts(timer));
    Calibration const calibration = Calibration::begin(timer);
    expect_near(calibration.rough().tsc_hertz, tsc_hertz, 0.01);
    // Longer than the counter takes to come round: 4.7 s.
    host::tsc += 11 * tsc_hertz;
    expect_near(calibration.finish().tsc_hertz, tsc_hertz, 0.00001);
    EXPECT_EQ(calibration.reference_hertz(), pm_hertz);
}

/// The interval timer, each access to which takes up to so long.
class IntervalTimer {
    static inline unsigned byte;
    static inline uint64_t latched, slowest;
    static inline std::mt19937_64 random;

    static void spend_some_time() { host::tsc += 1000 + random() % slowest; }

public:
    IntervalTimer(uint64_t slowest_access, uint64_t seed) {
        byte = 0;
        slowest = slowest_access;
        random.seed(seed);
        host::write_port = [](uint16_t port, unsigned, uint32_t value) {
            spend_some_time();
            if (port == 0x43 && value == 0x80) // holds both bytes; it counts down
                latched = 0xffff - counted(pit_hertz, 0xffff);
        };
        host::read_port = [](uint16_t port, uint8_t) {
            spend_some_time();
            return port == 0x42 ? static_cast<uint8_t>(latched >> (byte++ % 2 * 8)) : uint8_t{0};
        };
    }
    ~IntervalTimer() { host::write_port = nullptr; }
    IntervalTimer(IntervalTimer const&) = delete;
    IntervalTimer& operator=(IntervalTimer const&) = delete;
};

TEST_F(Calibrating, AgainstTheIntervalTimer) {
    IntervalTimer const timer{1, 1};
    Calibration const calibration = Calibration::begin(pit_counter());
    expect_near(calibration.rough().tsc_hertz, tsc_hertz, 0.01);
    host::tsc += tsc_hertz; // some eighteen times round
    expect_near(calibration.finish().tsc_hertz, tsc_hertz, 0.0001);
}

/// As on a machine whose firmware or emulator is busy: it is told rightly how often it came round.
TEST_F(Calibrating, AgainstAnIntervalTimerThatIsSlowToAnswer) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        IntervalTimer const timer{tsc_hertz / 50'000, seed}; // 20 microseconds
        Calibration const calibration = Calibration::begin(pit_counter());
        expect_near(calibration.rough().tsc_hertz, tsc_hertz, 0.01);
        host::tsc += 2 * tsc_hertz;
        expect_near(calibration.finish().tsc_hertz, tsc_hertz, 0.0001);
    }
}

TEST_F(Calibrating, TheHighPrecisionTimerSaysHowFastItIs) {
    static uint64_t registers[0x200];
    constexpr uint64_t ten_nanoseconds = 10'000'000;
    registers[0] = ten_nanoseconds << 32;
    ReferenceCounter const narrow = hpet_counter(registers);
    EXPECT_EQ(narrow.hertz, 100'000'000u);
    EXPECT_EQ(narrow.mask, 0xffffffffu);
    EXPECT_EQ(registers[0x10 / 8] & 1, 1u) << "it was turned on";
    registers[0] |= 1u << 13;
    EXPECT_EQ(hpet_counter(registers).mask, ~uint64_t{0});
    registers[0xf0 / 8] = 77;
    EXPECT_EQ(narrow.read(), 77u);
    EXPECT_FALSE(counts(narrow)) << "it stands still";
    for (uint64_t const period : {uint64_t{0}, uint64_t{100'000'001}}) {
        registers[0] = period << 32;
        EXPECT_EQ(hpet_counter(registers).read, nullptr);
        EXPECT_FALSE(counts(hpet_counter(registers)));
    }
}

/// Somebody held up the processor while it was being looked at.
TEST_F(Calibrating, TheApicsTimerIsMeasuredOverItsOwnTime) {
    constexpr uint64_t apic_hertz = 62'500'000;
    static uint64_t readings;
    for (uint64_t const held_up_at : {1, 2, 5, 8, 1000}) {
        readings = 0;
        static uint64_t when;
        when = held_up_at;
        host::timer_remaining = [](uint32_t ticks) {
            return ticks - static_cast<uint32_t>(counted(apic_hertz, 0xffffffff));
        };
        host::read_wide_port = [](uint16_t, unsigned) {
            host::tsc += ++readings == when ? tsc_hertz / 200 : 1000;
            return static_cast<uint32_t>(counted(pm_hertz, 0xffffff));
        };
        Calibration const calibration = Calibration::begin(pm_timer_counter(0x608, false));
        expect_near(calibration.rough().apic_hertz, apic_hertz, 0.01);
        host::tsc += tsc_hertz;
        expect_near(calibration.finish().apic_hertz, apic_hertz, 0.001);
    }
    host::timer_remaining = nullptr;
}

TEST_F(Calibrating, ATscOfUnknownSpeedIsNoReference) { EXPECT_EQ(tsc_counter().read, nullptr); }

} // namespace
} // namespace hearth::test
