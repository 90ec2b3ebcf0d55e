#include "kernels/thread_pool.h"

#include "hwy/cache_control.h"
#include "kernels/check.h"

namespace sluice {
namespace {

// Long enough for the gap between two ops, short enough to cost others nothing: some 50 us.
constexpr int kSpins = 2000;

constexpr uint64_t kLeftMask = 0xFFFFFFFF;

// Waits for `word` to be other than `seen`.
template <typename T>
void AwaitChange(const std::atomic<T>& word, T seen) {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_relaxed) != seen) return;
    hwy::Pause();
  }
  word.wait(seen, std::memory_order_relaxed);
}

}  // namespace

ThreadPool::ThreadPool(int32_t threads) {
  SLUICE_CHECK(threads >= 1);
  for (int32_t thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { Work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  tasks_ += kLeftMask + 1;
  tasks_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunShared(int64_t count, Job job) {
  SLUICE_CHECK(count > 0 && count <= static_cast<int64_t>(kLeftMask));
  job_ = job;
  unfinished_.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
  const uint64_t number = (tasks_.load(std::memory_order_relaxed) & ~kLeftMask) + kLeftMask + 1;
  tasks_.store(number | static_cast<uint64_t>(count), std::memory_order_release);
  tasks_.notify_all();
  while (TakeTask(0)) {
  }
  uint32_t unfinished = unfinished_.load(std::memory_order_acquire);
  while (unfinished > 0) {
    AwaitChange(unfinished_, unfinished);
    unfinished = unfinished_.load(std::memory_order_acquire);
  }
}

// False if none is left.
bool ThreadPool::TakeTask(int32_t thread) {
  uint64_t tasks = tasks_.load(std::memory_order_relaxed);
  do {
    if ((tasks & kLeftMask) == 0) return false;
  } while (!tasks_.compare_exchange_weak(tasks, tasks - 1, std::memory_order_acquire,
                                         std::memory_order_relaxed));
  const Job job = job_;
  job.call(job.body, static_cast<int64_t>((tasks & kLeftMask) - 1), thread);
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void ThreadPool::Work(int32_t thread) {
  while (true) {
    const uint64_t seen = tasks_.load(std::memory_order_acquire);
    if (stopping_) return;
    if (TakeTask(thread)) continue;
    AwaitChange(tasks_, seen);
  }
}

}  // namespace sluice
