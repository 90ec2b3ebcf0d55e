#include "tests/server/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "kernels/check.h"

namespace sluice {

ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  int ends[2];
  SLUICE_CHECK(pipe2(ends, O_CLOEXEC) == 0);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  SLUICE_CHECK(posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  pipe_ = ends[0];
  reader_ = std::thread([this] { Read(); });
}

ChildProcess::~ChildProcess() {
  if (!waited_) {
    Signal(SIGKILL);
    Wait();
  }
  reader_.join();
  close(pipe_);
}

void ChildProcess::Read() {
  std::array<char, 4096> buffer{};
  ssize_t count = 0;
  while ((count = read(pipe_, buffer.data(), buffer.size())) > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    output_.append(buffer.data(), static_cast<size_t>(count));
    changed_.notify_all();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

std::string ChildProcess::WaitForLine(const std::string& text, absl::Duration limit) {
  std::unique_lock<std::mutex> lock(mutex_);
  size_t at = std::string::npos;
  const auto found = [&] {
    at = output_.find(text);
    return closed_ || (at != std::string::npos && output_.find('\n', at) != std::string::npos);
  };
  changed_.wait_for(lock, absl::ToChronoMilliseconds(limit), found);
  if (at == std::string::npos) return "";
  const size_t begin = output_.rfind('\n', at) + 1;  // npos + 1 is 0
  return output_.substr(begin, output_.find('\n', at) - begin);
}

std::string ChildProcess::output() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return output_;
}

void ChildProcess::Signal(int signal) const { kill(pid_, signal); }

int ChildProcess::Wait() {
  if (waited_) return code_;
  int status = 0;
  SLUICE_CHECK(waitpid(pid_, &status, 0) == pid_);
  waited_ = true;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return closed_; });
  return code_;
}

int64_t ChildProcess::ResidentBytes() const {
  std::ifstream statm("/proc/" + std::to_string(pid_) + "/statm");
  int64_t size = 0;
  int64_t resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace sluice
