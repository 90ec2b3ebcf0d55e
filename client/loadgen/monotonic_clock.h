// The clock that every time of a load run is read from.
#pragma once

#include <chrono>
#include <cstdint>

namespace sluice {

inline constexpr int64_t kNsPerSecond = 1'000'000'000;

// Nanoseconds of the steady clock, which nobody sets.
inline int64_t MonotonicNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline double ToSeconds(int64_t ns) {
  return static_cast<double>(ns) / static_cast<double>(kNsPerSecond);
}

}  // namespace sluice
