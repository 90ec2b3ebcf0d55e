#include "server/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "kernels/check.h"

namespace sluice {

int64_t RaiseDescriptorLimit(int64_t wanted) {
  rlimit limit{};
  SLUICE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlim_t raised = std::min(static_cast<rlim_t>(wanted), limit.rlim_max);
  if (raised > limit.rlim_cur) {
    const rlimit higher = {raised, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &higher) == 0) limit.rlim_cur = raised;
  }
  constexpr rlim_t kMost = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(std::min(limit.rlim_cur, kMost));
}

}  // namespace sluice
