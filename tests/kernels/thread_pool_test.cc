#include "kernels/thread_pool.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int32_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(count);
      pool.Run(count, [&](int64_t task, int32_t) { ++runs[task]; });
      for (const std::atomic<int>& times : runs) EXPECT_EQ(times, 1);
    }
  }
}

// What a task works in may belong to its thread's number.
TEST(ThreadPool, NoTwoTasksHaveAThreadNumberAtOnce) {
  constexpr int32_t kThreads = 4;
  ThreadPool pool(kThreads);
  std::vector<std::atomic<int>> inside(kThreads);
  std::atomic<int> clashes = 0;
  pool.Run(2000, [&](int64_t, int32_t thread) {
    ASSERT_LT(thread, kThreads);
    if (++inside[thread] != 1) ++clashes;
    std::this_thread::yield();
    --inside[thread];
  });
  EXPECT_EQ(clashes, 0);
}

// A thread that comes late must not take a task of the job before, nor run it twice.
TEST(ThreadPool, ManyShortJobsInARow) {
  ThreadPool pool(4);
  int64_t sum = 0;
  for (int64_t job = 0; job < 20000; ++job) {
    std::atomic<int64_t> part = 0;
    pool.Run(3, [&](int64_t task, int32_t) { part += job + task; });
    sum += part;
  }
  EXPECT_EQ(sum, int64_t{3} * (19999 * 20000 / 2) + 20000 * 3);
}

TEST(ThreadPool, WhatTasksWroteIsThereAfterwards) {
  ThreadPool pool(3);
  std::vector<int64_t> squares(5000);
  for (int64_t round = 1; round <= 20; ++round) {
    pool.Run(5000, [&](int64_t task, int32_t) { squares[task] += task * task; });
    for (int64_t i = 0; i < 5000; i += 613) ASSERT_EQ(squares[i], round * i * i);
  }
}

TEST(ThreadPool, AloneTheCallerDoesEverything) {
  ThreadPool pool(1);
  const std::thread::id caller = std::this_thread::get_id();
  pool.Run(10, [&](int64_t, int32_t thread) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPool, RangesMakeUpTheWholeInPartsWorthAThread) {
  ThreadPool pool(3);
  for (const int64_t count : {1, 5, 64, 1001}) {
    for (const int64_t grain : {0, 1, 10, 5000}) {
      SCOPED_TRACE(testing::Message() << count << " by " << grain);
      std::mutex mutex;
      std::vector<std::pair<int64_t, int64_t>> parts;
      pool.Ranges(count, grain, [&](int64_t begin, int64_t end) {
        const std::lock_guard lock(mutex);
        parts.emplace_back(begin, end);
      });
      std::vector<int> covered(count);
      for (const auto& [begin, end] : parts) {
        EXPECT_LT(begin, end);
        EXPECT_TRUE(parts.size() == 1 || end - begin >= grain);
        for (int64_t i = begin; i < end; ++i) ++covered[i];
      }
      EXPECT_EQ(covered, std::vector<int>(count, 1));
    }
  }
  pool.Ranges(0, 1, [](int64_t, int64_t) { FAIL() << "there is nothing to do"; });
}

}  // namespace
}  // namespace sluice
