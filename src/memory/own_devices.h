// Device registers that stay Hearth's own, whoever asks: no guest maps them, and no message's entry
// lies there.
#pragma once

#include "base/address.h"

namespace hearth {

/// At start-up.
void claim_device_frames(Mfn first, Mfn last);
/// Whether any of the range is Hearth's own.
bool meets_own_device(Mfn first, Mfn last);

} // namespace hearth
