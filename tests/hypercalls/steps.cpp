// A long run of the hypercall fuzzer's worlds: HEARTH_SEED=n, for HEARTH_STEPS=n or
// HEARTH_SECONDS=n. Each world's seed comes of the first; HEARTH_WORLD=n begins at that one.
// HEARTH_TALLY=1: what was asked for, and how often it was done.
#include "world.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sanitizer/common_interface_defs.h>
#include <sys/personality.h>
#include <unistd.h>

namespace {

uint64_t from_environment(char const* name, uint64_t otherwise) {
    char const* const text = getenv(name);
    return text ? strtoull(text, nullptr, 0) : otherwise;
}

/// The same addresses each time, since what the log says of them may get into guests' memory.
void fix_addresses(char** arguments) {
    int const now = personality(0xffffffff);
    if (now != -1 && !(now & ADDR_NO_RANDOMIZE) && personality(now | ADDR_NO_RANDOMIZE) != -1)
        execv("/proc/self/exe", arguments);
}

void print_tallies() {
    for (auto const& [name, tally] : hearth::test::tallies())
        printf("%-32s %9lu asked %9lu done\n", name.c_str(), tally.asked, tally.done);
}

} // namespace

int main(int, char** arguments) {
    using namespace hearth;
    fix_addresses(arguments);
#if __has_feature(address_sanitizer)
    __sanitizer_set_death_callback(test::World::print_step);
#endif
    // The fake machine stops.
    (void)std::signal(SIGABRT, [](int) { test::World::print_step(); });
    using Clock = std::chrono::steady_clock;
    uint64_t const seed = from_environment("HEARTH_SEED", std::random_device{}()),
                   seconds = from_environment("HEARTH_SECONDS", 0),
                   goal = from_environment("HEARTH_STEPS", seconds ? ~uint64_t{0} : 100'000);
    constexpr uint64_t per_world = 1000;
    auto const end =
        seconds ? Clock::now() + std::chrono::seconds{seconds} : Clock::time_point::max();
    setvbuf(stdout, nullptr, _IOLBF, 0);
    printf("HEARTH_SEED=%lu\n", seed);
    uint64_t done = 0;
    for (uint64_t world = from_environment("HEARTH_WORLD", 0); done < goal && Clock::now() < end;
         ++world) {
        grammar::Choices choices{seed * 0x9e3779b97f4a7c15 + world};
        done += test::World{choices}.run(per_world);
        if (world % 100 == 99)
            printf("%lu worlds, %lu steps\n", world + 1, done);
    }
    if (getenv("HEARTH_TALLY"))
        print_tallies();
    printf("%lu steps, the deepest stack %zu bytes\n", done, host::deepest_stack());
}
