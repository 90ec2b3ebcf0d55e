// How much memory the host could give now.
#pragma once

#include <cstdint>

namespace sluice {

// What /proc/meminfo calls available, or what the control group's limit leaves (version 2; its
// reclaimable file cache counts as left), whichever is less.
int64_t AvailableMemoryBytes();

}  // namespace sluice
