// Guests that ask for anything, on CPUs that are interleaved in any way: hypercalls/world.h.
#include "hypercalls/world.h"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    hearth::grammar::Choices choices{data, size};
    hearth::test::World world{choices};
    world.run(400);
    return 0;
}
