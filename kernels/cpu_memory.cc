#include "kernels/cpu_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace sluice {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// The number after `key` in a file of lines "key number", or `missing`.
int64_t NumberAfter(const std::string& path, const std::string& key, int64_t missing) {
  std::ifstream file(path);
  std::string word;
  int64_t number = 0;
  while (file >> word) {
    if (word == key && file >> number) return number;
  }
  return missing;
}

// The number that a file holds; the word "max" is no number.
int64_t NumberIn(const std::string& path, int64_t missing) {
  std::ifstream file(path);
  int64_t number = 0;
  return file >> number ? number : missing;
}

int64_t LeftInGroup(const std::string& directory) {
  const int64_t limit = NumberIn(directory + "/memory.max", kUnlimited);
  if (limit == kUnlimited) return kUnlimited;
  const int64_t used = NumberIn(directory + "/memory.current", 0);
  const int64_t reclaimable = NumberAfter(directory + "/memory.stat", "inactive_file", 0);
  return std::max<int64_t>(limit - used + reclaimable, 0);
}

// Of this process's group and all groups around it: a limit binds everything below it.
int64_t LeftInGroups() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line) && line.rfind("0::/", 0) != 0) {
  }
  std::string group = line.rfind("0::/", 0) == 0 ? line.substr(3) : "/";
  int64_t left = kUnlimited;
  while (!group.empty()) {
    left = std::min(left, LeftInGroup("/sys/fs/cgroup" + group));
    group.resize(group.rfind('/'));
  }
  return std::min(left, LeftInGroup("/sys/fs/cgroup"));
}

// Of what `ulimit -v` allows this process.
int64_t LeftInAddressSpace() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnlimited;
  const int64_t used_kb = NumberAfter("/proc/self/status", "VmSize:", 0);
  return std::max<int64_t>(static_cast<int64_t>(limit.rlim_cur) - used_kb * 1024, 0);
}

}  // namespace

int64_t AvailableMemoryBytes() {
  const int64_t available_kb = NumberAfter("/proc/meminfo", "MemAvailable:", 0);
  return std::min({available_kb * 1024, LeftInGroups(), LeftInAddressSpace()});
}

}  // namespace sluice
