#include "control/debug_keys.h"

#include "console/console.h"
#include "console/log.h"
#include "control/control.h"
#include "cpu/cpu.h"
#include "cpu/crash.h"
#include "domain/domain.h"
#include "event/event.h"
#include "grant/grant.h"
#include "memory/allocator.h"
#include "memory/stacks.h"
#include "time/clock.h"
#include "time/timer.h"

#include <atomic>
#include <span>

namespace hearth {
namespace {

void help();
void reboot() {
    console_leave_in_order();
    reset_machine();
}
void crash() { panic("somebody asked for it, by the debug key C"); }

/// Before each line: whoever has something better to do does it, and the ports get on.
void let_others_in() {
    constexpr size_t line = 256;
    preempt_point();
    wait_for_console(line);
}
template <class Function>
void each_domain(Function&& function) {
    for (DomainId id = 0; id < max_domains; ++id)
        if (auto const domain = DomainRef::find(id)) {
            let_others_in();
            function(**domain);
        }
}
template <class Function>
void each_vcpu(Domain& domain, Function&& function) {
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count}) {
        let_others_in();
        function(*vcpu);
    }
}
void events() {
    each_domain([](Domain& d) {
        log_info("event channels of domain {}:", d.id);
        print_events(d, let_others_in);
    });
}
void grants() {
    each_domain([](Domain& d) { print_grants(d, let_others_in); });
}
void memory() {
    log_info("memory: {} of {} frames free, {} for small objects, {} of which are in use",
             free_frame_count(), total_frame_count(), object_frame_count(), object_count());
}
void domains() {
    each_domain([](Domain& d) {
        d.pages.with([&](PageList& list) {
            log_info("domain {}: {} of {} pages, {} shared, {} references, {} pauses{}{}", d.id,
                     list.count, list.maximum, list.shared, d.references.load(), d.pauses.load(),
                     d.dying.load() ? ", dying" : "", d.is_shut_down() ? ", shut down" : "");
        });
        each_vcpu(d, [&](Vcpu& v) {
            RunTimes const t = v.times();
            log_info("  d{}v{}: {} state {} cpu {} ran {} ms, pending {} masked {}", d.id, v.id,
                     v.online.load() ? "up" : "down", t.state, v.cpu(), t.spent[0] / 1'000'000,
                     v.info && v.upcall_pending(), v.info ? v.info->upcall_mask : 0);
        });
    });
}
void registers() {
    each_domain([](Domain& d) {
        each_vcpu(d, [&](Vcpu& v) {
            log_info("d{}v{}, as it last left the guest:", d.id, v.id);
            print_guest_state(LogSource::hearth, v);
        });
    });
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
    {'C', "crash the machine", crash},
    {'R', "reboot the machine", reboot},
    {'d', "registers of all vCPUs", registers},
    {'e', "event channels", events},
    {'g', "grants", grants},
    {'m', "memory", memory},
    {'q', "domains and their vCPUs", domains},
    {'r', "what each CPU runs", running},
};

void help() {
    for (Key const& k : keys) {
        let_others_in();
        log_info("  {}  {}", k.key, k.help);
    }
}

/// Works on what was typed at a serial port, outside of the port's interrupt.
class Typist final : public Thread {
public:
    [[noreturn]] static void run(void*);
};
constinit Typist typist;
constinit std::atomic<char> typed{0};

void Typist::run(void*) {
    for (;;) {
        if (char const key = typed.exchange(0))
            handle_debug_key(key);
        else
            sleep_current();
    }
}

} // namespace

Result<> start_debug_keys() {
    thread_prepare(typist, TRY(allocate_stack()), Typist::run, nullptr);
    start(typist);
    return {};
}

void debug_key_typed(char key) {
    if (key == 'R') // also when nothing runs any more
        reboot();
    typed.store(key);
    wake(typist);
}

void handle_debug_key(char key) {
    for (Key const& k : keys)
        if (k.key == key)
            return k.function();
    log_info("no such key; h for help");
}

} // namespace hearth
