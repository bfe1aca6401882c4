#include "memory/address_slots.h"

#include "memory/allocator.h"

namespace hearth {

struct AddressSlots::Note {
    uint64_t address;
    Note* next;
};

AddressSlots::Note* AddressSlots::pop(Note*& list) {
    Note* const first = list;
    if (first)
        list = first->next;
    return first;
}
void AddressSlots::push(Note*& list, Note& note) {
    note.next = list;
    list = &note;
}

Result<uint64_t> AddressSlots::take() {
    {
        LockGuard guard{lock_};
        if (Note* const note = pop(free_)) {
            push(unused_, *note);
            return note->address;
        }
    }
    Note* const note = TRY(make<Note>());
    LockGuard guard{lock_};
    push(unused_, *note);
    return std::exchange(next_, next_ + stride_);
}

void AddressSlots::give_back(uint64_t address) {
    LockGuard guard{lock_};
    Note* const note = pop(unused_); // there is one for each slot that was taken
    note->address = address;
    push(free_, *note);
}

} // namespace hearth
