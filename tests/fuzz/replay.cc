// Runs a fuzz target once on every input of a corpus, without a fuzzer: what a build with any
// compiler can do.
//
//   fuzz_TARGET FILE-OR-FOLDER...
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// libFuzzer's, for targets with a mutator of their own, which is not called here.
extern "C" size_t LLVMFuzzerMutate(uint8_t* /*data*/, size_t size, size_t /*max_size*/) {
  return size;
}

namespace {

// Sorted, so that every file system gives the same run.
std::vector<std::filesystem::path> Files(const std::vector<std::filesystem::path>& arguments) {
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::path& argument : arguments) {
    if (!std::filesystem::is_directory(argument)) {
      files.push_back(argument);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argument)) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// False when the file cannot be read.
bool Run(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  // A heap block of the exact size, so that AddressSanitizer sees a read beyond it.
  const std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(file)), {});
  std::printf("%s, %zu bytes\n", path.c_str(), bytes.size());
  std::fflush(stdout);  // the last line names the input that ends the process
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::filesystem::path> files = Files({argv + 1, argv + argc});
  if (files.empty()) {
    std::fprintf(stderr, "usage: %s FILE-OR-FOLDER...; there is no input\n", argv[0]);
    return 2;
  }
  LLVMFuzzerTestOneInput(nullptr, 0);
  for (const std::filesystem::path& path : files) {
    if (Run(path)) continue;
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    return 2;
  }
  return 0;
}
