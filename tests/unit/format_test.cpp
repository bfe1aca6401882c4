#include "base/format.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

template <class... A>
std::string formatted(std::string_view pattern, A const&... arguments) {
    TextBuffer<128> buffer;
    format(buffer, pattern, arguments...);
    return std::string{buffer.view()};
}

TEST(Format, NumbersAndText) {
    EXPECT_EQ(formatted("{} of {}", 3, "ten"), "3 of ten");
    EXPECT_EQ(formatted("{:x} {:08x}", 0xbeefu, 0x1fu), "beef 0000001f");
    EXPECT_EQ(formatted("{}", int64_t{-42}), "-42");
    EXPECT_EQ(formatted("{:5}|", 7u), "    7|");
}

TEST(Format, MissingAndUnclosedArgumentsAreVisible) {
    EXPECT_EQ(formatted("a {}"), "a {?}");
    EXPECT_EQ(formatted("a {"), "a {?}");
}

TEST(Format, LongTextIsCut) {
    TextBuffer<4> buffer;
    format(buffer, "{}", "abcdef");
    EXPECT_EQ(buffer.view(), "abcd");
}

} // namespace
} // namespace hearth
