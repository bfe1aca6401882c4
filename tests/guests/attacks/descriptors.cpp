// Global and local descriptor tables: gates, system segments, borders, and pages that change their
// use.
#include "library/guest.h"
#include "library/pv/user.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "descriptors";
using namespace guest;
using namespace hearth::abi;

namespace {

constexpr uint64_t user_data = 0x00cff3000000ffff, task_state = 0x0000e90000080067;
constexpr uint64_t reserved_entries_from = 14 * 512; // the hypervisor's part begins

uint64_t* gdt() {
    static auto* const table = static_cast<uint64_t*>(page());
    return table;
}
int64_t set_gdt(uint64_t const* frames, uint64_t entries) {
    return hypercall(Hypercall::set_gdt, frames, entries);
}
int64_t set_ldt(uint64_t address, uint64_t entries) {
    return mmuext(MmuExtCommand::set_ldt, address, entries);
}
int64_t update_descriptor(uint64_t machine_address, uint64_t value) {
    return hypercall(Hypercall::update_descriptor, machine_address, value);
}
Fault load(uint64_t selector) {
    Fault const fault = attempt([=] { asm volatile("mov %w0, %%es" : : "r"(selector)); });
    asm volatile("mov %w0, %%es" : : "r"(0));
    return fault;
}
bool loads(uint64_t selector) { return !load(selector); }
uint64_t access_rights(uint64_t selector, bool& valid) {
    uint64_t rights = 0;
    bool set;
    asm volatile("lar %2, %0" : "+r"(rights), "=@ccz"(set) : "r"(selector));
    valid = set;
    return rights;
}

/// Every kind of system descriptor, and data that only ring 0 should have.
void gates_and_system_segments() {
    for (unsigned type = 0; type < 16; ++type)
        for (unsigned level = 0; level < 4; ++level) {
            // Xen lets these pass: 0 is none, and calls through a gate it carries out itself.
            if (!on_hearth() && (type == 0 || type == 12))
                continue;
            uint64_t const descriptor =
                0x0000800000080000 | uint64_t{type} << 40 | uint64_t{level} << 45 | 0xffff;
            memset(gdt(), 0, page_size);
            gdt()[1] = descriptor;
            EXPECT_EQUAL(map_read_only(gdt()), 0);
            uint64_t const frame = mfn_of(gdt());
            EXPECT(set_gdt(&frame, 512) < 0);
            EXPECT(update_descriptor(frame * page_size + 8 * 3, descriptor) < 0);
            EXPECT_EQUAL(map_writable(gdt()), 0);
        }
    memset(gdt(), 0, page_size);
}

/// Whatever level a descriptor asks for, it gets 3; and a far jump finds no other.
void levels_are_raised() {
    gdt()[1] = 0x00cf93000000ffff; // data of ring 0
    gdt()[2] = 0x00af9b000000ffff; // code of ring 0
    gdt()[3] = 0x00af9f000000ffff; // conforming
    EXPECT_EQUAL(map_read_only(gdt()), 0);
    uint64_t const frame = mfn_of(gdt());
    // Xen refuses them, Hearth changes their level.
    if (set_gdt(&frame, 512) == 0) {
        for (unsigned i = 1; i < 4; ++i)
            EXPECT_EQUAL(gdt()[i] >> 45 & 3, 3);
        EXPECT(!survives([] {
            asm volatile("lea 1f(%%rip), %%rax; push %0; push %%rax; lretq; 1:"
                         :
                         : "r"(uint64_t{2 * 8})
                         : "rax", "memory");
            asm volatile("hlt; cli; mov %%cr8, %%rax" : : : "rax");
        }));
    }
    set_gdt(&frame, 0);
    EXPECT_EQUAL(map_writable(gdt()), 0);
    memset(gdt(), 0, page_size);
}

void the_hypervisors_descriptors() {
    // Its code and data, the task state segment, and where the LDT's would be.
    for (uint64_t const selector : {0xe008, 0xe010, 0xe040, 0xe048, 0xe050, 0xe058, 0xe00b, 0xe013})
        EXPECT(!loads(selector));
    for (uint64_t const selector : {0xe008, 0xe040, 0xe050})
        EXPECT(!survives([=] {
            asm volatile("lea 1f(%%rip), %%rax; push %0; push %%rax; lretq; 1:"
                         :
                         : "r"(selector)
                         : "rax", "memory");
        }));
    bool valid;
    for (uint64_t selector = 0; selector < 0x10000; selector += 8) {
        EXPECT(!attempt([&] { access_rights(selector, valid); }));
        // Those behind the table, too; and there is nothing that could be loaded.
        if (selector >= 512 * 8 && selector / page_size != 14) {
            EXPECT(!valid);
            EXPECT_EQUAL(load(selector + 3).vector, 13);
        }
    }
}

void borders_of_the_tables() {
    gdt()[511] = user_data;
    EXPECT_EQUAL(map_read_only(gdt()), 0);
    uint64_t frames[20];
    for (uint64_t& frame : frames)
        frame = mfn_of(gdt());
    EXPECT_EQUAL(set_gdt(frames, 512), 0);
    EXPECT(loads(511 * 8 + 3));
    EXPECT_EQUAL(load(512 * 8 + 3).vector, 13);
    EXPECT_EQUAL(load(reserved_entries_from * 8 - 8 + 3).vector, 13);
    for (uint64_t const entries :
         {reserved_entries_from + 1, uint64_t{8192}, uint64_t{0xffffffff}, uint64_t{0x80000000}})
        EXPECT_EQUAL(set_gdt(frames, entries), inval);
    EXPECT_EQUAL(set_gdt(frames, reserved_entries_from), 0); // the same frame in each place
    EXPECT(loads(reserved_entries_from * 8 - 8 + 3));
    frames[13] = foreign_frame(0);
    EXPECT(set_gdt(frames, reserved_entries_from) < 0);
    frames[13] = ~uint64_t{0};
    EXPECT(set_gdt(frames, reserved_entries_from) < 0);
    frames[13] = root_frame();
    EXPECT(set_gdt(frames, reserved_entries_from) < 0);
    // Lists that end where nothing can be read.
    for (uint64_t const list :
         {uint64_t{0xffff830000000000}, uint64_t{0x00007ffffffffff8}, ~uint64_t{0} - 7})
        EXPECT_EQUAL(hypercall(Hypercall::set_gdt, list, 1024), fault);
    EXPECT_EQUAL(set_gdt(frames, 0), 0);
    EXPECT_EQUAL(map_writable(gdt()), 0);
    memset(gdt(), 0, page_size);
}

void tables_stay_read_only_while_in_use() {
    gdt()[1] = user_data;
    EXPECT_EQUAL(map_read_only(gdt()), 0);
    uint64_t const frame = mfn_of(gdt());
    EXPECT_EQUAL(set_gdt(&frame, 512), 0);
    EXPECT(map_writable(gdt()) < 0);
    for (unsigned level = 1; level < 5; ++level)
        EXPECT(pin(level, gdt()) < 0);
    EXPECT(mmuext(MmuExtCommand::clear_page, frame) < 0);
    EXPECT(mmu_update(frame * page_size + 8, task_state) < 0);
    EXPECT(update_descriptor(frame * page_size + 8, task_state) < 0);
    EXPECT(update_descriptor(frame * page_size + 4, 0) < 0);
    EXPECT_EQUAL(update_descriptor(frame * page_size + 16, user_data), 0);
    EXPECT(loads(2 * 8 + 3));
    EXPECT_EQUAL(set_gdt(&frame, 0), 0);
    EXPECT(!loads(2 * 8 + 3));
    EXPECT_EQUAL(map_writable(gdt()), 0);
    memset(gdt(), 0, page_size);
}

void descriptors_where_there_are_none() {
    auto* const table = static_cast<uint64_t*>(page());
    make_table(1, table);
    EXPECT(update_descriptor(slot_of(table, 3), 0) < 0);
    EXPECT(update_descriptor(slot_of(table, 3), user_data) < 0);
    for (uint64_t const address :
         {foreign_frame(0) * page_size, uint64_t{1} << 50, ~uint64_t{7}, uint64_t{0xfee00000}})
        EXPECT(update_descriptor(address, 0) < 0);
    EXPECT(update_descriptor(root_frame() * page_size, 0) < 0);
    end_table(table);
}

void local_tables_at_bad_addresses() {
    for (uint64_t const address :
         {uint64_t{0xffff800000000000}, uint64_t{0xffff87fffffff000}, uint64_t{0x0000800000000000},
          uint64_t{0x00007ffffffff000}, uint64_t{1}, uint64_t{0xfffffffffffff000}})
        for (uint64_t const entries : {uint64_t{1}, uint64_t{8192}}) {
            if (set_ldt(address, entries) == 0) // as long as nobody looks
                EXPECT(!loads(4 + 3));
        }
    EXPECT(set_ldt(0, 8193) < 0);
    EXPECT(set_ldt(0, 0xffffffff) < 0);
    EXPECT_EQUAL(set_ldt(0, 0), 0);
    EXPECT(!loads(4 + 3));
}

/// The last entry of a page, the first of the next, which has another fate.
void local_tables_over_page_borders() {
    auto* const first = static_cast<uint64_t*>(page());
    auto* const second = static_cast<uint64_t*>(page());
    EXPECT(first + 512 == second);
    first[511] = second[0] = second[1] = user_data;
    uint64_t const selector = 511 * 8 + 7;
    EXPECT_EQUAL(map_read_only(first), 0);
    EXPECT_EQUAL(unmap(second), 0);
    EXPECT_EQUAL(set_ldt(reinterpret_cast<uint64_t>(first), 513), 0);
    EXPECT(loads(selector));
    EXPECT_EQUAL(load(selector + 8).vector, 14);
    EXPECT_EQUAL(map_read_only(second), 0);
    EXPECT(loads(selector + 8));
    EXPECT_EQUAL(load(selector + 16).vector, 13); // beyond the limit
    EXPECT(map_writable(second) < 0);
    // The mapping goes; the table that was looked up stays one until it is set anew.
    EXPECT_EQUAL(unmap(second), 0);
    EXPECT_EQUAL(set_ldt(0, 0), 0);
    EXPECT(!loads(selector));
    EXPECT_EQUAL(map_writable(first), 0);
    EXPECT_EQUAL(map_writable(second), 0);
}

/// To the guest it is an access of the kernel's to where it has said that its table is.
void local_tables_in_pages_that_are_not_there() {
    auto* const table = static_cast<uint64_t*>(page());
    uint64_t const address = reinterpret_cast<uint64_t>(table);
    constexpr uint64_t selector = 3 * 8 + 7, segment_table = 3 * 8;
    table[3] = user_data;
    use_user_table();
    auto const is_absent = [&] {
        Fault const fault = load(selector);
        EXPECT_EQUAL(fault.vector, 14);
        EXPECT_EQUAL(fault.error, 0);
        EXPECT_EQUAL(fault.address, address + segment_table);
        UserExit const user = run_user([] { asm volatile("mov %w0, %%es" : : "r"(selector)); });
        EXPECT_EQUAL(user.vector, 14);
        EXPECT_EQUAL(user.error, 4);
        EXPECT_EQUAL(user.address, address + segment_table);
        UserEntry entry = user_entry_for([](void*) { asm volatile("nop"); }, nullptr);
        entry.ss = selector;
        UserExit const by_iret = enter_user_at(entry);
        EXPECT_EQUAL(by_iret.vector, 14);
        EXPECT_EQUAL(by_iret.error, 4);
        EXPECT_EQUAL(by_iret.address, address + segment_table);
    };
    EXPECT_EQUAL(set_ldt(address, 512), 0);
    is_absent(); // writable, which cannot be a table
    EXPECT_EQUAL(unmap(table), 0);
    is_absent();
    EXPECT_EQUAL(map_read_only(table), 0);
    EXPECT(loads(selector));
    EXPECT_EQUAL(load(512 * 8 + 7).vector, 13); // beyond the limit
    EXPECT_EQUAL(set_ldt(0, 0), 0);
    EXPECT_EQUAL(map_writable(table), 0);
}

/// Where the processor finds descriptors is nobody's else to read.
void windows_of_descriptors() {
    static struct [[gnu::packed]] {
        uint16_t limit;
        uint64_t base;
    } pointer;
    asm volatile("sgdt %0" : "=m"(pointer));
    auto* const table = static_cast<uint64_t*>(page());
    EXPECT_EQUAL(map_read_only(table), 0);
    EXPECT_EQUAL(set_ldt(reinterpret_cast<uint64_t>(table), 512), 0);
    for (unsigned n = 0; n < 32; ++n) {
        auto* const place = reinterpret_cast<uint64_t volatile*>(pointer.base + n * page_size);
        for (Fault const fault : {attempt([=] { (void)*place; }), attempt([=] { *place = 0; })}) {
            EXPECT_EQUAL(fault.vector, 14);
            EXPECT_EQUAL(fault.address, reinterpret_cast<uint64_t>(place));
        }
    }
    EXPECT_EQUAL(set_ldt(0, 0), 0);
    EXPECT_EQUAL(map_writable(table), 0);
}

/// The first look at an LDT may be the hypervisor's own.
void local_tables_first_used_by_the_hypervisor() {
    auto* const table = static_cast<uint64_t*>(page());
    table[1] = user_data;
    EXPECT_EQUAL(map_read_only(table), 0);
    EXPECT_EQUAL(set_ldt(reinterpret_cast<uint64_t>(table), 512), 0);
    EXPECT_EQUAL(hypercall(Hypercall::set_segment_base,
                           static_cast<uint64_t>(SegmentBase::gs_user_selector), 8 + 7),
                 0);
    use_user_table();
    static uint64_t selector;
    run_user([] { asm volatile("mov %%gs, %0" : "=r"(selector)); });
    EXPECT_EQUAL(selector, 8 + 7);
    // Selectors that iret loads.
    EXPECT_EQUAL(set_ldt(0, 0), 0);
    EXPECT_EQUAL(set_ldt(reinterpret_cast<uint64_t>(table), 512), 0);
    UserEntry entry = user_entry_for([](void*) { asm volatile("nop"); }, nullptr);
    entry.ss = 8 + 7;
    EXPECT(enter_user_at(entry).done());
    hypercall(Hypercall::set_segment_base, 3, 0);
    EXPECT_EQUAL(set_ldt(0, 0), 0);
    EXPECT_EQUAL(map_writable(table), 0);
}

/// One vCPU loads selectors of a table that others set, change and give up.
void tables_that_change_under_their_users() {
    static uint64_t* table;
    table = static_cast<uint64_t*>(page());
    table[1] = table[2] = user_data;
    EXPECT_EQUAL(map_read_only(table), 0);
    uint64_t const frame = mfn_of(table);
    auto const all = [=] {
        // Xen calls the failsafe callback when a selector does not load any more.
        this_vcpu().hook = [](TrapFrame& trap) { return trap.vector == by_failsafe; };
        uint64_t const at = reinterpret_cast<uint64_t>(table);
        set_ldt(at, 512);
        set_gdt(&frame, 512);
        attempt([] { asm volatile("mov %w0, %%es" : : "r"(8 + 7)); });
        attempt([] { asm volatile("mov %w0, %%ds" : : "r"(16 + 3)); });
        update_descriptor(frame * page_size + 16, 0);
        update_descriptor(frame * page_size + 16, user_data);
        map_writable(table);
        map_read_only(table);
        yield();
        asm volatile("mov %w0, %%es; mov %w0, %%ds" : : "r"(0));
        set_ldt(0, 0);
        set_gdt(&frame, 0);
    };
    race(200, all, all);
    this_vcpu().hook = nullptr;
    EXPECT_EQUAL(map_writable(table), 0);
}

constexpr Case cases[] = {
    {"gates_and_system_segments", "XSA-110 XSA-298", gates_and_system_segments},
    {"levels_are_raised", "XSA-110", levels_are_raised},
    {"the_hypervisors_descriptors", "XSA-110", the_hypervisors_descriptors},
    {"borders_of_the_tables", "XSA-298", borders_of_the_tables},
    {"tables_stay_read_only_while_in_use", "XSA-298 XSA-248", tables_stay_read_only_while_in_use},
    {"descriptors_where_there_are_none", "XSA-109", descriptors_where_there_are_none},
    {"local_tables_at_bad_addresses", "XSA-298", local_tables_at_bad_addresses},
    {"local_tables_over_page_borders", "XSA-298", local_tables_over_page_borders},
    {"local_tables_in_pages_that_are_not_there", "", local_tables_in_pages_that_are_not_there},
    {"windows_of_descriptors", "", windows_of_descriptors},
    {"local_tables_first_used_by_the_hypervisor", "XSA-191",
     local_tables_first_used_by_the_hypervisor},
    {"tables_that_change_under_their_users", "XSA-401", tables_that_change_under_their_users},
};

} // namespace

void guest_main() { run_cases(cases); }
