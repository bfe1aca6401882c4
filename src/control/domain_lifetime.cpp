#include "control/domain_lifetime.h"

#include "console/log.h"
#include "control/claims.h"
#include "control/cpu_pool.h"
#include "domain/guest_mode.h"
#include "event/event.h"
#include "grant/grant.h"
#include "memory/allocator.h"
#include "memory/stacks.h"

#include <span>

namespace hearth {
namespace {

/// Domains that nobody refers to any more, newest first.
constinit std::atomic<Domain*> unreferenced{nullptr};

/// Frees them when no CPU can be looking at one any longer.
class Reaper final : public Thread {
    static void reap(Domain* list) {
        wait_for_all_cpus();
        while (list) {
            Domain& domain = *std::exchange(list, list->next_unreferenced);
            log_debug("domain {} is gone", domain.id);
            free_domain(domain);
            send_global_virq(abi::virq_dom_exc);
            preempt_point();
        }
    }

public:
    [[noreturn]] static void run(void*) {
        for (;;) {
            if (Domain* const list = unreferenced.exchange(nullptr))
                reap(list);
            else
                sleep_current();
        }
    }
};
constinit Reaper reaper;

void lift_cap(Domain& domain) {
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count})
        set_cap(*vcpu, nullptr);
}

void stop_timers(Vcpu& vcpu) {
    for (Timer* const timer : {&vcpu.singleshot, &vcpu.periodic, &vcpu.poll_timer})
        timer->stop();
}

} // namespace

Result<> start_reaper() {
    thread_prepare(reaper, TRY(allocate_stack()), Reaper::run, nullptr);
    start(reaper);
    return {};
}

// Out of line: the end of a reference that is not the last stays short where it stands.
[[gnu::noinline]] void domain_unreferenced(Domain& domain) {
    Domain* head = unreferenced.load();
    do {
        domain.next_unreferenced = head;
    } while (!unreferenced.compare_exchange_weak(head, &domain));
    wake(reaper);
}

void destroy_domain(Domain& domain) {
    if (domain.dying.exchange(true))
        return;
    domain.doomed.store(true);
    leave_cpu_pool(domain);
    lift_cap(domain); // or its way to the border could take long
    pause_domain(domain);
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count})
        vcpu->period = 0;
    forget_virq_handler(domain.id);
    events_release(domain);
    grants_close(domain);
    // Whoever found one of its vCPUs or pages before this has let go of it afterwards, and no timer
    // sets itself again.
    wait_for_all_cpus();
    for (Vcpu* const vcpu : std::span{domain.vcpus, domain.vcpu_count})
        stop_timers(*vcpu);
    stop_logging(domain);
    release_guest_state(domain);
    Mfn const shared_info = domain.shared_info_frame;
    domain.shared_info = nullptr;
    wait_for_all_cpus();
    release_shared_frame(domain, shared_info);
    give_up_frames(domain);
    grants_release(domain);        // no table of its own leads there any more
    forget_claim(domain);          // nobody can claim any more
    drop_domain_reference(domain); // it is not alive any more
    // Who still maps its frames hears of it and lets go.
    send_global_virq(abi::virq_dom_exc);
}

} // namespace hearth
