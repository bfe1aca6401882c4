// VGA text mode, 80 by 25, as the firmware left it.
#pragma once

#include <string_view>

namespace hearth {

bool vga_initialise();
void vga_put(std::string_view text);

} // namespace hearth
