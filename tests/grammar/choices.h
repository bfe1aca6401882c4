// Where a fuzzer's decisions come from: bytes that somebody found worth trying, or a seed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hearth::grammar {

class Choices {
    uint8_t const* data_ = nullptr;
    size_t left_ = 0;
    uint64_t state_ = 0;
    bool const endless_;

    uint64_t next() { // splitmix64
        state_ += 0x9e3779b97f4a7c15;
        uint64_t n = state_;
        n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
        n = (n ^ n >> 27) * 0x94d049bb133111eb;
        return n ^ n >> 31;
    }

public:
    explicit Choices(uint64_t seed) : state_{seed}, endless_{true} {}
    Choices(uint8_t const* data, size_t size) : data_{data}, left_{size}, endless_{false} {}

    [[nodiscard]] bool ended() const { return !endless_ && left_ == 0; }
    /// Of so many bytes. After the last of them there are others: who draws until something fits
    /// must come to an end.
    uint64_t number(unsigned bytes) {
        uint64_t n = 0;
        if (ended() || endless_)
            return bytes < 8 ? next() & ((uint64_t{1} << 8 * bytes) - 1) : next();
        for (unsigned i = 0; i < bytes && left_ != 0; ++i, --left_)
            n |= uint64_t{*data_++} << (8 * i);
        return n;
    }
    /// Below n, which is not 0.
    uint64_t below(uint64_t n) {
        return number(n <= 0x100 ? 1 : n <= 0x10000 ? 2 : n <= 0x1'0000'0000 ? 4 : 8) % n;
    }
    bool one_in(uint64_t n) { return below(n) == 0; }
};

} // namespace hearth::grammar
