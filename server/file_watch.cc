#include "server/file_watch.h"

#include <sys/stat.h>

#include <chrono>
#include <utility>

namespace sluice {
namespace {

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

FileWatch::FileWatch(std::vector<std::string> paths, absl::Duration interval,
                     std::function<void()> on_change)
    : paths_(std::move(paths)),
      on_change_(std::move(on_change)),
      last_(LookAtAll()),
      thread_([this, interval] { Run(interval); }) {}

FileWatch::~FileWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

std::vector<FileWatch::Look> FileWatch::LookAtAll() const {
  std::vector<Look> looks;
  looks.reserve(paths_.size());
  for (const std::string& path : paths_) {
    struct stat found = {};  // of what the path leads to, over any links
    Look look;
    if (stat(path.c_str(), &found) == 0) {
      look = {found.st_dev, found.st_ino, found.st_size, Nanoseconds(found.st_mtim),
              Nanoseconds(found.st_ctim)};
    }
    looks.push_back(look);
  }
  return looks;
}

void FileWatch::Run(absl::Duration interval) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (
      !stopped_.wait_for(lock, absl::ToChronoNanoseconds(interval), [this] { return stopping_; })) {
    lock.unlock();
    std::vector<Look> looks = LookAtAll();
    if (looks != last_) {
      last_ = std::move(looks);
      on_change_();
    }
    lock.lock();
  }
}

}  // namespace sluice
