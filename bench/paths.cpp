// What the ways into the hypervisor and back cost: a PV kernel that times each of them with the
// TSC. Under QEMU's instruction counting a tick of it is an executed instruction.
//
// Runs as Domain 0 on Hearth and on Xen. Prints "PATH name: count" for each, the median of the
// repetitions, and after all of them "GUEST paths: ok".
#include "abi/event_channel.h"
#include "abi/grant_table.h"
#include "library/guest.h"
#include "library/pv/user.h"

#include <utility>

char const guest_name[] = "paths";
using namespace guest;
using namespace hearth::abi;

extern "C" {
extern char breakpoint_entry[], upcall_entry[], system_call_entry[], user_code[];
extern uint64_t kernel_stack_pointer;
extern SharedInfo volatile shared_page;
extern uint64_t volatile upcalls;
}

// A handler that does nothing but go back, one that first takes note of the event, and one for
// system calls. User mode, at user_code, makes rbx of them and leaves at rdi what each took; then
// one of number 0, to leave it.
asm(R"(
        .macro GO_BACK
        push    $0
        push    %rcx
        push    %r11
        push    %rax
        mov     $23, %eax
        syscall
        .endm

        .text
upcall_entry:
        incq    upcalls(%rip)
        movb    $0, shared_page(%rip)
breakpoint_entry:
        pop     %rcx
        pop     %r11
        GO_BACK
system_call_entry:
        pop     %rcx
        pop     %r11
        test    %eax, %eax
        jz      1f
        GO_BACK
1:      mov     kernel_stack_pointer(%rip), %rsp
        jmp     user_left
user_code:
        rdtsc
        mov     %eax, %esi
        mov     $1, %eax
        syscall
        rdtsc
        sub     %esi, %eax
        mov     %rax, (%rdi)
        add     $8, %rdi
        dec     %ebx
        jnz     user_code
        xor     %eax, %eax
        syscall
        .bss
kernel_stack_pointer:
        .skip   8
        .balign 4096
shared_page:
        .skip   4096
upcalls:
        .skip   8
)");

namespace {

constexpr unsigned repetitions = 33;
constexpr int64_t nosys = -38;
constexpr uint32_t grant_reference = 8;
constexpr uint16_t domid_self = 0x7ff0;
constexpr uint64_t frame_bits = 0xf'ffff'ffff'f000;

uint64_t read_tsc() {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return uint64_t{high} << 32 | low;
}

uint64_t median(uint64_t (&counts)[repetitions]) {
    for (unsigned i = 1; i < repetitions; ++i)
        for (unsigned k = i; k > 0 && counts[k - 1] > counts[k]; --k)
            std::swap(counts[k - 1], counts[k]);
    return counts[repetitions / 2];
}

void print_median(char const* name, uint64_t (&counts)[repetitions]) {
    print("PATH ");
    print(name);
    print(": ");
    print_number(static_cast<int64_t>(median(counts)));
    print("\n");
}

/// Times the path, whose every run must give what is expected; `afterwards` is not counted.
template <class Path, class Afterwards>
void measure(char const* name, Path path, int64_t expected, Afterwards afterwards) {
    uint64_t counts[repetitions];
    for (uint64_t& count : counts) {
        uint64_t const begun = read_tsc();
        int64_t const result = path();
        count = read_tsc() - begun;
        EXPECT(result == expected);
        afterwards();
    }
    print_median(name, counts);
}
template <class Path>
void measure(char const* name, Path path, int64_t expected = 0) {
    measure(name, path, expected, [] {});
}

int64_t version(VersionOperation operation, void const* argument = nullptr) {
    return hypercall(Hypercall::xen_version, static_cast<uint64_t>(operation), argument);
}
int64_t event(EventOperation operation, void* argument) {
    return hypercall(Hypercall::event_channel_op, static_cast<uint64_t>(operation), argument);
}
int64_t grants(GrantOperation operation, void* argument) {
    return hypercall(Hypercall::grant_table_op, static_cast<uint64_t>(operation), argument, 1);
}

/// Calls whose arguments lie ready.
struct Prepared {
    MmuExtOp operation;

    Prepared(MmuExtCommand command, uint64_t argument)
        : operation{static_cast<uint32_t>(command), 0, argument, 0} {}
    int64_t call() const { return hypercall(Hypercall::mmuext_op, &operation, 1, 0, domid_self); }
};
template <size_t count>
int64_t update(MmuUpdate const (&updates)[count]) {
    return hypercall(Hypercall::mmu_update, updates, count, 0, domid_self);
}

void versions_and_lists() {
    int64_t const number = version(VersionOperation::version);
    measure("xen_version", [] { return version(VersionOperation::version); }, number);
    measure("unknown hypercall", [] { return hypercall(uint64_t{55}); }, nosys);
    static FeatureInfo features{};
    measure("xen_version get_features",
            [] { return version(VersionOperation::get_features, &features); });
    static MulticallEntry calls[16];
    for (MulticallEntry& call : calls)
        call.op = static_cast<uint64_t>(Hypercall::xen_version);
    measure("multicall of 16 xen_version",
            [] { return hypercall(Hypercall::multicall, calls, 16); });
    EXPECT(calls[15].result == number);
}

void entries() {
    void* const spare = page();
    uint64_t const read_only = entry(mfn_of(spare), present | user | accessed | dirty);
    uint64_t const read_write = read_only | writable;
    EXPECT(update_va_mapping(spare, read_write) == 0);
    measure("update_va_mapping, same", [=] { return update_va_mapping(spare, read_write); });
    measure("update_va_mapping RW then RO", [=] {
        return update_va_mapping(spare, read_write) | update_va_mapping(spare, read_only);
    });
    MmuUpdate const same[] = {{entry_address(spare, 1), read_only}};
    measure("mmu_update of 1, same", [&] { return update(same); });
    EXPECT(update_va_mapping(spare, read_write) == 0);
}

/// A page of ours, of zeros and mapped read-only, so that it may become a table.
uint64_t volatile* new_table() {
    void* const table = page();
    EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
    return static_cast<uint64_t volatile*>(table);
}

void tables() {
    uint64_t volatile* const table = new_table();
    uint64_t const mfn = mfn_of(const_cast<uint64_t*>(table));
    Prepared const pin{MmuExtCommand::pin_l1_table, mfn}, unpin{MmuExtCommand::unpin_table, mfn};
    measure("pin + unpin an empty L1", [&] { return pin.call() | unpin.call(); });
    EXPECT(pin.call() == 0);
    uint64_t const value = entry(mfn_of(page()), present | writable | user | accessed | dirty);
    static MmuUpdate updates[64];
    for (unsigned i = 0; i < 64; ++i)
        updates[i] = {mfn * page_size + i % 32 * 8, i < 32 ? value : 0};
    measure("mmu_update of 32 set + 32 clear", [] { return update(updates); });
    EXPECT(hypercall(Hypercall::vm_assist, 0,
                     static_cast<uint64_t>(VmAssist::writable_pagetables)) == 0);
    auto const write = [=](uint64_t what) {
        table[3] = what;
        return int64_t{0};
    };
    measure("emulated write to a page-table page", [=] { return write(0); });
    measure("emulated write that maps a page", [=] { return write(value); }, 0, [=] { write(0); });
    EXPECT(table[3] == 0);
    write(value);
    measure(
        "emulated xchg that unmaps a page",
        [=] {
            uint64_t former = 0;
            asm volatile("xchg %0, (%1)" : "+a"(former) : "D"(table + 3) : "memory");
            return static_cast<int64_t>(former & frame_bits); // Xen has bits of its own there
        },
        static_cast<int64_t>(value & frame_bits), [=] { write(value); });
    write(0);
    EXPECT(unpin.call() == 0);
}

void address_spaces() {
    uint64_t const root = mfn_of(reinterpret_cast<void*>(start_info->page_table_base));
    Prepared const flush{MmuExtCommand::tlb_flush_local, 0};
    Prepared const flush_page{MmuExtCommand::invlpg_local, virt_base};
    Prepared const base{MmuExtCommand::new_baseptr, root};
    measure("MMUEXT_TLB_FLUSH_LOCAL", [&] { return flush.call(); });
    measure("MMUEXT_INVLPG_LOCAL", [&] { return flush_page.call(); });
    measure("MMUEXT_NEW_BASEPTR, same", [&] { return base.call(); });
    int64_t const cr3 = static_cast<int64_t>(root * page_size);
    measure(
        "mov %cr3 emulated",
        [] {
            int64_t value;
            asm volatile("mov %%cr3, %0" : "=a"(value));
            return value;
        },
        cr3);
    measure("rdmsr emulated", [] {
        uint32_t low, high;
        constexpr uint32_t kernel_gs_base = 0xc0000102;
        asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(kernel_gs_base));
        return static_cast<int64_t>(uint64_t{high} << 32 | low);
    });
}

void exceptions() {
    static TrapInfo const breakpoint[2] = {
        {3, 3, 0xe033, 0, reinterpret_cast<uint64_t>(breakpoint_entry)}, {}};
    EXPECT(hypercall(Hypercall::set_trap_table, breakpoint) == 0);
    measure("int3 bounced to the guest and iret", [] {
        asm volatile("int3" : : : "memory");
        return int64_t{0};
    });
    measure("cpuid, forced emulation", [] {
        uint32_t leaf = 0, subleaf = 0;
        asm volatile("ud2; .ascii \"xen\"; cpuid"
                     : "+a"(leaf), "+c"(subleaf)
                     :
                     : "rbx", "rdx", "memory");
        return int64_t{leaf != 0 ? 0 : nosys};
    });
}

/// From user mode to the kernel's callback, and back by the iret hypercall. Both modes have the
/// same tables.
void user_mode() {
    uint64_t const root = mfn_of(reinterpret_cast<void*>(start_info->page_table_base));
    EXPECT(Prepared(MmuExtCommand::new_user_baseptr, root).call() == 0);
    CallbackRegister const callback{static_cast<uint16_t>(CallbackType::syscall), 0, 0,
                                    reinterpret_cast<uint64_t>(system_call_entry)};
    EXPECT(hypercall(Hypercall::callback_op,
                     static_cast<uint64_t>(CallbackOperation::register_callback), &callback) == 0);
    EXPECT(hypercall(Hypercall::stack_switch, 0xe02b, static_cast<char*>(page()) + page_size) == 0);
    uint64_t counts[repetitions];
    UserEntry const entry{
        reinterpret_cast<uint64_t>(user_code), 0, 0x202, 0xe033, 0xe02b, repetitions,
        reinterpret_cast<uint64_t>(counts)};
    enter_user(&entry, &kernel_stack_pointer);
    print_median("system call of user mode, and iret", counts);
}

/// A port of ours that is connected to another one of ours.
uint32_t connected_port() {
    AllocUnbound unbound{domid_self, domid_self, 0};
    EXPECT(event(EventOperation::alloc_unbound, &unbound) == 0);
    BindInterdomain connected{domid_self, 0, unbound.port, 0};
    EXPECT(event(EventOperation::bind_interdomain, &connected) == 0);
    return connected.local_port;
}

void take_events() {
    shared_page.vcpu_info[0].upcall_pending = 0;
    shared_page.vcpu_info[0].pending_select = 0;
    shared_page.event_pending[0] = 0;
}

void events() {
    EXPECT(update_va_mapping(const_cast<SharedInfo*>(&shared_page),
                             start_info->shared_info | present | writable | user) == 0);
    EXPECT(hypercall(Hypercall::set_callbacks, upcall_entry, 0, 0) == 0);
    EventPort const port{connected_port()};
    auto const send = [&] {
        return hypercall(Hypercall::event_channel_op, static_cast<uint64_t>(EventOperation::send),
                         &port);
    };
    shared_page.vcpu_info[0].upcall_mask = 1;
    shared_page.event_mask[0] = 0;
    EXPECT(send() == 0);
    measure("evtchn_send, target masked", send);
    take_events();
    shared_page.vcpu_info[0].upcall_mask = 0;
    measure("evtchn_send, upcall taken and iret", send, 0, take_events);
    EXPECT(upcalls == repetitions);
    shared_page.vcpu_info[0].upcall_mask = 1;
    static AllocUnbound unbound{domid_self, domid_self, 0};
    static EventPort closed{};
    measure("alloc_unbound + close", [] {
        int64_t const done = event(EventOperation::alloc_unbound, &unbound);
        closed.port = unbound.port;
        return done | event(EventOperation::close, &closed);
    });
}

void scheduling() {
    EXPECT(hypercall(Hypercall::vcpu_op, static_cast<uint64_t>(VcpuOperation::stop_periodic_timer),
                     0, 0) == 0);
    measure("sched_op yield, alone", [] {
        return hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::yield), 0);
    });
    measure("set_timer_op, far",
            [] { return hypercall(Hypercall::set_timer_op, uint64_t{1} << 60); });
    measure("set_timer_op, stop", [] { return hypercall(Hypercall::set_timer_op, 0); });
}

void processor_state() {
    measure("fpu_taskswitch", [] { return hypercall(Hypercall::fpu_taskswitch, 0); });
    measure("stack_switch", [] { return hypercall(Hypercall::stack_switch, 0xe02b, 0); });
    measure("set_segment_base", [] {
        return hypercall(Hypercall::set_segment_base, static_cast<uint64_t>(SegmentBase::gs_user),
                         0);
    });
}

void grant_tables() {
    static uint64_t frames[1];
    static GrantSetupTable set_up{domid_self, 0, 1, {}, {}, reinterpret_cast<uint64_t>(frames)};
    EXPECT(grants(GrantOperation::setup_table, &set_up) == 0 && set_up.status == GrantStatus::okay);
    auto* const table = static_cast<GrantEntryV1*>(page());
    EXPECT(update_va_mapping(table, entry(frames[0], present | writable | user)) == 0);
    void* const granted = page();
    table[grant_reference] = {grant::permit_access, 0, static_cast<uint32_t>(mfn_of(granted))};
    void* const target = page();
    static GrantCopy copy{};
    copy.source = {grant_reference, domid_self, 0, 0};
    copy.destination = {mfn_of(target), domid_self, 0, 0};
    copy.length = 64;
    copy.flags = copy_source_reference;
    measure("grant copy of 64 bytes",
            [] { return grants(GrantOperation::copy, &copy) | static_cast<int64_t>(copy.status); });

    static GrantMap map{};
    static GrantUnmap unmap{};
    map.host_address = unmap.host_address = reinterpret_cast<uint64_t>(target);
    EXPECT(update_va_mapping(target, 0) == 0);
    map.flags = grant_map::host;
    map.reference = grant_reference;
    measure("grant map + unmap", [] {
        int64_t const mapped =
            grants(GrantOperation::map_grant_ref, &map) | static_cast<int64_t>(map.status);
        unmap.handle = map.handle;
        return mapped | grants(GrantOperation::unmap_grant_ref, &unmap) |
               static_cast<int64_t>(unmap.status);
    });
}

} // namespace

void guest_main() {
    measure("nothing", [] { return int64_t{0}; });
    versions_and_lists();
    entries();
    tables();
    address_spaces();
    exceptions();
    user_mode();
    events();
    scheduling();
    processor_state();
    grant_tables();
}
