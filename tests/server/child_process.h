// A program run as a child, with its standard error read as it is written.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace sluice {

// Killed when destroyed, unless it has ended.
class ChildProcess {
 public:
  explicit ChildProcess(const std::vector<std::string>& command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The first line of standard error or output that holds `text`, waited for; empty if none comes.
  std::string WaitForLine(const std::string& text, absl::Duration limit = absl::Seconds(120));

  // What it has written so far.
  std::string output() const;

  void Signal(int signal) const;

  // The exit code, waited for; 128 + N if signal N ended it.
  int Wait();

  // Resident memory.
  int64_t ResidentBytes() const;

 private:
  void Read();

  pid_t pid_ = -1;
  int pipe_ = -1;
  bool waited_ = false;
  int code_ = -1;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string output_;   // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
  std::thread reader_;
};

}  // namespace sluice
