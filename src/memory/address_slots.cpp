#include "memory/address_slots.h"

#include "memory/allocator.h"

namespace hearth {

struct AddressSlots::FreeSlot {
    uint64_t address;
    FreeSlot* next;
};

Result<uint64_t> AddressSlots::take() {
    FreeSlot* reused = nullptr;
    uint64_t address = 0;
    {
        LockGuard guard{lock_};
        reused = free_;
        if (reused)
            free_ = reused->next;
        else
            address = std::exchange(next_, next_ + stride_);
    }
    if (reused) {
        address = reused->address;
        destroy(reused);
    }
    return address;
}

void AddressSlots::give_back(uint64_t address) {
    auto const note = make<FreeSlot>();
    if (!note)
        return;
    LockGuard guard{lock_};
    **note = {address, free_};
    free_ = *note;
}

} // namespace hearth
