#include "engine/checkpoint.h"

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = 64 << 20;
constexpr JsonLimits kIndexLimits = {.depth = 8, .values = 1'000'000};
constexpr size_t kMaxShards = 1024;

// A name that cannot leave the directory.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name.find("..") == std::string::npos &&
         name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const std::string& text,
                                                                 const std::string& source) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(text, source, kIndexLimits));
  const auto found = index.is_object() ? index.find("weight_map") : index.end();
  if (found == index.end() || !found->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, " has no object weight_map"));
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [name, shard] : found->items()) {
    if (!shard.is_string() || !IsPlainFileName(shard.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": the shard of tensor ", Quoted(name), " is ",
          shard.is_string() ? Quoted(shard.get_ref<const std::string&>()) : shard.type_name(),
          "; it must be the plain name of a file in the same directory"));
    }
    weight_map.emplace(name, shard.get<std::string>());
  }
  return weight_map;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    const std::filesystem::path& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    return absl::NotFoundError(
        absl::StrCat("there is no model directory ", Quoted(directory.string())));
  }
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(directory));
  if (std::filesystem::exists(directory / kSingleFile, error)) {
    SLUICE_RETURN_IF_ERROR(checkpoint->AddFile(std::string(kSingleFile)));
    return checkpoint;
  }
  const std::filesystem::path index = directory / kIndexFile;
  if (!std::filesystem::exists(index, error)) {
    return absl::NotFoundError(absl::StrCat(directory.string(), " has neither ",
                                            std::string(kSingleFile), " nor ",
                                            std::string(kIndexFile)));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(index, kMaxIndexBytes));
  SLUICE_RETURN_IF_ERROR(checkpoint->AddShards(text, index.string()));
  return checkpoint;
}

absl::Status Checkpoint::AddShards(const std::string& index_text, const std::string& source) {
  SLUICE_ASSIGN_OR_RETURN(const auto weight_map, ReadWeightMap(index_text, source));
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map) shards.insert(shard);
  if (shards.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " names ", shards.size(), " shards; the limit is ", kMaxShards));
  }
  for (const std::string& shard : shards) {
    std::error_code error;
    if (!std::filesystem::exists(directory_ / shard, error)) {
      return absl::NotFoundError(
          absl::StrCat(source, " names the shard ", Quoted(shard), ", which is not there"));
    }
    SLUICE_RETURN_IF_ERROR(AddFile(shard));
    SLUICE_RETURN_IF_ERROR(CheckShard(shard, weight_map, *files_.at(shard)));
  }
  for (const auto& [name, shard] : weight_map) {
    if (Has(name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(source, " places tensor ", Quoted(name), " in ",
                                                   Quoted(shard), ", which does not have it"));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckShard(const std::string& shard,
                                    const std::map<std::string, std::string>& weight_map,
                                    const SafetensorsFile& file) const {
  const auto check = [&](const std::string& name) {
    const auto found = weight_map.find(name);
    if (found != weight_map.end() && found->second == shard) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        (directory_ / shard).string(), " has tensor ", Quoted(name), ", which the index ",
        found == weight_map.end() ? "does not name" : "places in " + found->second));
  };
  for (const auto& [name, view] : file.tensors()) SLUICE_RETURN_IF_ERROR(check(name));
  for (const auto& [name, type] : file.unsupported()) SLUICE_RETURN_IF_ERROR(check(name));
  return absl::OkStatus();
}

absl::Status Checkpoint::AddFile(const std::string& file_name) {
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file,
                          SafetensorsFile::Open(directory_ / file_name));
  for (const auto& [name, view] : file->tensors()) {
    tensors_.emplace(name, Place{file.get(), &view});
    total_bytes_ += view.bytes;
  }
  unsupported_.insert(file->unsupported().begin(), file->unsupported().end());
  files_.emplace(file_name, std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<TensorView> Checkpoint::Find(std::string_view name,
                                            absl::Span<const int64_t> shape) const {
  const auto other = unsupported_.find(name);
  if (other != unsupported_.end()) {
    return absl::InvalidArgumentError(absl::StrCat(directory_.string(), ": tensor ", Quoted(name),
                                                   " has dtype ", other->second,
                                                   "; F32, F16 and BF16 can be read"));
  }
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(directory_.string(), " has no tensor ", Quoted(name),
                                            " of shape ", ShapeText(shape)));
  }
  const TensorView& view = *found->second.view;
  if (absl::MakeConstSpan(view.shape) != shape) {
    return absl::InvalidArgumentError(absl::StrCat(directory_.string(), ": tensor ", Quoted(name),
                                                   " has shape ", ShapeText(view.shape),
                                                   "; the config asks for ", ShapeText(shape)));
  }
  read_.emplace(name);
  return view;
}

bool Checkpoint::Has(std::string_view name) const {
  return tensors_.contains(name) || unsupported_.contains(name);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, place] : tensors_) names.push_back(name);
  return names;
}

absl::Status Checkpoint::Read(std::string_view name, int64_t begin,
                              absl::Span<std::byte> out) const {
  const auto found = tensors_.find(name);
  SLUICE_CHECK(found != tensors_.end());
  return found->second.file->Read(*found->second.view, begin, out);
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const auto& [name, file] : files_) SLUICE_RETURN_IF_ERROR(file->CheckUnchanged());
  return absl::OkStatus();
}

std::vector<std::string> Checkpoint::Unread() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : tensors_) {
    if (!read_.contains(name)) names.push_back(name);
  }
  return names;
}

}  // namespace sluice
