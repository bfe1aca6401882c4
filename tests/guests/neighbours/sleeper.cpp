// A guest of the least that there can be: it sleeps until it is destroyed.
#include "library/guest.h"

char const guest_name[] = "sleeper";
using namespace guest;
using namespace hearth::abi;

void guest_main() {
    print("sleeper: sleeps\n");
    sleep_for_ever();
}
