// What Debian's kernel seldom or never asks for: NMIs, the old timer calls, pages cleared and
// copied by the hypervisor, the task-switched flag, local descriptor tables, and calls on other
// domains.
#include "library/events.h"
#include "library/guest.h"
#include "library/pv/vcpus.h"

char const guest_name[] = "services";
using namespace guest;
using namespace hearth::abi;

extern "C" {
extern char nmi_entry[];
extern uint64_t volatile nmi_count;
}

namespace {

void timers() {
    BindVirq timer{virq_timer, 0, 0};
    EXPECT(event_op(EventOperation::bind_virq, &timer) == 0);
    EventStatus status{self, 0, timer.port, 0, 0, {}};
    EXPECT(event_op(EventOperation::status, &status) == 0);
    EXPECT(status.status == static_cast<uint32_t>(EventState::virq) &&
           status.detail[0] == virq_timer);
    // A domain starts with a periodic timer, for those who have never heard of another.
    EXPECT(vcpu_op(VcpuOperation::stop_periodic_timer, 0, nullptr) == 0);
    take_event(timer.port);

    uint64_t const begun = now();
    EXPECT(hypercall(Hypercall::set_timer_op, begun + 5 * millisecond) == 0);
    EXPECT(comes(timer.port, 5000 * millisecond));
    EXPECT(now() >= begun + 5 * millisecond);
    // A time that has passed, however long ago, is now.
    EXPECT(hypercall(Hypercall::set_timer_op, begun) == 0);
    EXPECT(comes(timer.port, 5000 * millisecond));
    EXPECT(hypercall(Hypercall::set_timer_op, 1) == 0);
    EXPECT(comes(timer.port, 5000 * millisecond));
    // The last call counts, and 0 stops it.
    EXPECT(hypercall(Hypercall::set_timer_op, now() + 20 * millisecond) == 0);
    EXPECT(hypercall(Hypercall::set_timer_op, 0) == 0);
    EXPECT(!comes(timer.port, 60 * millisecond));

    SetPeriodicTimer periodic{millisecond - 1};
    EXPECT(vcpu_op(VcpuOperation::set_periodic_timer, 0, &periodic) == inval);
    periodic.period = 10'000'000 * millisecond + 1;
    EXPECT(vcpu_op(VcpuOperation::set_periodic_timer, 0, &periodic) == inval);
    periodic.period = 2 * millisecond;
    EXPECT(vcpu_op(VcpuOperation::set_periodic_timer, 77, &periodic) == noent);
    uint64_t const started = now();
    EXPECT(vcpu_op(VcpuOperation::set_periodic_timer, 0, &periodic) == 0);
    for (unsigned n = 0; n < 5; ++n)
        EXPECT(comes(timer.port, 5000 * millisecond));
    EXPECT(now() >= started + 10 * millisecond);
    EXPECT(vcpu_op(VcpuOperation::stop_periodic_timer, 0, nullptr) == 0);
    take_event(timer.port);
    EXPECT(!comes(timer.port, 20 * millisecond));
}

void nmis() {
    EXPECT(vcpu_op(VcpuOperation::send_nmi, 77, nullptr) == noent);
    // Without a callback there is nobody to tell: it is kept for the one that comes.
    EXPECT(hypercall(Hypercall::nmi_op, static_cast<uint64_t>(NmiOperation::unregister_callback)) ==
           0);
    EXPECT(vcpu_op(VcpuOperation::send_nmi, 0, nullptr) == 0);
    NmiCallback callback{reinterpret_cast<uint64_t>(nmi_entry), 0};
    EXPECT(hypercall(Hypercall::nmi_op, static_cast<uint64_t>(NmiOperation::register_callback),
                     &callback) == 0);
    EXPECT(nmi_count == 1);
    // Masked events do not hold it back.
    shared->vcpu_info[0].upcall_mask = 1;
    for (uint64_t n = 2; n <= 4; ++n) {
        EXPECT(vcpu_op(VcpuOperation::send_nmi, 0, nullptr) == 0);
        EXPECT(nmi_count == n);
        EXPECT(shared->vcpu_info[0].upcall_mask == 1);
    }
    callback.handler = 0x0000900000000000;
    EXPECT(hypercall(Hypercall::nmi_op, static_cast<uint64_t>(NmiOperation::register_callback),
                     &callback) == inval);
    EXPECT(hypercall(Hypercall::nmi_op, static_cast<uint64_t>(NmiOperation::unregister_callback)) ==
           0);
    EXPECT(vcpu_op(VcpuOperation::send_nmi, 0, nullptr) == 0);
    EXPECT(nmi_count == 4);
    // The one that waits is for whoever next takes them: the trap table's vector 2 is the same.
    set_trap(2, 0, reinterpret_cast<uint64_t>(nmi_entry));
    EXPECT(nmi_count == 5);
    EXPECT(vcpu_op(VcpuOperation::send_nmi, 0, nullptr) == 0);
    EXPECT(nmi_count == 6);
    EXPECT(hypercall(Hypercall::nmi_op, static_cast<uint64_t>(NmiOperation::unregister_callback)) ==
           0);
    EXPECT(vcpu_op(VcpuOperation::send_nmi, 0, nullptr) == 0);
    EXPECT(nmi_count == 6);
    EXPECT(hypercall(Hypercall::nmi_op, 2) == nosys);
}

void pages() {
    auto* const first = static_cast<uint64_t*>(page());
    auto* const second = static_cast<uint64_t*>(page());
    auto* const table = page();
    for (unsigned i = 0; i < 512; ++i)
        first[i] = i * 0x9e3779b97f4a7c15;
    EXPECT(mmuext(MmuExtCommand::copy_page, mfn_of(second), mfn_of(first)) == 0);
    bool same = true;
    for (unsigned i = 0; i < 512; ++i)
        same = same && second[i] == i * 0x9e3779b97f4a7c15;
    EXPECT(same);
    EXPECT(mmuext(MmuExtCommand::clear_page, mfn_of(first)) == 0);
    for (unsigned i = 0; i < 512; ++i)
        same = same && first[i] == 0;
    EXPECT(same);
    // Neither to nor from what is not ours, nor over a table. 0x200 is the hypervisor's first
    // frame.
    for (uint64_t foreign :
         {uint64_t{0x200}, uint64_t{0xfee00}, uint64_t{0xffffffffff}, ~uint64_t{0}}) {
        EXPECT(mmuext(MmuExtCommand::clear_page, foreign) < 0);
        EXPECT(mmuext(MmuExtCommand::copy_page, foreign, mfn_of(second)) < 0);
        EXPECT(mmuext(MmuExtCommand::copy_page, mfn_of(second), foreign) < 0);
    }
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    EXPECT(mmuext(MmuExtCommand::pin_l1_table, mfn_of(table)) == 0);
    EXPECT(mmuext(MmuExtCommand::clear_page, mfn_of(table)) < 0);
    EXPECT(mmuext(MmuExtCommand::copy_page, mfn_of(table), mfn_of(second)) < 0);
    EXPECT(mmuext(MmuExtCommand::unpin_table, mfn_of(table)) == 0);
    EXPECT(second[511] == 511 * 0x9e3779b97f4a7c15);
    EXPECT(mmuext(MmuExtCommand::mark_super, mfn_of(second)) == -95);
    EXPECT(mmuext(MmuExtCommand::unmark_super, mfn_of(second)) == -95);
    EXPECT(mmuext(MmuExtCommand::flush_cache, 0) == 0);
    EXPECT(mmuext(MmuExtCommand::flush_cache_global, 0) == 0);
    EXPECT(mmu_update(entry_address(second, 1) | mmu_pt_update_no_translate,
                      entry(mfn_of(second), present | writable | user)) == 0);
}

void other_domains() {
    void* const data = page();
    uint64_t const value = entry(mfn_of(data), present | writable | user);
    auto const update = [&](uint64_t domain) {
        return hypercall(Hypercall::update_va_mapping_otherdomain, data, value, uvmf_invlpg,
                         domain);
    };
    EXPECT(update(0x7ff0) == 0);
    EXPECT(update(0) == srch); // oneself goes by a name
    EXPECT(update(5) == srch);
    SchedRemoteShutdown shutdown{5, 0, 0};
    EXPECT(hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::remote_shutdown),
                     &shutdown) == srch);
    shutdown.domain = 0x7ff0;
    EXPECT(hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::remote_shutdown),
                     &shutdown) == perm);
}

bool initialises_fpu() {
    return survives([] { asm volatile("fninit"); });
}

void task_switched_flag() {
    EXPECT(initialises_fpu());
    EXPECT(hypercall(Hypercall::fpu_taskswitch, 1) == 0);
    EXPECT(attempt([] { asm volatile("fninit"); }).vector == 7);
    // The trap has cleared it.
    EXPECT(initialises_fpu());
    EXPECT(hypercall(Hypercall::fpu_taskswitch, 1) == 0);
    EXPECT(hypercall(Hypercall::fpu_taskswitch, 0) == 0);
    EXPECT(initialises_fpu());
}

bool loads(uint64_t selector) {
    return survives([=] { asm volatile("mov %w0, %%es" : : "r"(selector)); });
}

void local_descriptors() {
    auto* const table = static_cast<uint64_t*>(page());
    uint64_t const at = reinterpret_cast<uint64_t>(table);
    table[0] = 0x00cff3000000ffff; // data, for user mode
    table[1] = 0x0000ec0000080000; // a call gate
    EXPECT(mmuext(MmuExtCommand::set_ldt, at + 8, 2) == inval);
    EXPECT(mmuext(MmuExtCommand::set_ldt, at, 8193) == inval);
    EXPECT(mmuext(MmuExtCommand::set_ldt, 0xffff800000000000, 1) == inval);
    EXPECT(mmuext(MmuExtCommand::set_ldt, 0x00007fffffff1000, 8192) == inval);
    EXPECT(mmuext(MmuExtCommand::set_ldt, 0x0000900000000000, 1) == inval);
    EXPECT(!loads(7));
    // A page that can be written to is no descriptor table, nor is one with a gate.
    EXPECT(mmuext(MmuExtCommand::set_ldt, at, 2) == 0);
    EXPECT(!loads(7));
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    EXPECT(!loads(7));
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | writable | user)) == 0);
    table[1] = 0;
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    EXPECT(loads(7));
    EXPECT(!loads(15));
    EXPECT(!loads(23));
    EXPECT(loads(0));
    // While it is in use it cannot be mapped writable.
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | writable | user)) == busy);
    EXPECT(mmuext(MmuExtCommand::set_ldt, 0, 0) == 0);
    EXPECT(!loads(7));
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | writable | user)) == 0);
}

void areas_and_numbers() {
    static VcpuTimeInfo time;
    MemoryArea area{reinterpret_cast<uint64_t>(&time)};
    EXPECT(vcpu_op(VcpuOperation::register_vcpu_time_memory_area, 0, &area) == 0);
    EXPECT(time.tsc_to_system_mul == shared->vcpu_info[0].time.tsc_to_system_mul &&
           time.tsc_to_system_mul != 0);
    EXPECT(time.version % 2 == 0);
    area.address = 0xffff828000200000;
    EXPECT(vcpu_op(VcpuOperation::register_vcpu_time_memory_area, 0, &area) < 0);
    area.address = 0; // no more, as Linux says before it is saved
    EXPECT(vcpu_op(VcpuOperation::register_vcpu_time_memory_area, 0, &area) == 0);
    VcpuPhysicalId id{};
    // It stays on a CPU if there is only one.
    EXPECT(vcpu_op(VcpuOperation::get_physid, 0, &id) == (vcpu_count() == 1 ? 0 : inval));
    EXPECT(vcpu_op(VcpuOperation::get_physid, 77, &id) == noent);
    SchedShutdown code{is_domain_0() ? 1u : 0u}; // as it ends anyway
    EXPECT(hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::shutdown_code),
                     &code) == 0);
}

} // namespace

void guest_main() {
    timers();
    nmis();
    pages();
    other_domains();
    task_switched_flag();
    local_descriptors();
    areas_and_numbers();
}
