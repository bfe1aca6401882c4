// Arguments of hypercalls: at addresses that are nobody's, over borders, changed while they are
// read, lists without end and lists within lists; and what comes back besides what was asked for.
#include "abi/domctl.h"
#include "abi/sysctl.h"
#include "library/events.h"
#include "library/grants.h"
#include "library/guest.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "arguments";
using namespace guest;
using namespace hearth::abi;

namespace {

/// A hypercall that reads or writes an argument at an address.
struct Reader {
    Hypercall number;
    uint64_t first;
    bool address_is_first;
    uint64_t more = 1;
    /// What it says where it cannot read.
    int64_t unread = fault;

    [[nodiscard]] int64_t with(uint64_t address) const {
        return address_is_first ? hypercall(number, address, first, more, self)
                                : hypercall(number, first, address, more);
    }
};
template <class Operation>
constexpr Reader reads(Hypercall number, Operation operation) {
    return {number, static_cast<uint64_t>(operation), false};
}
constexpr Reader readers[] = {
    {Hypercall::multicall, 1, true},
    {Hypercall::multicall, 0xffffffff, true},
    {Hypercall::mmu_update, 1, true, 0},
    {Hypercall::mmu_update, 0x7fffffff, true, 0},
    {Hypercall::mmuext_op, 1, true, 0},
    {Hypercall::mmuext_op, 0x7fffffff, true, 0},
    {Hypercall::set_gdt, 512, true},
    {Hypercall::set_trap_table, 0, true},
    reads(Hypercall::xen_version, VersionOperation::extra_version),
    reads(Hypercall::xen_version, VersionOperation::compile_info),
    reads(Hypercall::xen_version, VersionOperation::capabilities),
    reads(Hypercall::xen_version, VersionOperation::platform_parameters),
    reads(Hypercall::xen_version, VersionOperation::get_features),
    reads(Hypercall::xen_version, VersionOperation::command_line),
    reads(Hypercall::memory_op, MemoryOperation::exchange),
    // How many extents were done.
    {Hypercall::memory_op, static_cast<uint64_t>(MemoryOperation::populate_physmap), false, 1, 0},
    reads(Hypercall::memory_op, MemoryOperation::machphys_mapping),
    reads(Hypercall::memory_op, MemoryOperation::machine_memory_map),
    reads(Hypercall::memory_op, MemoryOperation::current_reservation),
    reads(Hypercall::event_channel_op, EventOperation::alloc_unbound),
    reads(Hypercall::event_channel_op, EventOperation::send),
    reads(Hypercall::event_channel_op, EventOperation::status),
    reads(Hypercall::event_channel_op, EventOperation::init_control),
    reads(Hypercall::grant_table_op, GrantOperation::map_grant_ref),
    reads(Hypercall::grant_table_op, GrantOperation::unmap_grant_ref),
    reads(Hypercall::grant_table_op, GrantOperation::copy),
    reads(Hypercall::grant_table_op, GrantOperation::setup_table),
    reads(Hypercall::grant_table_op, GrantOperation::query_size),
    reads(Hypercall::grant_table_op, GrantOperation::set_version),
    reads(Hypercall::sched_op, SchedOperation::poll),
    reads(Hypercall::callback_op, CallbackOperation::register_callback),
    reads(Hypercall::nmi_op, NmiOperation::register_callback),
    {Hypercall::physdev_op, 6, false},
    {Hypercall::physdev_op, 13, false},
    {Hypercall::domctl, 0, true},
    {Hypercall::sysctl, 0, true},
    {Hypercall::platform_op, 0, true},
    {Hypercall::mca, 0, true},
};

uint64_t const nobodys[] = {0xffff800000000000, 0xffff828000200000, 0xffff830000000000,
                            0xffff83007ffffff8, 0xffff87fffffffff8, 0xffff87ffffffffff,
                            0xffff7fffffffffff, 0x00007fffffffffff, 0x0000800000000000,
                            0xdead00000000beef, 0xfffffffffffffff9, 0xffffffffffffffff};

/// Xen looks at some arguments before it says that they could not be read.
void expect_unread(Reader const& reader, int64_t result) {
    EXPECT(result == reader.unread || (!on_hearth() && result <= 0));
}

void addresses_that_are_nobodys() {
    for (Reader const& reader : readers)
        for (uint64_t const address : nobodys)
            expect_unread(reader, reader.with(address));
    EXPECT_EQUAL(hypercall(Hypercall::xen_version, 0, 0), 4 << 16 | 17);
}

/// The first bytes can be read, the others not.
void arguments_over_a_border() {
    auto* const first = static_cast<char*>(page());
    void* const hole = page();
    EXPECT(first + page_size == hole);
    EXPECT_EQUAL(unmap(hole), 0);
    for (Reader const& reader : readers)
        for (unsigned const left : {0u, 1u, 2u, 3u}) {
            memset(first, 0, page_size);
            int64_t const result =
                reader.with(reinterpret_cast<uint64_t>(first + page_size - left));
            // Two bytes are a whole domain's number.
            if (left < 2)
                expect_unread(reader, result);
        }
    EXPECT_EQUAL(map_writable(hole), 0);
}

/// What a hypercall has to say goes nowhere where its caller could not write.
void results_over_page_tables() {
    auto* const table = static_cast<uint64_t*>(page());
    make_table(1, table);
    uint64_t const there = reinterpret_cast<uint64_t>(table);
    constexpr Reader writers[] = {
        reads(Hypercall::xen_version, VersionOperation::extra_version),
        reads(Hypercall::xen_version, VersionOperation::compile_info),
        reads(Hypercall::xen_version, VersionOperation::capabilities),
        reads(Hypercall::xen_version, VersionOperation::platform_parameters),
        reads(Hypercall::memory_op, MemoryOperation::machphys_mapping),
        reads(Hypercall::event_channel_op, EventOperation::alloc_unbound),
        reads(Hypercall::grant_table_op, GrantOperation::query_size),
        reads(Hypercall::grant_table_op, GrantOperation::map_grant_ref),
    };
    for (Reader const& writer : writers)
        EXPECT_EQUAL(writer.with(there), fault);
    EXPECT_EQUAL(vcpu_op(VcpuOperation::get_runstate_info, 0, table), fault);
    MmuExtOp flush{static_cast<uint32_t>(MmuExtCommand::tlb_flush_local), 0, 0, 0};
    EXPECT_EQUAL(hypercall(Hypercall::mmuext_op, &flush, 1, there, self), 0);
    MmuUpdate update{entry_address(table, 1), entry(mfn_of(table), present | user)};
    EXPECT_EQUAL(hypercall(Hypercall::mmu_update, &update, 1, there, self), 0);
    // The entry of a list of calls, and lists of frames.
    EXPECT_EQUAL(hypercall(Hypercall::multicall, there, 1), fault);
    MemoryReservation const more{there, 1, 0, 0, self, {}};
    operation(Hypercall::memory_op, MemoryOperation::increase_reservation, &more);
    GrantSetupTable set_up{self, 0, 1, GrantStatus::okay, {}, there};
    grant_op(GrantOperation::setup_table, &set_up);
    EXPECT(set_up.status != GrantStatus::okay);
    for (unsigned i = 0; i < 512; ++i)
        EXPECT_EQUAL(table[i], 0);
    end_table(table);
}

void lists_within_lists() {
    static MulticallEntry inner[4], outer[4];
    for (MulticallEntry& call : inner)
        call = {
            static_cast<uint64_t>(Hypercall::multicall), 0, {reinterpret_cast<uint64_t>(outer), 4}};
    memcpy(outer, inner, sizeof outer);
    for (MulticallEntry& call : outer)
        call.arguments[0] = reinterpret_cast<uint64_t>(inner);
    EXPECT_EQUAL(hypercall(Hypercall::multicall, outer, 4), 0);
    for (MulticallEntry const& call : outer)
        EXPECT(call.result < 0);
    EXPECT_EQUAL(outer[0].result, inval);
    // A number that only differs above the lower half.
    outer[1] = {uint64_t{1} << 32 | 17, 0, {0, 0}};
    outer[2] = {~uint64_t{0}, 0, {}};
    outer[3] = {static_cast<uint64_t>(Hypercall::xen_version), 0, {0, 0}};
    EXPECT_EQUAL(hypercall(Hypercall::multicall, outer, 4), 0);
    EXPECT_EQUAL(outer[1].result, nosys);
    EXPECT_EQUAL(outer[2].result, nosys);
    EXPECT_EQUAL(outer[3].result, 4 << 16 | 17);
}

/// Calls of a list that rewrite the list.
void lists_that_change_themselves() {
    static MulticallEntry list[64];
    for (MulticallEntry& call : list)
        call = {static_cast<uint64_t>(Hypercall::xen_version),
                0,
                {static_cast<uint64_t>(VersionOperation::command_line),
                 reinterpret_cast<uint64_t>(list + 8)}};
    hypercall(Hypercall::multicall, list, 64);
    uint64_t const at = reinterpret_cast<uint64_t>(list);
    for (MulticallEntry& call : list)
        call = {static_cast<uint64_t>(Hypercall::memory_op),
                0,
                {static_cast<uint64_t>(MemoryOperation::machphys_mapping), at + 64}};
    hypercall(Hypercall::multicall, list, 64);
    set_handlers(); // what was written may have been a call to forget them
    EXPECT_EQUAL(hypercall(Hypercall::xen_version, 0, 0), 4 << 16 | 17);
}

/// The list's page goes away in its middle.
void lists_that_take_their_own_page_away() {
    auto* const list = static_cast<MulticallEntry*>(page());
    for (unsigned i = 0; i < 8; ++i)
        list[i] = {static_cast<uint64_t>(Hypercall::update_va_mapping),
                   0,
                   {reinterpret_cast<uint64_t>(list), 0, uvmf_invlpg}};
    EXPECT_EQUAL(hypercall(Hypercall::multicall, list, 8), fault);
    EXPECT(!readable(list));
    EXPECT_EQUAL(map_writable(list), 0);
    MmuUpdate const update{entry_address(list, 1), 0};
    memcpy(list, &update, sizeof update);
    memcpy(reinterpret_cast<char*>(list) + sizeof update, &update, sizeof update);
    hypercall(Hypercall::mmu_update, list, 2, reinterpret_cast<uint64_t>(list), self);
    EXPECT_EQUAL(map_writable(list), 0);
}

/// One calls, others write over the argument: each value is one that somebody wrote, whole.
void arguments_that_change_while_read() {
    static MmuUpdate update;
    auto* const table = static_cast<uint64_t*>(page());
    void* const data = page();
    make_table(1, table);
    uint64_t const good = entry(mfn_of(data), present | user);
    uint64_t const evil = entry(mfn_of(table), all_rights);
    update = {slot_of(table, 3), good};
    race(
        300,
        [&] {
            hypercall(Hypercall::mmu_update, &update, 1, 0, self);
            for (unsigned i = 0; i < 512; i += 73)
                EXPECT(table[i] != evil);
            EXPECT((table[3] & ~(accessed | global)) == good || table[3] == 0);
        },
        [&] {
            auto volatile& shared_update = update;
            shared_update.value = evil;
            shared_update.pointer = slot_of(table, 3) | 5;
            shared_update.pointer = root_frame() * page_size + 256 * 8;
            shared_update.value = 0;
            shared_update.pointer = slot_of(table, 3);
            shared_update.value = good;
        });
    EXPECT_EQUAL(mmu_update(slot_of(table, 3), 0), 0);
    end_table(table);
}

void numbers_that_are_none() {
    for (uint64_t const number :
         {uint64_t{57}, uint64_t{63}, uint64_t{64}, uint64_t{127}, uint64_t{255}, uint64_t{4095},
          uint64_t{0xffffffff}, uint64_t{1} << 32, ~uint64_t{0}, uint64_t{1} << 63})
        EXPECT_EQUAL(hypercall(number), nosys);
    for (Hypercall const number :
         {Hypercall::sched_op, Hypercall::event_channel_op, Hypercall::callback_op,
          Hypercall::memory_op, Hypercall::xen_version, Hypercall::nmi_op, Hypercall::physdev_op})
        for (uint64_t const what : {uint64_t{63}, uint64_t{77}, uint64_t{0x7fffffff}})
            EXPECT(hypercall(number, what, 0, 0) < 0);
    for (uint64_t const what : {uint64_t{14}, uint64_t{100}, uint64_t{0xffffffff}})
        EXPECT(hypercall(Hypercall::vcpu_op, what, 0, 0) < 0);
    // What is for translated guests, or for the toolstacks of others; Xen has some of it.
    for (uint64_t const what : {7u, 15u, 16u, 17u, 18u, 19u, 20u, 21u, 22u, 23u, 25u, 26u, 27u})
        EXPECT(hypercall(Hypercall::memory_op, what, 0) < 0 || !on_hearth());
    EXPECT(hypercall(Hypercall::event_channel_op, 14, 0) < 0);
    EXPECT(hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::pin_override), 0) <
           0);
    for (uint64_t const what :
         {4u, 9u, 11u, 15u, 16u, 17u, 18u, 20u, 22u, 23u, 29u, 31u, 100u, ~0u})
        EXPECT(hypercall(Hypercall::physdev_op, what, 0) < 0 || !on_hearth());
    for (uint32_t const what : {0u, 30u, 66u, 100u, 0x80000000u, ~0u}) {
        uint64_t request[20] = {uint64_t{0x03000001} << 32 | what};
        EXPECT(hypercall(Hypercall::platform_op, request) < 0);
        request[0] = what; // another version
        EXPECT(hypercall(Hypercall::platform_op, request) < 0);
    }
    for (uint64_t const type :
         {uint64_t{6}, uint64_t{31}, uint64_t{33}, uint64_t{64}, uint64_t{0xffffffff}})
        EXPECT(hypercall(Hypercall::vm_assist, 0, type) < 0);
    EXPECT(hypercall(Hypercall::vm_assist, 2, 0) < 0);
}

/// Nothing is written beyond what there is to say, and nothing of the hypervisor's with it.
void no_more_than_the_answer() {
    constexpr uint64_t canary = 0xa5a5a5a5a5a5a5a5;
    static uint64_t buffer[512];
    struct {
        VersionOperation what;
        uint64_t size;
    } const answers[] = {
        {VersionOperation::extra_version, 16},      {VersionOperation::compile_info, 144},
        {VersionOperation::capabilities, 1024},     {VersionOperation::changeset, 64},
        {VersionOperation::platform_parameters, 8}, {VersionOperation::get_features, 8},
        {VersionOperation::guest_handle, 16},       {VersionOperation::command_line, 1024}};
    for (auto const& answer : answers) {
        for (uint64_t& word : buffer)
            word = canary;
        buffer[0] = 0; // the index of features
        int64_t const result = operation(Hypercall::xen_version, answer.what, buffer);
        EXPECT(result >= 0);
        for (uint64_t i = answer.size / 8; i < 512; ++i)
            EXPECT_EQUAL(buffer[i], canary);
        // Text ends; behind its end there is nothing else.
        if (answer.what == VersionOperation::capabilities && on_hearth()) {
            auto const* const text = reinterpret_cast<char const*>(buffer);
            for (uint64_t i = strlen(text); i < answer.size; ++i)
                EXPECT(text[i] == 0 || static_cast<uint8_t>(text[i]) == 0xa5);
        }
    }
    // Structures that are only partly filled in.
    EventStatus status{self, 0, 1, ~0u, ~0u, {~0u, ~0u}};
    event_op(EventOperation::status, &status);
    EXPECT(status.status <= 5);
    RunstateInfo info;
    memset(&info, 0xa5, sizeof info);
    EXPECT_EQUAL(vcpu_op(VcpuOperation::get_runstate_info, 0, &info), 0);
    EXPECT(info.padding == 0 || info.padding == 0xa5a5a5a5);
    EXPECT(info.state < 4);
}

void console_without_end() {
    EXPECT(hypercall(Hypercall::console_io, 0, 0xffffffff, 0xffff830000000000) < 0);
    EXPECT(hypercall(Hypercall::console_io, 0, 100, ~uint64_t{0} - 50) < 0);
    EXPECT(hypercall(Hypercall::console_io, 0, 100, 0x00007fffffffffce) < 0);
    // Nothing waits to be read, so nothing is written.
    EXPECT(hypercall(Hypercall::console_io, 1, 0xffffffff, 0xffff830000000000) <= 0);
    EXPECT(hypercall(Hypercall::console_io, 2, 0, 0) < 0);
    char text[64];
    for (char& c : text)
        c = '\r';
    for (unsigned i = 0; i < 20; ++i)
        EXPECT_EQUAL(hypercall(Hypercall::console_io, 0, sizeof text, text), 0);
    EXPECT_EQUAL(hypercall(Hypercall::console_io, 0, 0, text), 0);
    // Over a page that is not there.
    auto* const first = static_cast<char*>(page());
    void* const hole = page();
    memset(first, '\r', page_size);
    EXPECT_EQUAL(unmap(hole), 0);
    EXPECT(hypercall(Hypercall::console_io, 0, 200, first + page_size - 100) < 0);
    EXPECT_EQUAL(map_writable(hole), 0);
}

/// How an update flushes, with bitmaps that cannot be read.
void flushes_of_nobody() {
    void* const data = page();
    uint64_t const value = entry(mfn_of(data), all_rights);
    for (uint64_t const bitmap : {uint64_t{0xffff830000000000}, uint64_t{0x0000800000000000},
                                  uint64_t{0xfffffffffffffff8}, uint64_t{8}})
        for (uint64_t const how : {uvmf_tlb_flush, uvmf_invlpg}) {
            EXPECT(update_va_mapping(data, value, how | bitmap) <= 0);
            EXPECT(mmuext(MmuExtCommand::tlb_flush_multi, 0, bitmap) <= 0);
            EXPECT(mmuext(MmuExtCommand::invlpg_multi, reinterpret_cast<uint64_t>(data), bitmap) <=
                   0);
        }
    static uint64_t const all[4] = {~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}};
    EXPECT_EQUAL(mmuext(MmuExtCommand::tlb_flush_multi, 0, reinterpret_cast<uint64_t>(all)), 0);
    EXPECT_EQUAL(update_va_mapping(data, value, uvmf_tlb_flush | reinterpret_cast<uint64_t>(all)),
                 0);
    for (uint64_t const address : nobodys) {
        EXPECT_EQUAL(mmuext(MmuExtCommand::invlpg_local, address), 0);
        EXPECT_EQUAL(mmuext(MmuExtCommand::invlpg_all, address), 0);
        EXPECT(update_va_mapping(reinterpret_cast<void const*>(address), 0) < 0);
        EXPECT(update_va_mapping(reinterpret_cast<void const*>(address), value, 7) < 0);
    }
    for (uint32_t const command : {14u, 21u, 22u, 255u, 0x80000000u, ~0u})
        EXPECT(mmuext(static_cast<MmuExtCommand>(command), mfn_of(data)) < 0);
}

/// The marks by which Xen's own continuations are known, set by the guest.
void continuations_that_never_began() {
    MmuExtOp flush{static_cast<uint32_t>(MmuExtCommand::tlb_flush_local), 0, 0, 0};
    uint32_t done = 0x7fffffff;
    for (uint64_t const count : {uint64_t{preempted}, uint64_t{preempted} | 1}) {
        hypercall(Hypercall::mmuext_op, &flush, count, &done, self);
        done = 0xfffffff0;
    }
    for (uint64_t const start : {uint64_t{1}, uint64_t{0x3ffffff}, uint64_t{1} << 57})
        for (uint64_t const what : {0u, 1u, 6u, 11u}) {
            MemoryReservation const none{0, 0, 0, 0, self, {}};
            hypercall(Hypercall::memory_op, what | start << 6, &none);
        }
    EXPECT_EQUAL(hypercall(Hypercall::xen_version, 0, 0), 4 << 16 | 17);
}

constexpr Case cases[] = {
    {"addresses_that_are_nobodys", "XSA-29 XSA-212", addresses_that_are_nobodys},
    {"arguments_over_a_border", "XSA-159", arguments_over_a_border},
    {"results_over_page_tables", "XSA-183 XSA-212", results_over_page_tables},
    {"lists_within_lists", "XSA-213", lists_within_lists},
    {"lists_that_change_themselves", "XSA-166", lists_that_change_themselves},
    {"lists_that_take_their_own_page_away", "XSA-213", lists_that_take_their_own_page_away},
    {"arguments_that_change_while_read", "XSA-155 XSA-166", arguments_that_change_while_read},
    {"numbers_that_are_none", "XSA-151 XSA-313", numbers_that_are_none},
    {"no_more_than_the_answer", "XSA-122 XSA-132", no_more_than_the_answer},
    {"console_without_end", "XSA-152", console_without_end},
    {"flushes_of_nobody", "XSA-279 XSA-286", flushes_of_nobody},
    {"continuations_that_never_began", "XSA-264 XSA-318", continuations_that_never_began},
};

} // namespace

void guest_main() { run_cases(cases); }
