#include "library/pv/user.h"

#include "library/guest.h"

namespace guest {

using namespace hearth::abi;

void use_user_table() {
    static uint64_t* root = nullptr;
    if (!root) {
        root = static_cast<uint64_t*>(page());
        root[511] = read_entry(root_frame() * page_size + uint64_t{511} * 8);
        make_table(4, root);
    }
    EXPECT_EQUAL(mmuext(MmuExtCommand::new_user_baseptr, mfn_of(root)), 0);
}

UserEntry user_entry_for(void (*call)(void*), void* argument) {
    return {reinterpret_cast<uint64_t>(user_start),
            reinterpret_cast<uint64_t>(&this_vcpu()) + user_stack_end,
            0x202,
            0xe033,
            0xe02b,
            reinterpret_cast<uint64_t>(call),
            reinterpret_cast<uint64_t>(argument)};
}

UserExit enter_user_at(UserEntry const& entry) {
    VcpuBlock& block = this_vcpu();
    enter_user(&entry, &block.user_stack);
    block.user_stack = 0;
    UserExit result{block.fault, {}};
    result.frame = block.user_frame;
    return result;
}

} // namespace guest
