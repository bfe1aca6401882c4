// Small objects: a frame holds those of one size class, and goes back when the last of them does.
#include "arch/intrinsics.h"
#include "base/lock.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/page.h"

#include <bit>

namespace hearth {
namespace {

constexpr unsigned smallest_class = 5; // 32 bytes
constexpr unsigned largest_class = 11; // 2 KiB
constexpr uint8_t whole_frames =
    0x80; // in Page::order: a block of frames, its order in the low bits

constexpr uint64_t capacity(unsigned size_class) { return page_size >> size_class; }

/// A free object starts with the place of the next one in its frame.
struct FreeObject {
    uint64_t next;
};
FreeObject* object_at(Mfn mfn, unsigned size_class, uint64_t place) {
    return direct<FreeObject>(mfn) + (place << size_class) / sizeof(FreeObject);
}
void file_object(Mfn mfn, unsigned size_class, uint64_t place, uint64_t next) {
    auto* const object = new (object_at(mfn, size_class, place)) FreeObject{next};
    arch::memory_freed(object + 1, (size_t{1} << size_class) - sizeof *object);
}

struct Objects {
    FrameList with_free[largest_class + 1]; // frames that have a free one of the class
    uint64_t in_use = 0;
    uint64_t frames = 0;

    /// Null: there is none.
    void* take(unsigned size_class) {
        FrameList& list = with_free[size_class];
        if (list.empty())
            return nullptr;
        Mfn const mfn{list.first()};
        Page& page = page_at(mfn);
        FreeObject* const object = object_at(mfn, size_class, page.objects.first_free);
        page.objects.first_free = static_cast<uint8_t>(object->next);
        if (++page.objects.in_use == capacity(size_class))
            list.remove(mfn);
        ++in_use;
        return object;
    }

    /// True when the object's frame is no longer needed: none in it is in use, and there is another
    /// with a free one, so that who gives one back and takes one again does not need a frame each
    /// time.
    bool give(Mfn mfn, uint64_t place) {
        Page& page = page_at(mfn);
        unsigned const size_class = page.order;
        FrameList& list = with_free[size_class];
        file_object(mfn, size_class, place, page.objects.first_free);
        page.objects.first_free = static_cast<uint8_t>(place);
        --in_use;
        if (page.objects.in_use-- == capacity(size_class))
            list.push(mfn);
        bool const only_one = list.first() == mfn.raw() && page.next == no_frame;
        if (page.objects.in_use || only_one)
            return false;
        list.remove(mfn);
        --frames;
        return true;
    }

    void add_frame(Mfn mfn, unsigned size_class) {
        with_free[size_class].push(mfn);
        ++frames;
    }
};
constinit Guarded<Objects, Rank::heap> objects;

unsigned class_of(size_t size) {
    unsigned const needed = static_cast<unsigned>(std::bit_width(size - 1));
    return needed < smallest_class ? smallest_class : needed;
}

Result<> refill(unsigned size_class) {
    Mfn const mfn = TRY(allocate_frames(0));
    Page& page = page_at(mfn);
    page.order = static_cast<uint8_t>(size_class);
    page.objects = {};
    for (uint64_t place = 0; place < capacity(size_class); ++place)
        file_object(mfn, size_class, place, place + 1); // nobody looks behind the last one
    objects.with([&](Objects& o) { o.add_frame(mfn, size_class); });
    return {};
}

Result<void*> allocate_whole_frames(unsigned size_class) {
    unsigned const order = size_class <= page_shift ? 0 : size_class - page_shift;
    Mfn const mfn = TRY(allocate_frames(order));
    page_at(mfn).order = static_cast<uint8_t>(whole_frames | order);
    for (uint64_t i = 0; i < uint64_t{1} << order; ++i)
        zero_page(mfn + i);
    return direct<void>(mfn);
}

} // namespace

Result<void*> allocate_bytes(size_t size) {
    if (arch::allocation_fails())
        return Errno::nomem;
    unsigned const wanted = class_of(size ? size : 1);
    if (wanted > largest_class)
        return allocate_whole_frames(wanted);
    for (;;) {
        if (void* const object = objects.with([&](Objects& o) { return o.take(wanted); })) {
            arch::memory_given(object, size_t{1} << wanted);
            arch::fill_quads(object, 0, (size_t{1} << wanted) / 8);
            return object;
        }
        TRY(refill(wanted));
    }
}

void free_bytes(void* pointer) {
    if (!pointer)
        return;
    Mfn const mfn = mfn_of(pointer);
    uint8_t const kind = page_at(mfn).order;
    if (kind & whole_frames)
        return free_frames(mfn, kind & 0x7f);
    uint64_t const place = (reinterpret_cast<uintptr_t>(pointer) & page_mask) >> kind;
    if (objects.with([&](Objects& o) { return o.give(mfn, place); }))
        free_frames(mfn, 0);
}

uint64_t object_count() {
    return objects.with([](Objects& o) { return o.in_use; });
}
uint64_t object_frame_count() {
    return objects.with([](Objects& o) { return o.frames; });
}

} // namespace hearth
