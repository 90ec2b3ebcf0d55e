// The threads that the CPU device's ops run on. What an element gets never depends on the split.
//
// Not OpenMP: its barrier waits for every thread, also for one that the system has not scheduled,
// and its threads burn their share of the processor while they wait. Where others need the
// processor too, that costs a time slice an op. Here the caller takes tasks like any other thread
// and waits only for tasks that have been begun.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace sluice {

// Run and Ranges are called by one thread at a time, and never from within a task.
class ThreadPool {
 public:
  // `threads` >= 1, the caller's being one of them.
  explicit ThreadPool(int32_t threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls body(task, thread) for each task in [0, count), thread in [0, threads()), and returns
  // when all have returned. count < 2^32.
  template <typename Body>
  void Run(int64_t count, const Body& body) {
    if (count <= 1 || workers_.empty()) {
      for (int64_t task = 0; task < count; ++task) body(task, 0);
      return;
    }
    RunShared(count, {&Call<Body>, &body});
  }

  // Calls body(begin, end) on contiguous parts that make up [0, count), none much smaller than
  // `grain`: less work than that is not worth waking a thread for.
  template <typename Body>
  void Ranges(int64_t count, int64_t grain, const Body& body) {
    const int64_t wanted = threads() == 1 ? 1 : kPartsPerThread * threads();
    const int64_t parts = std::min(wanted, count / std::max<int64_t>(grain, 1));
    if (parts <= 1) {
      if (count > 0) body(int64_t{0}, count);
      return;
    }
    Run(parts,
        [&](int64_t part, int32_t) { body(count * part / parts, count * (part + 1) / parts); });
  }

 private:
  static constexpr int64_t kPartsPerThread = 2;

  struct Job {
    void (*call)(const void* body, int64_t task, int32_t thread);
    const void* body;
  };

  template <typename Body>
  static void Call(const void* body, int64_t task, int32_t thread) {
    (*static_cast<const Body*>(body))(task, thread);
  }

  void RunShared(int64_t count, Job job);
  bool TakeTask(int32_t thread);
  void Work(int32_t thread);

  // Valid while tasks are left or running: read only by who has taken a task.
  Job job_ = {};
  // Upper half: number of the job; lower half: tasks not yet taken. One word, so that a thread that
  // comes late can never take a task of another job than it has seen.
  alignas(64) std::atomic<uint64_t> tasks_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

// Elements of elementwise work that are worth a thread of their own.
constexpr int64_t kElementGrain = 16384;

}  // namespace sluice
