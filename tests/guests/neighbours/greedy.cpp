// A guest beside Domain 0 that asks for what is Domain 0's, and for more of everything than it may
// have. Then it sleeps with all that it got.
#include "abi/domctl.h"
#include "abi/event_channel.h"
#include "abi/grant_table.h"
#include "abi/sysctl.h"
#include "library/guest.h"

char const guest_name[] = "greedy";
using namespace guest;
using namespace hearth::abi;

namespace {

/// Each control operation, on itself and on Domain 0.
void control() {
    for (uint32_t command = 0; command < 100; ++command) {
        for (uint16_t const target : {domain_0, self}) {
            Domctl op{};
            op.command = command;
            op.version = domctl_interface_version;
            op.domain = target;
            EXPECT(hypercall(Hypercall::domctl, &op) == perm);
        }
        Sysctl op{};
        op.command = command;
        op.version = sysctl_interface_version;
        EXPECT(hypercall(Hypercall::sysctl, &op) == perm);
        uint64_t platform[20] = {uint64_t{0x03000001} << 32 | command};
        EXPECT(hypercall(Hypercall::platform_op, platform) == perm);
    }
    EXPECT(hypercall(Hypercall::console_io, 0, 5, "greed") == perm);
    SchedRemoteShutdown shutdown{domain_0, 0, 0};
    EXPECT(operation(Hypercall::sched_op, SchedOperation::remote_shutdown, &shutdown) == perm);
    BindPirq line{1, 0, 0};
    EXPECT(operation(Hypercall::event_channel_op, EventOperation::bind_pirq, &line) == perm);
}

/// Domain 0's frames, by each way that a frame number goes in. It has the lowest of them.
void memory_of_others() {
    void* const place = page();
    for (uint64_t frame = 0; frame < 0x8000; frame += 0x7f) {
        if (reinterpret_cast<uint64_t const*>(0xffff800000000000)[frame] < start_info->page_count &&
            mfn_of_pfn(reinterpret_cast<uint64_t const*>(0xffff800000000000)[frame]) == frame)
            continue; // ours
        EXPECT(update_va_mapping(place, entry(frame, present | writable | user)) < 0);
        EXPECT(update_va_mapping(place, entry(frame, present)) < 0);
        EXPECT(mmuext(MmuExtCommand::pin_l4_table, frame) < 0);
        EXPECT(mmuext(MmuExtCommand::new_baseptr, frame) < 0);
        EXPECT(mmuext(MmuExtCommand::clear_page, frame) < 0);
    }
    MemoryReservation give{reinterpret_cast<uint64_t>(place), 1, 0, 0, domain_0, {}};
    EXPECT(operation(Hypercall::memory_op, MemoryOperation::decrease_reservation, &give) == perm);
    EXPECT(operation(Hypercall::memory_op, MemoryOperation::populate_physmap, &give) == perm);
    EXPECT(operation(Hypercall::memory_op, MemoryOperation::machine_memory_map, &give) == perm);
}

/// No more memory than it was given.
void memory_limit() {
    static uint64_t frames[512];
    int64_t got = 0;
    for (;;) {
        for (uint64_t i = 0; i < 512; ++i)
            frames[i] = start_info->page_count + i; // their numbers here
        MemoryReservation more{reinterpret_cast<uint64_t>(frames), 512, 0, 0, self, {}};
        int64_t const done =
            operation(Hypercall::memory_op, MemoryOperation::populate_physmap, &more);
        if (done <= 0)
            break;
        got += done;
    }
    EXPECT(got < 1024);
    MemoryReservation huge{reinterpret_cast<uint64_t>(frames), ~uint64_t{0} >> 8, 9, 0, self, {}};
    EXPECT(operation(Hypercall::memory_op, MemoryOperation::populate_physmap, &huge) <= 0);
}

/// All ports that there are, for Domain 0 to bind; then there are none.
void event_channels() {
    int64_t result = 0;
    uint64_t got = 0;
    for (; result == 0 && got < 1 << 18; ++got) {
        AllocUnbound port{self, domain_0, 0};
        result = operation(Hypercall::event_channel_op, EventOperation::alloc_unbound, &port);
    }
    EXPECT(result == nospc && got > 500);
    AllocUnbound for_domain_0{domain_0, self, 0};
    EXPECT(operation(Hypercall::event_channel_op, EventOperation::alloc_unbound, &for_domain_0) ==
           perm);
    for (uint32_t port = 0; port < 200; ++port) {
        BindInterdomain stolen{domain_0, 0, port, 0};
        EXPECT(operation(Hypercall::event_channel_op, EventOperation::bind_interdomain, &stolen) <
               0);
    }
}

/// The largest table, each entry a grant to Domain 0; and Domain 0's own grants, none of which is
/// for us.
void grants() {
    static uint64_t frames[256];
    uint32_t count = 0;
    for (uint32_t wanted = 1; wanted <= 256; ++wanted) {
        GrantSetupTable setup{};
        setup.domain = self;
        setup.frame_count = wanted;
        setup.frames = reinterpret_cast<uint64_t>(frames);
        if (operation(Hypercall::grant_table_op, GrantOperation::setup_table, &setup) != 0 ||
            setup.status != GrantStatus::okay)
            break;
        count = wanted;
    }
    EXPECT(count >= 4 && count < 256);
    void* const place = page();
    uint64_t const granted = mfn_of(page());
    for (uint32_t i = 0; i < count; ++i) {
        EXPECT(update_va_mapping(place, entry(frames[i], present | writable | user)) == 0);
        auto* const table = static_cast<GrantEntryV1 volatile*>(place);
        for (unsigned n = i == 0 ? grant::reserved_entries : 0; n < 4096 / sizeof *table; ++n) {
            table[n].domain = domain_0;
            table[n].frame = static_cast<uint32_t>(granted);
            table[n].flags = grant::permit_access;
        }
    }
    for (uint32_t reference = 0; reference < 1000; ++reference) {
        GrantMap map{};
        map.host_address = reinterpret_cast<uint64_t>(place);
        map.flags = grant_map::host;
        map.reference = reference;
        map.domain = domain_0;
        int64_t const result =
            operation(Hypercall::grant_table_op, GrantOperation::map_grant_ref, &map);
        EXPECT(result < 0 || map.status != GrantStatus::okay);
    }
}

void timers() {
    SetPeriodicTimer period{1};
    EXPECT(hypercall(Hypercall::vcpu_op, static_cast<uint64_t>(VcpuOperation::set_periodic_timer),
                     0, &period) == inval);
    period.period = 1'000'000;
    EXPECT(hypercall(Hypercall::vcpu_op, static_cast<uint64_t>(VcpuOperation::set_periodic_timer),
                     0, &period) == 0);
    for (unsigned i = 0; i < 10000; ++i)
        hypercall(Hypercall::set_timer_op, 1 + i % 2);
}

} // namespace

void guest_main() {
    control();
    memory_of_others();
    memory_limit();
    grants();
    event_channels();
    timers();
    print_result();
    sleep_for_ever();
}
