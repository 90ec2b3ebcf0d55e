// The tensors of a Hugging Face model directory: model.safetensors, or the shards that
// model.safetensors.index.json names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/safetensors.h"

namespace sluice {

// Not thread-safe.
class Checkpoint {
 public:
  // NotFound when the directory, both of the files above, or a shard is missing. InvalidArgument
  // when a file is malformed (see ParseSafetensors), a shard is named by a path instead of a plain
  // name, or the index and the shards disagree on where a tensor is.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::filesystem::path& directory);

  // NotFound when there is no such tensor; InvalidArgument when its shape is another one (the
  // message has both) or its type is none that kernels read. Counts as having been read.
  absl::StatusOr<TensorView> Find(std::string_view name, absl::Span<const int64_t> shape) const;

  // Whether there is such a tensor, of whatever type. Does not count as having been read.
  bool Has(std::string_view name) const;

  // Names of the tensors that can be read, in order; those of other types (integers) are left out.
  std::vector<std::string> names() const;

  // Bytes of the tensors that can be read.
  int64_t total_bytes() const { return total_bytes_; }

  // Fills `out` with the bytes of the tensor that Find gave for `name`, from its byte `begin` on.
  // The errors of SafetensorsFile::Read.
  absl::Status Read(std::string_view name, int64_t begin, absl::Span<std::byte> out) const;

  // FailedPrecondition, with its name, if a file was written to since it was opened.
  absl::Status CheckUnchanged() const;

  // The part of names() that Find was never asked for. A loader refuses such a checkpoint: the
  // model that it holds is not the one that was read.
  std::vector<std::string> Unread() const;

 private:
  struct Place {
    const SafetensorsFile* file;  // in files_
    const TensorView* view;       // in the file
  };

  explicit Checkpoint(std::filesystem::path directory) : directory_(std::move(directory)) {}

  absl::Status AddFile(const std::string& file_name);
  absl::Status AddShards(const std::string& index_text, const std::string& source);
  absl::Status CheckShard(const std::string& shard,
                          const std::map<std::string, std::string>& weight_map,
                          const SafetensorsFile& file) const;

  std::filesystem::path directory_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unsupported_;  // name to type
  int64_t total_bytes_ = 0;
  mutable std::set<std::string, std::less<>> read_;
};

}  // namespace sluice
