// A guest that does nothing but send events to Domain 0, by the ports that it was started with, and
// long lists of calls: whenever it is ended, it is in the middle of one.
#include "abi/event_channel.h"
#include "library/guest.h"

char const guest_name[] = "flood";
using namespace guest;
using namespace hearth::abi;

void guest_main() {
    print("flood: begins\n");
    for (;;) {
        for (uint32_t const port :
             {start_info->console.event_channel, start_info->store_event_channel})
            for (unsigned i = 0; i < 100; ++i)
                hypercall(Hypercall::event_channel_op, static_cast<uint64_t>(EventOperation::send),
                          &port);
        MulticallEntry calls[64];
        for (MulticallEntry& call : calls)
            call = {static_cast<uint64_t>(Hypercall::xen_version), 0, {0, 0}};
        hypercall(Hypercall::multicall, calls, 64);
    }
}
