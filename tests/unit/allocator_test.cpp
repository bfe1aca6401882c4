#include "fake_machine.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace hearth::test {
namespace {

struct Block {
    Mfn first;
    unsigned order;
    uint64_t stamp;
};

bool whole(Block const& b) {
    for (uint64_t i = 0; i < uint64_t{1} << b.order; ++i)
        if (*direct<uint64_t>(b.first + i) != b.stamp + i)
            return false;
    return true;
}

/// How many blocks of this order there are, by taking them all.
uint64_t blocks_available(unsigned order) {
    std::vector<Mfn> taken;
    while (auto const block = allocate_frames(order))
        taken.push_back(*block);
    for (Mfn const block : taken)
        free_frames(block, order);
    return taken.size();
}

TEST(Allocator, RandomBlocksNeverOverlapAndMergeBack) {
    boot_machine();
    uint64_t const frames_before = free_frame_count();
    uint64_t const large_before = blocks_available(13);
    ASSERT_GT(large_before, 0u);
    std::mt19937_64 random{4711};
    std::map<uint64_t, Block> live; // by first frame
    for (unsigned i = 0; i < 20000; ++i) {
        if (random() % 2 || live.empty()) {
            unsigned const order = static_cast<unsigned>(random() % 8);
            bool const low = random() % 4 == 0;
            auto const got = allocate_frames(
                order, low ? frame_of(PhysicalAddress{uint64_t{1} << 32}) : any_frame);
            ASSERT_TRUE(got);
            uint64_t const first = got->raw(), size = uint64_t{1} << order;
            EXPECT_TRUE(is_aligned(first, size));
            EXPECT_TRUE(is_ram(*got) && is_ram(*got + (size - 1)));
            if (low) {
                EXPECT_LE(first + size, 4_GiB >> page_shift);
            }
            auto const after = live.lower_bound(first);
            ASSERT_TRUE(after == live.end() || after->first >= first + size);
            ASSERT_TRUE(after == live.begin() ||
                        std::prev(after)->first + (uint64_t{1} << std::prev(after)->second.order) <=
                            first);
            Block const block{*got, order, random()};
            for (uint64_t k = 0; k < size; ++k)
                *direct<uint64_t>(block.first + k) = block.stamp + k;
            live[first] = block;
        } else {
            auto victim = live.lower_bound(
                live.begin()->first + random() % (live.rbegin()->first - live.begin()->first + 1));
            if (victim == live.end())
                --victim;
            ASSERT_TRUE(whole(victim->second));
            free_frames(victim->second.first, victim->second.order);
            live.erase(victim);
        }
    }
    for (auto const& [first, block] : live) {
        EXPECT_TRUE(whole(block));
        free_frames(block.first, block.order);
    }
    EXPECT_EQ(free_frame_count(), frames_before);
    EXPECT_EQ(blocks_available(13), large_before) << "blocks did not merge";
}

TEST(Allocator, ABlockMayBeGivenBackInPieces) {
    boot_machine();
    uint64_t const before = blocks_available(10);
    Mfn const block = *allocate_frames(10);
    std::vector<uint64_t> pieces(1024);
    for (unsigned i = 0; i < 1024; ++i)
        pieces[i] = i;
    std::shuffle(pieces.begin(), pieces.end(), std::mt19937{7});
    for (uint64_t const piece : pieces)
        free_frames(block + piece, 0);
    EXPECT_EQ(blocks_available(10), before);
}

TEST(Allocator, RefusesWhatItCannotHave) {
    boot_machine();
    EXPECT_EQ(allocate_frames(max_order + 1).error(), Errno::nomem);
    EXPECT_EQ(allocate_frames(~0u).error(), Errno::nomem);
}

TEST(Allocator, LowMemoryRunsOutWhileHighMemoryLasts) {
    boot_machine();
    // `any` takes from above 4 GiB first, so that what needs low memory finds some.
    Mfn const any = *allocate_frames(0);
    EXPECT_GE(any, Mfn{4_GiB >> page_shift});
    free_frames(any, 0);
}

/// Blocks that lie too high may be the first in their lists.
TEST(Allocator, LowMemoryIsFoundBehindHigherOnes) {
    boot_machine();
    constexpr Mfn end = frame_of(PhysicalAddress{16 << 20});
    std::vector<Mfn> low, high;
    while (auto const got = allocate_frames(0, end)) {
        EXPECT_LT(*got, end);
        low.push_back(*got);
    }
    ASSERT_GT(low.size(), 100u);
    for (unsigned i = 0; i < 4; ++i)
        high.push_back(*allocate_frames(0, frame_of(PhysicalAddress{4_GiB})));
    Mfn const wanted = low.back();
    low.pop_back();
    free_frames(wanted, 0);
    free_frames(high[0], 0);
    free_frames(high[2], 0);
    auto const found = allocate_frames(0, end);
    ASSERT_TRUE(found);
    EXPECT_EQ(*found, wanted);
    for (Mfn const mfn : {high[1], high[3], *found})
        free_frames(mfn, 0);
    for (Mfn const mfn : low)
        free_frames(mfn, 0);
}

TEST(Allocator, AFreedFrameIsFlushedBeforeItsNextUse) {
    boot_machine();
    Mfn const frame = *allocate_frames(0);
    mark_stale(page_at(frame), all_cpus());
    free_frames(frame, 0);
    uint64_t loads[machine_cpus];
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        loads[cpu] = host::cpu_state(cpu).cr3_loads;
    Mfn const again = *allocate_frames(0);
    ASSERT_EQ(again, frame);
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        EXPECT_GT(host::cpu_state(cpu).cr3_loads, loads[cpu])
            << "CPU " << cpu << " was not flushed";
    // And only once: everyone has flushed since.
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        loads[cpu] = host::cpu_state(cpu).cr3_loads;
    free_frames(again, 0);
    Mfn const third = *allocate_frames(0);
    for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
        EXPECT_EQ(host::cpu_state(cpu).cr3_loads, loads[cpu]);
    free_frames(third, 0);
}

TEST(Heap, ObjectsAreZeroedAndApart) {
    boot_machine();
    std::mt19937_64 random{99};
    struct Object {
        unsigned char* start;
        size_t size;
        unsigned char fill;
    };
    std::vector<Object> live;
    for (unsigned i = 0; i < 20000; ++i) {
        if (random() % 2 || live.empty()) {
            size_t const size = random() % (i % 50 ? 3000 : 40000);
            auto const got = allocate_bytes(size);
            ASSERT_TRUE(got);
            auto* const start = static_cast<unsigned char*>(*got);
            for (size_t k = 0; k < size; ++k)
                ASSERT_EQ(start[k], 0);
            ASSERT_TRUE(is_aligned(reinterpret_cast<uintptr_t>(start), 32));
            auto const fill = static_cast<unsigned char>(random() | 1);
            memset(start, fill, size);
            live.push_back({start, size, fill});
        } else {
            std::swap(live[random() % live.size()], live.back());
            Object const o = live.back();
            live.pop_back();
            for (size_t k = 0; k < o.size; ++k)
                ASSERT_EQ(o.start[k], o.fill);
            free_bytes(o.start);
        }
    }
    for (Object const& o : live)
        free_bytes(o.start);
    free_bytes(nullptr);
}

TEST(Allocator, SmallObjectsNeverOverlapAndGiveTheirFramesBack) {
    boot_machine();
    uint64_t const frames_before = free_frame_count(), objects_before = object_count();
    struct Object {
        unsigned char* bytes;
        size_t size;
        unsigned char mark;
    };
    std::vector<Object> live;
    std::mt19937_64 random{1147};
    for (unsigned i = 0; i < 20000; ++i) {
        if (random() % 5 < 3) {
            size_t const size = 1 + random() % 2048;
            Object const object{static_cast<unsigned char*>(*allocate_bytes(size)), size,
                                static_cast<unsigned char>(random())};
            ASSERT_TRUE(std::all_of(object.bytes, object.bytes + size,
                                    [](unsigned char byte) { return byte == 0; }));
            std::fill_n(object.bytes, size, object.mark);
            live.push_back(object);
        } else if (!live.empty()) {
            std::swap(live[random() % live.size()], live.back());
            Object const object = live.back();
            live.pop_back();
            ASSERT_TRUE(std::all_of(object.bytes, object.bytes + object.size,
                                    [&](unsigned char byte) { return byte == object.mark; }));
            free_bytes(object.bytes);
        }
    }
    ASSERT_LT(free_frame_count() + 1000, frames_before);
    std::shuffle(live.begin(), live.end(), random);
    for (Object const& object : live)
        free_bytes(object.bytes);
    EXPECT_EQ(object_count(), objects_before);
    constexpr uint64_t sizes = 7; // a frame of each may stay for the next object
    EXPECT_LE(frames_before, free_frame_count() + sizes);
}

TEST(Allocator, OneObjectAgainAndAgainNeedsNoFrameEachTime) {
    boot_machine();
    free_bytes(*allocate_bytes(2048));
    uint64_t const frames = free_frame_count();
    for (unsigned i = 0; i < 10; ++i) {
        void* const object = *allocate_bytes(2048);
        EXPECT_EQ(free_frame_count(), frames);
        free_bytes(object);
        EXPECT_EQ(free_frame_count(), frames);
    }
}

} // namespace
} // namespace hearth::test
