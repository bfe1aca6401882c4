// What the keys do after three times Ctrl-A on the console.
#pragma once

namespace hearth {

void handle_debug_key(char key);

} // namespace hearth
