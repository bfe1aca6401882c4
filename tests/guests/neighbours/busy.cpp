// A guest that is in a long hypercall nearly always: memory that comes and goes, tables that are
// validated and let go, short sleeps. Whenever it is ended, it is in the middle.
#include "library/guest.h"

char const guest_name[] = "busy";
using namespace guest;
using namespace hearth::abi;

namespace {

constexpr unsigned table_count = 16;

/// All that it may still have, and back.
void breathe() {
    static uint64_t frames[512];
    for (uint64_t i = 0; i < 512; ++i)
        frames[i] = start_info->page_count + i;
    MemoryReservation more{reinterpret_cast<uint64_t>(frames), 512, 0, 0, self, {}};
    int64_t const got = hypercall(Hypercall::memory_op,
                                  static_cast<uint64_t>(MemoryOperation::populate_physmap), &more);
    MemoryReservation back{
        reinterpret_cast<uint64_t>(frames), static_cast<uint64_t>(got), 0, 0, self, {}};
    EXPECT(got > 100);
    EXPECT(hypercall(Hypercall::memory_op,
                     static_cast<uint64_t>(MemoryOperation::decrease_reservation), &back) == got);
}

void sleep_shortly() {
    SchedPoll poll{0, 0, 0, 1}; // a time that has passed
    hypercall(Hypercall::sched_op, static_cast<uint64_t>(SchedOperation::poll), &poll);
}

} // namespace

void guest_main() {
    void* const data = page();
    static MmuExtOp pins[2 * table_count];
    for (unsigned i = 0; i < table_count; ++i) {
        auto* const table = static_cast<uint64_t*>(page());
        for (unsigned n = 0; n < 512; ++n)
            table[n] = entry(mfn_of(data), present | writable | user);
        EXPECT(update_va_mapping(table, entry(mfn_of(table), present | user)) == 0);
        pins[2 * i] = {static_cast<uint32_t>(MmuExtCommand::pin_l1_table), 0, mfn_of(table), 0};
        pins[2 * i + 1] = {static_cast<uint32_t>(MmuExtCommand::unpin_table), 0, mfn_of(table), 0};
    }
    print("busy: begins\n");
    for (;;) {
        breathe();
        EXPECT(hypercall(Hypercall::mmuext_op, pins, 2 * table_count, 0, self) == 0);
        sleep_shortly();
    }
}
