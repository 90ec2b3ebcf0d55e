// What is running.
#pragma once

#include <string_view>

namespace sluice {

std::string_view ServerVersion();  // as the build names it: "0.1.0"
std::string_view ServerCommit();   // short hash, or "unknown" outside a checkout

}  // namespace sluice
