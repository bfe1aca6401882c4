// Where a guest's kernel handles exceptions and interrupts by `int`.
#pragma once

#include "base/result.h"

#include <cstdint>

namespace hearth::pv {

struct TrapHandler {
    uint64_t address = 0; // 0: none
    uint16_t cs = 0;
    uint8_t flags = 0; // 0-3: lowest privilege that may raise it by `int`; 4: masks events

    [[nodiscard]] uint8_t privilege() const { return flags & 3; }
    [[nodiscard]] bool masks_events() const { return flags & 4; }
};

/// By vector. Kernels have few beyond the exceptions, so it is made of pieces that are there from
/// when one of their vectors gets a handler.
class TrapTable {
    static constexpr unsigned vectors_per_piece = 32, pieces = 256 / vectors_per_piece;
    struct Piece {
        TrapHandler handlers[vectors_per_piece];
    };
    static Piece none_; // what stands where there is none; never written to
    Piece* pieces_[pieces];

public:
    TrapTable() {
        for (Piece*& piece : pieces_)
            piece = &none_;
    }
    ~TrapTable();
    TrapTable(TrapTable const&) = delete;
    TrapTable& operator=(TrapTable const&) = delete;

    TrapHandler const& operator[](uint8_t vector) const {
        return pieces_[vector / vectors_per_piece]->handlers[vector % vectors_per_piece];
    }
    /// A handler of that vector can be set without fail from now on. nomem.
    Result<> make_room(uint8_t vector);
    /// nomem.
    Result<> set(uint8_t vector, TrapHandler const& handler);
    void remove(uint8_t vector);
    void clear();
};

} // namespace hearth::pv
