// Every hypercall with wild numbers and pointers: an error each time, and nothing else.
#include "library/guest.h"

char const guest_name[] = "hostile_hypercalls";
using namespace guest;
using namespace hearth::abi;

namespace {

/// Addresses that a guest must not be able to make the hypervisor touch, or that are not mapped, or
/// wrap.
uint64_t const wild[] = {0,
                         1,
                         8,
                         0xfff,
                         0x00007ffffffffff8,
                         0x0000800000000000,
                         0xdeadbeefdeadbeef,
                         0xffff7ffffffffff8,
                         0xffff800000000000,
                         0xffff828000200000,
                         0xffff840000000000,
                         0xffff87fffffffff8,
                         0xffff880000000000,
                         0xfffffffffffffff8,
                         0xffffffffffffffff};

bool must_not_be_called(uint64_t number) {
    // They would end the guest or the test by doing what they are asked: iret takes any frame it
    // can read, sched_op blocks and shuts down.
    return number == 23 || number == 29;
}

uint64_t seed = 0x243f6a8885a308d3;
uint64_t random() {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
uint64_t argument() {
    return random() % 3 ? wild[random() % (sizeof wild / sizeof wild[0])] : random() % 64;
}

} // namespace

void guest_main() {
    for (uint64_t number = 0; number < 80; ++number) {
        if (must_not_be_called(number))
            continue;
        for (unsigned round = 0; round < 200; ++round) {
            uint64_t const a = argument(), b = argument(), c = argument();
            // Counts are kept small where they are real work, and fpu_taskswitch(1) would trap
            // nothing here.
            hypercall(number, a, b, c, argument(), argument());
        }
    }
    EXPECT(hypercall(uint64_t{63}) == -38);
    EXPECT(hypercall(uint64_t{1} << 40) == -38);
    EXPECT(hypercall(Hypercall::xen_version, 0, 0) == (4 << 16 | 17));
    // Pointers into the hypervisor: never written, always a fault.
    for (uint64_t address :
         {0xffff800000000000, 0xffff828000200000, 0xffff840000100000, 0xffff87fffffff000}) {
        EXPECT(hypercall(Hypercall::xen_version, 1, address) == -14);
        EXPECT(hypercall(Hypercall::multicall, address, 1) == -14);
        EXPECT(hypercall(Hypercall::memory_op, 12, address) == -14);
    }
    // An argument that ends beyond what is mapped, or wraps.
    EXPECT(hypercall(Hypercall::xen_version, 3, 0xffffffffffffff00) == -14);
    // Multicalls do not nest.
    MulticallEntry inner{17, 0, {0, 0}};
    MulticallEntry outer{13, 0, {reinterpret_cast<uint64_t>(&inner), 1}};
    EXPECT(hypercall(Hypercall::multicall, &outer, 1) == 0);
    EXPECT(outer.result == -22);
}
