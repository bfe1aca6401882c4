// The log's ring, and what the next start finds of it.
#include "console/log_ring.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth {
namespace {

constexpr size_t size = 64;

struct Room {
    LogRing::Header header{};
    char text[size]{};
};

std::string read_all(LogRing const& ring) {
    char out[4 * size];
    uint32_t index = 0;
    return {out, ring.read(out, index, false)};
}
std::string left_in(Room const& room, size_t limit = size) {
    char out[size];
    return {out, LogRing::left_behind(room.header, room.text, {out, limit})};
}

TEST(LogRing, KeepsTheNewest) {
    Room room;
    LogRing ring{room.header, room.text};
    ring.put("first ");
    EXPECT_EQ(read_all(ring), "first ");
    ring.put(std::string(60, 'x'));
    EXPECT_EQ(read_all(ring), "rst " + std::string(60, 'x'));
    ring.clear();
    EXPECT_EQ(read_all(ring), "");
}

TEST(LogRing, IsReadOnFromAPosition) {
    Room room;
    LogRing ring{room.header, room.text};
    ring.put("one");
    char out[size];
    uint32_t index = 0;
    EXPECT_EQ(ring.read(out, index, true), 3u);
    EXPECT_EQ(ring.read(out, index, true), 0u);
    ring.put("two");
    EXPECT_EQ(std::string(out, ring.read(out, index, true)), "two");
    index = 4711; // never was one
    EXPECT_EQ(std::string(out, ring.read(out, index, true)), "onetwo");
}

TEST(LogRing, MovesWithWhatItHolds) {
    Room small, large;
    LogRing ring{small.header, small.text};
    ring.put(std::string(70, 'a') + "end");
    ring.move_to(large.header, large.text);
    ring.put("!");
    EXPECT_EQ(read_all(ring), std::string(60, 'a') + "end!");
}

class LogLeftBehind : public testing::Test {
protected:
    Room first, room;
    void SetUp() override {
        LogRing ring{first.header, first.text};
        ring.move_to(room.header, room.text);
        ring.put("what led to it");
    }
};

TEST_F(LogLeftBehind, IsFound) {
    EXPECT_EQ(left_in(room), "what led to it");
    EXPECT_EQ(left_in(room, 5), "to it");
}

TEST_F(LogLeftBehind, NotAfterAnOrderlyEnd) {
    LogRing ring{first.header, first.text};
    ring.move_to(room.header, room.text);
    ring.put("text");
    ring.note_orderly_end();
    EXPECT_EQ(left_in(room), "");
}

TEST_F(LogLeftBehind, NotInMemoryThatHoldsSomethingElse) {
    Room const empty;
    EXPECT_EQ(left_in(empty), "");
    for (size_t byte = 0; byte < offsetof(LogRing::Header, seal) + sizeof(uint64_t); ++byte) {
        Room damaged = room;
        reinterpret_cast<unsigned char*>(&damaged.header)[byte] ^= 0x10;
        EXPECT_EQ(left_in(damaged), "") << byte;
    }
    Room longer = room;
    longer.header.end = longer.header.start + size + 1;
    EXPECT_EQ(left_in(longer), "");
    char half[size / 2]{}, out[size];
    EXPECT_EQ(LogRing::left_behind(room.header, half, out), 0u) << "another size than then";
}

} // namespace
} // namespace hearth
