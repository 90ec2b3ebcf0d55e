// Runs a fuzz target without a fuzzer: every seed as it is, then mutations of seeds drawn with a
// fixed random seed, so that a run is bounded and repeatable under any compiler. The same targets
// link with libFuzzer where clang is at hand.
//
//   <target> RUNS [SEED FILE OR DIRECTORY ...]
//
// A crash or a sanitizer's report ends the process; the input that did it is then in the file that
// the first line of output names.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// There in a build with a sanitizer, null in others.
// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizers' name.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace sluice {
namespace {

constexpr size_t kMaxInputBytes = 1 << 20;

// What breaks parsers more often than random bytes do.
const std::array<std::string, 18> kTokens = {"0",
                                             "-1",
                                             "1e999",
                                             "9223372036854775807",
                                             "9223372036854775808",
                                             "18446744073709551615",
                                             "{}",
                                             "[]",
                                             "null",
                                             "\"\"",
                                             "4294967296",
                                             "0.5",
                                             ",",
                                             "[[[[[",
                                             "\\u0000",
                                             "\xff",
                                             std::string(8, '\xff'),
                                             std::string(8, '\0')};

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  std::string Next() {
    std::string input = seeds_[Below(seeds_.size())];
    const size_t changes = 1 + Below(8);
    for (size_t i = 0; i < changes; ++i) Change(input);
    input.resize(std::min(input.size(), kMaxInputBytes));
    return input;
  }

 private:
  // Uniform enough, and unlike the library's distributions the same everywhere.
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void Change(std::string& input) {
    const size_t at = Below(input.size() + 1);
    const size_t length = std::min(1 + Below(16), input.size() - at);
    switch (Below(7)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(8)));
        break;
      case 1:
        input.insert(at, 1, static_cast<char>(Below(256)));
        break;
      case 2:
        input.erase(at, length);
        break;
      case 3:
        input.insert(Below(input.size() + 1), input.substr(at, length));
        break;
      case 4:
        input.replace(at, length, kTokens[Below(kTokens.size())]);
        break;
      case 5:
        ReplaceNumber(input, at);
        break;
      default:
        Splice(input, at);
    }
  }

  // Puts another number in the place of the first one from `at` on.
  void ReplaceNumber(std::string& input, size_t at) {
    const char* digits = "-0123456789";
    const size_t begin = input.find_first_of(digits, at);
    if (begin == std::string::npos) return;
    const size_t end = input.find_first_not_of(digits, begin);
    const size_t length = (end == std::string::npos ? input.size() : end) - begin;
    const bool small = Below(2) == 0;
    input.replace(begin, length, small ? std::to_string(Below(600)) : kTokens[Below(6)]);
  }

  // Goes on with the end of some seed.
  void Splice(std::string& input, size_t at) {
    const std::string& other = seeds_[Below(seeds_.size())];
    input.resize(at);
    input += other.substr(Below(other.size() + 1));
  }

  std::vector<std::string> seeds_;
  std::mt19937 random_{20251122};
};

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Sorted, so that every file system gives the same run.
std::vector<std::string> ReadSeeds(const std::vector<std::string>& arguments) {
  std::vector<std::filesystem::path> paths;
  for (const std::string& argument : arguments) {
    if (!std::filesystem::is_directory(argument)) {
      paths.emplace_back(argument);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argument)) {
      paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> seeds;
  seeds.reserve(paths.size());
  for (const std::filesystem::path& path : paths) seeds.push_back(ReadFile(path));
  return seeds;
}

// The input that is being run, for the handlers below, which may call nothing that allocates.
const uint8_t* running_data = nullptr;
size_t running_bytes = 0;
std::string crash_file;

void SaveInput() {
  const int fd = open(crash_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  const ssize_t written = write(fd, running_data, running_bytes);
  close(fd);
  if (written != static_cast<ssize_t>(running_bytes)) unlink(crash_file.c_str());
}

// The signal is raised again with its default action, so that the exit status tells of it.
void OnSignal(int number) {
  SaveInput();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void SaveInputOfACrash() {
  crash_file = std::filesystem::temp_directory_path() / ("sluice_fuzz_" + std::to_string(getpid()));
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(SaveInput);
  std::signal(SIGABRT, OnSignal);
  // A sanitizer handles this one and then calls back.
  if (__sanitizer_set_death_callback == nullptr) std::signal(SIGSEGV, OnSignal);
}

void RunOne(const std::string& input) {
  // A heap block of the exact size, so that AddressSanitizer sees a read beyond it.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  running_data = bytes.data();
  running_bytes = bytes.size();
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

int Run(int64_t runs, const std::vector<std::string>& arguments) {
  std::vector<std::string> seeds = ReadSeeds(arguments);
  for (const std::string& seed : seeds) {
    if (!seed.empty()) continue;
    std::fprintf(stderr, "a seed file is missing or empty\n");
    return 2;
  }
  seeds.emplace_back();  // the empty input
  SaveInputOfACrash();
  std::printf("%zu seeds, %lld mutations; an input that crashes is saved as %s\n", seeds.size(),
              static_cast<long long>(runs), crash_file.c_str());
  std::fflush(stdout);
  for (const std::string& seed : seeds) RunOne(seed);
  Mutator mutator(seeds);
  for (int64_t i = 0; i < runs; ++i) RunOne(mutator.Next());
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s RUNS [SEED FILE OR DIRECTORY ...]\n", argv[0]);
    return 2;
  }
  return sluice::Run(std::strtoll(argv[1], nullptr, 10), {argv + 2, argv + argc});
}
