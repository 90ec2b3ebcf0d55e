// Work split over the CPU device's threads. What an element gets never depends on the split.
//
// OpenMP, since oneDNN runs on the same pool. With one thread no parallel region is entered.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace sluice {

// Calls body(begin, end) on contiguous parts that make up [0, count), at most `threads` of them and
// none much smaller than `grain`: less work than that is not worth waking a thread for.
template <typename Body>
void ParallelRanges(int32_t threads, int64_t count, int64_t grain, const Body& body) {
  const int64_t parts = std::min<int64_t>(threads, count / std::max<int64_t>(grain, 1));
  if (parts <= 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) {
    body(count * part / parts, count * (part + 1) / parts);
  }
}

// Calls body(task, thread) for each task in [0, count), thread in [0, threads).
template <typename Body>
void ParallelTasks(int32_t threads, int64_t count, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (int64_t task = 0; task < count; ++task) body(task, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t task = 0; task < count; ++task) body(task, omp_get_thread_num());
}

// Elements of elementwise work that are worth a thread of their own.
constexpr int64_t kElementGrain = 16384;

}  // namespace sluice
