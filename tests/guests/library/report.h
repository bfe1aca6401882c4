// What a guest says: text, expectations that did not hold, one line for the end of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace guest {

void print(char const* text);
void print_number(int64_t number);
void print_hexadecimal(uint64_t number);

/// Fails the guest, with the expression's text, unless it holds; goes on.
#define EXPECT(condition) ::guest::expect((condition), #condition, __LINE__)
void expect(bool holds, char const* text, int line);
/// As EXPECT(value == wanted), and says what the value was.
#define EXPECT_EQUAL(value, wanted)                                                                \
    ::guest::expect_equal((int64_t)(value), (int64_t)(wanted), #value, __LINE__)
void expect_equal(int64_t value, int64_t wanted, char const* text, int line);

/// Something that a guest must not be able to do, and tries.
struct Case {
    char const* name;
    char const* guards; // the public advisories whose kind of flaw it looks for
    void (*run)();
    /// The right outcome is that the guest dies, and this is what the hypervisor says of it. Such a
    /// case has a boot to itself.
    char const* dies = nullptr;
};

/// Runs those that the guest survives, one after the other, and names the others; or the one that
/// the command line asks for by "case=NAME". With the word "again", over and over.
void run_cases(std::span<Case const> cases);

/// The line that says whether all expectations held.
void print_result();
unsigned failure_count();
void note_failure();

} // namespace guest
