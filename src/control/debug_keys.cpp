#include "control/debug_keys.h"

#include "console/log.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "domain/domain.h"
#include "event/event.h"
#include "memory/allocator.h"
#include "time/clock.h"
#include "time/timer.h"

namespace hearth {
namespace {

void help();
void reboot() { reset_machine(); }
void events() {
    log_info("event channels of Domain 0:");
    if (Domain* const d = find_domain(0))
        print_events(*d);
}
void memory() { log_info("memory: {} of {} frames free", free_frame_count(), total_frame_count()); }
void vcpus() {
    Domain* const d = find_domain(0);
    for (unsigned i = 0; d && i < d->vcpu_count; ++i) {
        RunTimes const t = d->vcpus[i]->times();
        log_info("d0v{}: state {} cpu {} ran {} ms, pending {} masked {}", i, t.state,
                 d->vcpus[i]->cpu(), t.spent[0] / 1'000'000, d->vcpus[i]->info->upcall_pending,
                 d->vcpus[i]->info->upcall_mask);
    }
}
void running() {
    online_cpus().each([](unsigned cpu) {
        log_info("CPU {}: {}, next timer in {} us", cpu, describe_running(cpu),
                 static_cast<int64_t>(next_deadline(cpu) - now_ns()) / 1000);
    });
}

struct Key {
    char key;
    char const* help;
    void (*function)();
};
constexpr Key keys[] = {
    {'h', "this help", help},
    {'R', "reboot the machine", reboot},
    {'e', "event channels of Domain 0", events},
    {'m', "memory", memory},
    {'q', "vCPUs of Domain 0", vcpus},
    {'r', "what each CPU runs", running},
};

void help() {
    for (Key const& k : keys)
        log_info("  {}  {}", k.key, k.help);
}

} // namespace

void handle_debug_key(char key) {
    for (Key const& k : keys)
        if (k.key == key)
            return k.function();
    log_info("no such key; h for help");
}

} // namespace hearth
