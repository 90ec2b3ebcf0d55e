// `sluice model DIRECTORY`: what a model directory holds, without loading it.
#pragma once

#include "client/backend.h"
#include "client/command.h"

namespace sluice {

// Of options.local, for the device and the format of weights that the options name. Returns the
// exit code.
int DescribeDirectory(const ConnectionOptions& options, bool json, const Environment& environment);

}  // namespace sluice
