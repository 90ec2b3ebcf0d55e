#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 8;
// A tensor is about ten values, so this is a hundred thousand tensors.
constexpr JsonLimits kHeaderLimits = {.depth = 4, .values = 1'000'000};

struct FileDType {
  const char* name;
  int64_t bytes;
  std::optional<DType> dtype;  // none when no kernel reads it
};

constexpr std::array<FileDType, 18> kFileDTypes = {{
    {"F32", 4, DType::kFloat32},
    {"F16", 2, DType::kFloat16},
    {"BF16", 2, DType::kBFloat16},
    {"F64", 8, std::nullopt},
    {"F8_E5M2", 1, std::nullopt},
    {"F8_E4M3", 1, std::nullopt},
    {"F8_E8M0", 1, std::nullopt},
    {"F8_E4M3FNUZ", 1, std::nullopt},
    {"F8_E5M2FNUZ", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},
    {"U8", 1, std::nullopt},
    {"I8", 1, std::nullopt},
    {"U16", 2, std::nullopt},
    {"I16", 2, std::nullopt},
    {"U32", 4, std::nullopt},
    {"I32", 4, std::nullopt},
    {"U64", 8, std::nullopt},
    {"I64", 8, std::nullopt},
}};

struct Entry {
  std::string name;
  const FileDType* dtype;
  std::vector<int64_t> shape;
  int64_t begin;  // from the first byte after the header
  int64_t end;
};

// Where in which file a complaint is about.
struct Place {
  const std::string& source;
  const std::string& tensor;

  template <typename... Parts>
  absl::Status Refuse(const Parts&... parts) const {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": tensor ", Quoted(tensor), " ", parts...));
  }
};

// The list of whole numbers from 0 under `key`.
absl::StatusOr<std::vector<int64_t>> ReadCounts(const nlohmann::json& tensor, const char* key,
                                                size_t max_size, const Place& place) {
  const auto found = tensor.find(key);
  if (found == tensor.end() || !found->is_array()) return place.Refuse("has no list ", key);
  if (found->size() > max_size) {
    return place.Refuse("has ", found->size(), " numbers in ", key, "; the limit is ", max_size);
  }
  std::vector<int64_t> counts;
  for (const nlohmann::json& value : *found) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{INT64_MAX}) {
      return place.Refuse("has ", value.is_number() ? value.dump() : value.type_name(), " in ", key,
                          "; it must be a whole number from 0 to ", INT64_MAX);
    }
    counts.push_back(value.get<int64_t>());
  }
  return counts;
}

absl::StatusOr<const FileDType*> ReadDType(const nlohmann::json& tensor, const Place& place) {
  const auto found = tensor.find("dtype");
  if (found == tensor.end() || !found->is_string()) return place.Refuse("has no dtype");
  const auto& name = found->get_ref<const std::string&>();
  const auto* known = std::find_if(kFileDTypes.begin(), kFileDTypes.end(),
                                   [&](const FileDType& dtype) { return name == dtype.name; });
  if (known == kFileDTypes.end()) return place.Refuse("has the unknown dtype ", Quoted(name));
  return known;
}

// The bytes of a shape; none when an int64 cannot count them.
std::optional<int64_t> ShapeBytes(absl::Span<const int64_t> shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  for (int64_t dimension : shape) {
    if (__builtin_mul_overflow(bytes, dimension, &bytes)) return std::nullopt;
  }
  return bytes;
}

absl::StatusOr<Entry> ReadEntry(const nlohmann::json& tensor, int64_t data_bytes,
                                const Place& place) {
  if (!tensor.is_object()) return place.Refuse("is described by no object");
  for (const auto& [key, value] : tensor.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return place.Refuse("has the unknown key ", Quoted(key));
    }
  }
  Entry entry;
  entry.name = place.tensor;
  SLUICE_ASSIGN_OR_RETURN(entry.dtype, ReadDType(tensor, place));
  SLUICE_ASSIGN_OR_RETURN(entry.shape, ReadCounts(tensor, "shape", kMaxDimensions, place));
  SLUICE_ASSIGN_OR_RETURN(const std::vector<int64_t> offsets,
                          ReadCounts(tensor, "data_offsets", 2, place));
  if (offsets.size() != 2) return place.Refuse("has ", offsets.size(), " data_offsets, not 2");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  if (entry.begin > entry.end) {
    return place.Refuse("begins at byte ", entry.begin, " and ends before it, at ", entry.end);
  }
  if (entry.end > data_bytes) {
    return place.Refuse("ends at byte ", entry.end, " of the data; the file has ", data_bytes);
  }
  const std::optional<int64_t> bytes = ShapeBytes(entry.shape, entry.dtype->bytes);
  if (!bytes.has_value()) {
    return place.Refuse("of shape ", ShapeText(entry.shape), " has more bytes than ", INT64_MAX);
  }
  if (*bytes != entry.end - entry.begin) {
    return place.Refuse("of shape ", ShapeText(entry.shape), " and dtype ", entry.dtype->name,
                        " has ", *bytes, " bytes; its data_offsets span ", entry.end - entry.begin);
  }
  return entry;
}

// Tensors sorted by offset must follow one another and fill the data.
absl::Status CheckLayout(const std::vector<Entry>& entries, int64_t data_bytes,
                         const std::string& source) {
  int64_t position = 0;
  for (const Entry& entry : entries) {
    const Place place = {source, entry.name};
    if (entry.begin < position) {
      return place.Refuse("begins at byte ", entry.begin,
                          " of the data and overlaps the tensor before it, which ends at ",
                          position);
    }
    if (entry.begin > position) {
      return place.Refuse(
          "begins at byte ", entry.begin,
          " of the data and leaves a gap after the tensor before it, which ends at ", position);
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": the tensors have ", position,
                                                   " bytes; the file has ", data_bytes,
                                                   " bytes of data"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ReadHeaderBytes(absl::Span<const std::byte> file, int64_t file_bytes,
                                        const std::string& source) {
  if (file_bytes < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, " has ", file_bytes, " bytes; its header length alone takes ", kLengthBytes));
  }
  uint64_t header_bytes = 0;
  for (int i = 0; i < kLengthBytes; ++i) {
    header_bytes |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  }
  if (header_bytes > uint64_t{kMaxHeaderBytes}) {
    return absl::InvalidArgumentError(absl::StrCat(source, " has a header length of ", header_bytes,
                                                   " bytes; the limit is ", kMaxHeaderBytes));
  }
  if (header_bytes > static_cast<uint64_t>(file_bytes - kLengthBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(source, " has a header length of ", header_bytes,
                                                   " bytes; the file has ",
                                                   file_bytes - kLengthBytes, " bytes after it"));
  }
  return static_cast<int64_t>(header_bytes);
}

absl::StatusOr<std::vector<Entry>> ReadEntries(std::string_view header, int64_t data_bytes,
                                               const std::string& source) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json json,
                          ParseJson(header, absl::StrCat(source, ": the header"), kHeaderLimits));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": the header is no JSON object"));
  }
  std::vector<Entry> entries;
  for (const auto& [name, tensor] : json.items()) {
    if (name == "__metadata__") continue;
    SLUICE_ASSIGN_OR_RETURN(Entry entry, ReadEntry(tensor, data_bytes, {source, name}));
    entries.push_back(std::move(entry));
  }
  // By end too, so that an empty tensor comes before the one that begins where it lies.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  return entries;
}

}  // namespace

int64_t TensorView::elements() const { return bytes / DTypeBytes(dtype); }

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<SafetensorsIndex> ParseSafetensors(absl::Span<const std::byte> start,
                                                  int64_t file_bytes, const std::string& source) {
  SLUICE_ASSIGN_OR_RETURN(const int64_t header_bytes, ReadHeaderBytes(start, file_bytes, source));
  const std::string_view header(reinterpret_cast<const char*>(start.data()) + kLengthBytes,
                                static_cast<size_t>(header_bytes));
  const int64_t data_begin = kLengthBytes + header_bytes;
  const int64_t data_bytes = file_bytes - data_begin;
  SLUICE_ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(header, data_bytes, source));
  SLUICE_RETURN_IF_ERROR(CheckLayout(entries, data_bytes, source));

  SafetensorsIndex index;
  for (Entry& entry : entries) {
    if (!entry.dtype->dtype.has_value()) {
      index.unsupported.emplace(std::move(entry.name), entry.dtype->name);
      continue;
    }
    TensorView view = {.dtype = *entry.dtype->dtype,
                       .shape = std::move(entry.shape),
                       .offset = data_begin + entry.begin,
                       .bytes = entry.end - entry.begin};
    index.tensors.emplace(std::move(entry.name), std::move(view));
  }
  return index;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::filesystem::path& path) {
  // Without O_NONBLOCK the open of a named pipe would wait for a writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path.string()));
  }
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(descriptor, path.string()));
  struct stat info = {};
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " is not a regular file"));
  }
  file->file_bytes_ = info.st_size;
  file->changed_ = absl::TimeFromTimespec(info.st_mtim);
  SLUICE_RETURN_IF_ERROR(file->ReadIndex());
  return file;
}

absl::Status SafetensorsFile::ReadIndex() {
  std::vector<std::byte> start(std::min(kLengthBytes, file_bytes_));
  SLUICE_RETURN_IF_ERROR(ReadAt(0, absl::MakeSpan(start)));
  SLUICE_ASSIGN_OR_RETURN(const int64_t header_bytes, ReadHeaderBytes(start, file_bytes_, path_));
  start.resize(kLengthBytes + header_bytes);
  SLUICE_RETURN_IF_ERROR(ReadAt(0, absl::MakeSpan(start)));
  SLUICE_ASSIGN_OR_RETURN(index_, ParseSafetensors(start, file_bytes_, path_));
  return absl::OkStatus();
}

SafetensorsFile::~SafetensorsFile() { close(descriptor_); }

absl::Status SafetensorsFile::ReadAt(int64_t offset, absl::Span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t count = pread(descriptor_, out.data(), out.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
    if (count == 0) {
      return absl::DataLossError(absl::StrCat(path_, " ends at byte ", offset, "; it had ",
                                              file_bytes_, " bytes when it was opened"));
    }
    offset += count;
    out.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status SafetensorsFile::Read(const TensorView& tensor, int64_t begin,
                                   absl::Span<std::byte> out) const {
  SLUICE_CHECK(begin >= 0 && begin + static_cast<int64_t>(out.size()) <= tensor.bytes);
  return ReadAt(tensor.offset + begin, out);
}

absl::Status SafetensorsFile::CheckUnchanged() const {
  struct stat info = {};
  if (fstat(descriptor_, &info) == 0 && info.st_size == file_bytes_ &&
      absl::TimeFromTimespec(info.st_mtim) == changed_) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " was changed while it was read; start again once it is whole"));
}

}  // namespace sluice
