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
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace sluice {

// One tensor, row-major: where it lies in its file.
struct TensorView {
  DType dtype;
  std::vector<int64_t> shape;  // at most 8 dimensions; none for a scalar
  int64_t offset;              // of its first byte, from the file's
  int64_t bytes;               // elements() * DTypeBytes(dtype)

  int64_t elements() const;
};

// A shape as it is printed in messages: "[2, 3]".
std::string ShapeText(absl::Span<const int64_t> shape);

struct SafetensorsIndex {
  std::map<std::string, TensorView> tensors;
  // Tensors of a type that no kernel reads (integers, float8, float64): name to type, as "I64".
  std::map<std::string, std::string> unsupported;
};

// Reads the header and checks it against the size of the file. `start` is the file's beginning with
// the whole header, unless the file ends before; `source` names the file in messages.
//
// InvalidArgument, with the tensor and the numbers: a file that ends before its header does; a
// header above 100,000,000 bytes; a header that is not JSON or has a name twice; a type that the
// format does not have; a shape of more than 8 dimensions, with a negative dimension or more bytes
// than an int64 counts; offsets that run backwards, beyond the file, over another tensor or leave a
// gap; a tensor whose offsets span more or fewer bytes than its shape has.
absl::StatusOr<SafetensorsIndex> ParseSafetensors(absl::Span<const std::byte> start,
                                                  int64_t file_bytes,
                                                  const std::string& source = "safetensors");

// A file that is kept open, read-only. Const methods are safe from several threads. It is read, not
// mapped: if it is shortened or its disk fails, that is an error here and not the end of the
// process.
class SafetensorsFile {
 public:
  // NotFound when there is no such file, else the errors of ParseSafetensors.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::filesystem::path& path);

  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, TensorView>& tensors() const { return index_.tensors; }
  const std::map<std::string, std::string>& unsupported() const { return index_.unsupported; }

  // Fills `out` with the bytes of a tensor of this file from its byte `begin` on. DataLoss if the
  // file ends before; the system's error if it cannot be read.
  absl::Status Read(const TensorView& tensor, int64_t begin, absl::Span<std::byte> out) const;

  // FailedPrecondition if the file was written to since it was opened: what was read may be a mix
  // of two files.
  absl::Status CheckUnchanged() const;

 private:
  SafetensorsFile(int descriptor, std::string path)
      : descriptor_(descriptor), path_(std::move(path)) {}

  absl::Status ReadAt(int64_t offset, absl::Span<std::byte> out) const;
  absl::Status ReadIndex();

  int descriptor_;
  std::string path_;
  int64_t file_bytes_ = 0;  // when it was opened
  absl::Time changed_;      // likewise: its last change before
  SafetensorsIndex index_;
};

}  // namespace sluice
