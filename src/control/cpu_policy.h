// What domains see of the processor, as the toolstack reads and sets it.
#pragma once

#include "abi/sysctl.h"
#include "base/result.h"

namespace hearth {

Result<> describe_cpu_policy(abi::Sysctl& op);
Result<> describe_cpu_features(abi::Sysctl& op);

} // namespace hearth
