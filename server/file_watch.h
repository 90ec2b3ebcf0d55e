// Tells when a file is not what it was: written anew, replaced, or reached over another symbolic
// link, as Kubernetes exchanges what a Secret's mount holds.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace sluice {

// Looks at the files rather than being told of changes, which not every file system does.
class FileWatch {
 public:
  // Looks every `interval`, on a thread of its own, and calls `on_change` there once for each look
  // at which any of `paths` differs from the look before; the first look is made here. So what is
  // read after this was constructed is either what the files hold, or a change is told.
  FileWatch(std::vector<std::string> paths, absl::Duration interval,
            std::function<void()> on_change);
  // Waits for a call of `on_change` that is under way.
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

 private:
  // What tells one state of a file from another; all zero if it cannot be looked at.
  struct Look {
    dev_t device = 0;
    ino_t inode = 0;
    off_t bytes = 0;
    int64_t modified_ns = 0;
    int64_t changed_ns = 0;  // also when the time of modification was set back

    bool operator==(const Look&) const = default;
  };

  std::vector<Look> LookAtAll() const;
  void Run(absl::Duration interval);

  const std::vector<std::string> paths_;
  const std::function<void()> on_change_;
  std::vector<Look> last_;  // of the thread, once it runs
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // last: it uses the rest
};

}  // namespace sluice
