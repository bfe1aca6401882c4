// VGA text mode, 80 by 25, as the firmware left it.
#pragma once

#include <string_view>

namespace hearth {

bool vga_initialise();
/// The text memory is mapped at `cells` from now on; null: do not touch it.
void vga_move(void* cells);
void vga_put(std::string_view text);

} // namespace hearth
