// Where the boot assembly enters C++.
#pragma once

#include <cstdint>

/// `magic` tells the boot protocol, `information` is the physical address of what the loader has to
/// say. Never returns.
extern "C" void boot_first_cpu(uint32_t magic, uint32_t information);
