// How many file descriptors the process may have, which bounds its connections.
#pragma once

#include <cstdint>

namespace sluice {

// Raises the process's limit to `wanted`, as far as its hard limit allows; never lowers it. What it
// is now.
int64_t RaiseDescriptorLimit(int64_t wanted);

}  // namespace sluice
