// What the keys do after three times Ctrl-A on the console, and from the toolstack.
#pragma once

#include "base/result.h"

namespace hearth {

/// nomem.
Result<> start_debug_keys();
/// From an interrupt: a thread of Hearth's own does what the key stands for.
void debug_key_typed(char key);
/// Does it here; others may run meanwhile.
void handle_debug_key(char key);

} // namespace hearth
