#include "server/standard_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <string>
#include <string_view>

namespace sluice {
namespace {

// Whether there is nothing at this number that whoever started the process can have put there: it
// is closed, or was taken by what is made inside a process alone (an eventfd, an epoll set).
bool IsMissing(int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  std::array<char, PATH_MAX> target;
  const ssize_t size = readlink(link.c_str(), target.data(), target.size());
  if (size < 0) return fcntl(descriptor, F_GETFD) < 0;
  return std::string_view(target.data(), static_cast<size_t>(size)).starts_with("anon_inode:");
}

}  // namespace

void OpenStandardDescriptors(char** argv) {
  bool missing = false;
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (!IsMissing(descriptor)) continue;
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    // Without /dev/null there is nothing to be done about it.
    if (null < 0) return;
    if (null == descriptor) {
      fcntl(null, F_SETFD, 0);
    } else {
      dup2(null, descriptor);
      close(null);
    }
    missing = true;
  }
  if (missing) execv("/proc/self/exe", argv);
}

}  // namespace sluice
