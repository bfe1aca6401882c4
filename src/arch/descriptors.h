#pragma once

#ifdef HEARTH_HOSTED
#include "arch/host/descriptors.h"
#else
#include "arch/x86/descriptors.h"
#endif
