#pragma once

#ifdef HEARTH_HOSTED
#include "arch/host/port_io.h"
#else
#include "arch/x86/intrinsics.h"
#endif
