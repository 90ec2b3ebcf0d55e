// Writes the files of model directories, whole or broken on purpose, for tests.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/check.h"

namespace sluice {

// A directory of its own for one test, removed with all that is in it.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = std::filesystem::temp_directory_path() / "sluice_test_XXXXXX";
    SLUICE_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~ScratchDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Writes a file of the given bytes and gives its path.
  std::filesystem::path Write(const std::string& name, const std::string& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    SLUICE_CHECK(file.good());
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

struct WrittenTensor {
  std::string name;
  std::string dtype;  // as in the file: "F32", "BF16", "I64"
  std::vector<int64_t> shape;
  std::string bytes;
};

inline WrittenTensor Float32Tensor(const std::string& name, const std::vector<int64_t>& shape,
                                   const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return {name, "F32", shape, bytes};
}

// A file of any header and data, right or wrong.
inline std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i));
  return file + header + data;
}

// A well-formed file of the tensors in their order.
inline std::string SafetensorsBytes(const std::vector<WrittenTensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::string data;
  for (const WrittenTensor& tensor : tensors) {
    const size_t begin = data.size();
    data += tensor.bytes;
    absl::StrAppend(&header, ",\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", begin, ",",
                    data.size(), "]}");
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  return SafetensorsBytes(header, data);
}

}  // namespace sluice
