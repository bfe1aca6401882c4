#pragma once

#ifdef HEARTH_HOSTED
#include "arch/host/intrinsics.h"
#else
#include "arch/x86/intrinsics.h"
#endif
