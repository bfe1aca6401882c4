#include "console/vga.h"

#include "memory/direct_map.h"

namespace hearth {
namespace {

constexpr unsigned columns = 80, rows = 25;
constexpr uint16_t white_on_black = 0x0700;
constinit uint16_t volatile* cells = nullptr;
constinit unsigned row = 0, column = 0;

void new_line() {
    column = 0;
    if (++row < rows)
        return;
    row = rows - 1;
    for (unsigned i = 0; i < (rows - 1) * columns; ++i)
        cells[i] = cells[i + columns];
    for (unsigned i = 0; i < columns; ++i)
        cells[(rows - 1) * columns + i] = white_on_black | ' ';
}

} // namespace

bool vga_initialise() {
    // As the boot page tables map it.
    cells = direct<uint16_t volatile>(PhysicalAddress{0xb8000});
    for (unsigned i = 0; i < rows * columns; ++i)
        cells[i] = white_on_black | ' ';
    return true;
}

void vga_move(void* moved) { cells = static_cast<uint16_t volatile*>(moved); }

void vga_put(std::string_view text) {
    if (!cells)
        return;
    for (char c : text) {
        if (c == '\n') {
            new_line();
            continue;
        }
        cells[row * columns + column] = white_on_black | static_cast<uint8_t>(c);
        if (++column == columns)
            new_line();
    }
}

} // namespace hearth
