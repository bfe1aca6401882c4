// What an emulated instruction may touch: everything outside the registers goes through these
// callbacks.
#pragma once

#include "arch/registers.h"
#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <utility>

namespace hearth::emulate {

/// Up to the 16 bytes of cmpxchg16b.
using Wide = unsigned __int128;

/// An exception for the guest. Error code and address mean something for the vectors that have
/// them.
struct Exception {
    Vector vector = Vector::invalid_opcode;
    uint32_t error_code = 0;
    uint64_t address = 0; // for CR2
};

/// Why an access did not happen.
struct Fault {
    bool inject = false; // false: this emulator or its environment does not handle it
    Exception exception{};
};

constexpr Fault unhandled() { return Fault{}; }
constexpr Fault raise(Vector vector, uint32_t error_code = 0, uint64_t address = 0) {
    return Fault{true, {vector, error_code, address}};
}

/// A value, or why there is none. Works with TRY.
template <class T = void>
class [[nodiscard]] Access : public std::expected<T, Fault> {
public:
    using std::expected<T, Fault>::expected;
    constexpr Access(Fault fault) : std::expected<T, Fault>{std::unexpect, fault} {}
};

enum class SegmentRegister : uint8_t { es, cs, ss, ds, fs, gs };

/// A segment as its descriptor says. 64-bit code uses the bases of fs and gs only.
struct Segment {
    uint64_t base = 0;
    uint32_t limit = 0; // in bytes, granularity applied
    uint16_t attributes =
        0; // bits 0-3 type, 4 code or data, 5-6 DPL, 7 present (descriptor bits 40-47)
};

struct CpuidLeaf {
    uint32_t eax = 0;
    uint32_t ebx = 0;
    uint32_t ecx = 0;
    uint32_t edx = 0;
};

/// What is not overridden is unhandleable, so that each user implements only what it permits.
class Environment {
public:
    /// Reads instruction bytes; fewer than asked for at the end of what is mapped, and the
    /// exception when there is not even one.
    virtual Access<size_t> fetch(GuestAddress from, std::span<std::byte> to) = 0;
    virtual Access<Segment> segment(SegmentRegister) { return unhandled(); }

    /// Memory: all of the bytes or none, also across a page border.
    virtual Access<> read(GuestAddress, std::span<std::byte>) { return unhandled(); }
    virtual Access<> write(GuestAddress, std::span<std::byte const>) { return unhandled(); }
    /// Whether a write would fault; asked before a port is read, which cannot be undone.
    virtual Access<> check_write(GuestAddress, size_t) { return {}; }
    /// Atomic, also towards the hardware's page walker. Size 1, 2, 4, 8 or 16. Returns what was
    /// there.
    virtual Access<Wide> compare_exchange(GuestAddress, unsigned /* size */, Wide /* expected */,
                                          Wide /* desired */) {
        return unhandled();
    }

    /// Whether the guest may use ports at all, asked before memory is looked at. (Intel SDM vol. 2,
    /// INS: the exceptions' order)
    virtual Access<> check_port(uint16_t, unsigned /* size */) { return {}; }
    /// Ports, 1, 2 or 4 bytes. The environment checks the guest's I/O privilege.
    virtual Access<uint32_t> io_in(uint16_t /* port */, unsigned /* size */) { return unhandled(); }
    virtual Access<> io_out(uint16_t /* port */, unsigned /* size */, uint32_t) {
        return unhandled();
    }

    virtual Access<uint64_t> read_msr(uint32_t) { return unhandled(); }
    virtual Access<> write_msr(uint32_t, uint64_t) { return unhandled(); }
    virtual Access<uint64_t> read_control(unsigned) { return unhandled(); }
    virtual Access<> write_control(unsigned, uint64_t) { return unhandled(); }
    virtual Access<uint64_t> read_debug(unsigned) { return unhandled(); }
    virtual Access<> write_debug(unsigned, uint64_t) { return unhandled(); }
    virtual Access<CpuidLeaf> cpuid(uint32_t /* leaf */, uint32_t /* subleaf */) {
        return unhandled();
    }
    virtual Access<uint64_t> read_tsc() { return unhandled(); }
    virtual Access<uint64_t> read_pmc(uint32_t) { return unhandled(); }
    virtual Access<> write_extended_control(uint32_t /* xsetbv's ecx */, uint64_t) {
        return unhandled();
    }
    virtual Access<> invalidate_page(GuestAddress) { return unhandled(); }
    virtual Access<> flush_caches() { return unhandled(); }
    /// cli and sti.
    virtual Access<> set_interrupts(bool /* enabled */) { return unhandled(); }
    /// Whether the guest may halt. It must not block: Outcome::halted tells the caller to, once the
    /// registers are right.
    virtual Access<> halt() { return unhandled(); }

protected:
    ~Environment() = default;
};

} // namespace hearth::emulate
