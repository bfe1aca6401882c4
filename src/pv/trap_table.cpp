#include "pv/trap_table.h"

#include "memory/allocator.h"

namespace hearth::pv {

constinit TrapTable::Piece TrapTable::none_{};

TrapTable::~TrapTable() {
    for (Piece* const piece : pieces_)
        if (piece != &none_)
            destroy(piece);
}

Result<> TrapTable::make_room(uint8_t vector) {
    Piece*& piece = pieces_[vector / vectors_per_piece];
    if (piece == &none_)
        piece = TRY(make<Piece>());
    return {};
}

Result<> TrapTable::set(uint8_t vector, TrapHandler const& handler) {
    TRY(make_room(vector));
    pieces_[vector / vectors_per_piece]->handlers[vector % vectors_per_piece] = handler;
    return {};
}

void TrapTable::remove(uint8_t vector) {
    Piece* const piece = pieces_[vector / vectors_per_piece];
    if (piece != &none_)
        piece->handlers[vector % vectors_per_piece] = {};
}

void TrapTable::clear() {
    for (Piece* const piece : pieces_)
        if (piece != &none_)
            *piece = {};
}

} // namespace hearth::pv
