// What only a fault of ours can break: the process ends with one line on stderr.
#pragma once

namespace sluice {

[[noreturn]] void CheckFailed(const char* file, int line, const char* what, const char* detail);

}  // namespace sluice

// Ends the process unless `condition` holds. Never reachable by what a client or an operator does.
#define SLUICE_CHECK(condition)                                              \
  do {                                                                       \
    if (!(condition)) {                                                      \
      ::sluice::CheckFailed(__FILE__, __LINE__, "check failed", #condition); \
    }                                                                        \
  } while (false)
