#include "kernels/check.h"

#include <cstdio>
#include <cstdlib>

namespace sluice {

void CheckFailed(const char* file, int line, const char* what, const char* detail) {
  std::fprintf(stderr, "%s:%d: %s: %s\n", file, line, what, detail);
  std::fflush(stderr);
  std::abort();
}

}  // namespace sluice
