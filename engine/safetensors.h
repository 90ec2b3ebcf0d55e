// Reading one safetensors file: an 8-byte little-endian header length, a JSON header that maps
// names to {dtype, shape, data_offsets}, then the data of all tensors without a gap.
//
// Source: the format section of the README of https://github.com/huggingface/safetensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace sluice {

// One tensor, row-major, inside the memory of its file. The format does not promise that `data` is
// aligned to the size of its elements.
struct TensorView {
  DType dtype;
  std::vector<int64_t> shape;  // at most 8 dimensions; none for a scalar
  const std::byte* data;
  int64_t bytes;  // elements() * DTypeBytes(dtype)

  int64_t elements() const;
};

// A shape as it is printed in messages: "[2, 3]".
std::string ShapeText(absl::Span<const int64_t> shape);

struct SafetensorsIndex {
  std::map<std::string, TensorView> tensors;
  // Tensors of a type that no kernel reads (integers, float8, float64): name to type, as "I64".
  std::map<std::string, std::string> unsupported;
};

// Reads the header and checks it against the size of the file. `source` names the file in messages.
// The views point into `file`, of which nothing but the header is touched.
//
// InvalidArgument, with the tensor and the numbers: a file that ends before its header does; a
// header above 100,000,000 bytes; a header that is not JSON or has a name twice; a type that the
// format does not have; a shape of more than 8 dimensions, with a negative dimension or more bytes
// than an int64 counts; offsets that run backwards, beyond the file, over another tensor or leave a
// gap; a tensor whose offsets span more or fewer bytes than its shape has.
absl::StatusOr<SafetensorsIndex> ParseSafetensors(absl::Span<const std::byte> file,
                                                  const std::string& source = "safetensors");

// A file mapped into memory, read-only. Const methods are safe from several threads. The file must
// not be shortened while it is mapped: reading past its end ends the process.
class SafetensorsFile {
 public:
  // NotFound when there is no such file, else the errors of ParseSafetensors.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::filesystem::path& path);

  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  // The views live as long as the file.
  const std::map<std::string, TensorView>& tensors() const { return index_.tensors; }
  const std::map<std::string, std::string>& unsupported() const { return index_.unsupported; }

  // Whether the tensor is one of this file's.
  bool Contains(const TensorView& tensor) const;

  // Lets the kernel take back the pages of a tensor of this file, so that a loader's memory stays
  // low. Reading the tensor again is allowed and reads the file again.
  void Release(const TensorView& tensor) const;

 private:
  explicit SafetensorsFile(absl::Span<const std::byte> mapping) : mapping_(mapping) {}

  absl::Span<const std::byte> mapping_;  // owned
  SafetensorsIndex index_;
};

}  // namespace sluice
