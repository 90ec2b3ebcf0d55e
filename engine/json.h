// Reading JSON from files that nobody vouches for: depth, values and sizes are bounded, and every
// refusal names the file, the key, the value and the limit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace sluice {

struct JsonLimits {
  int32_t depth = 32;        // arrays and objects within each other
  int64_t values = 100'000;  // bounds the memory that a small text can ask for
};

// Parses the whole of `text`. `source` names it in messages. InvalidArgument when it is not JSON
// (invalid UTF-8 included; the bare words NaN and Infinity are named), when a limit is passed, or
// when an object has a key twice, since readers differ in which of the two they take.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& source,
                                         const JsonLimits& limits = {});

// Python writes an infinite number as the bare word Infinity, which is no JSON. Gives the text with
// {"__float__": "Infinity"} in its place, as newer configurations have it; a negative one stays.
std::string TagInfinities(std::string_view text);

// The bytes of a regular file of at most `max_bytes`. NotFound when there is none, InvalidArgument
// when it is larger or no regular file.
absl::StatusOr<std::string> ReadWholeFile(const std::filesystem::path& path, int64_t max_bytes);

// `text` in quotes, escaped and cut to a length that suits a message.
std::string Quoted(std::string_view text);

// Reads the keys of one object. The first error is kept and every later read gives its fallback, so
// that a struct is read line by line and the status is looked at once, at the end.
//
// An absent key gives the fallback; a null one is an error except for Has. Not thread-safe. The
// object outlives the reader.
class JsonReader {
 public:
  JsonReader(const nlohmann::json& object, std::string source);

  // Whether the key is there with a value other than null. Counts as having been read.
  bool Has(std::string_view key);

  // Whether the key is there and its value is null. Counts as having been read.
  bool IsNull(std::string_view key);

  // `min` and `max` are both allowed.
  int64_t Int(std::string_view key, int64_t fallback, int64_t min, int64_t max);
  double Number(std::string_view key, double fallback, double min, double max);
  bool Bool(std::string_view key, bool fallback);
  std::string String(std::string_view key, std::string_view fallback);

  // The value of a key that was found with Has.
  const nlohmann::json& Value(std::string_view key);

  // Keys whose values do not matter.
  void Ignore(absl::Span<const std::string_view> keys);

  // Keeps the error "<source>: <key> is <value>; <why>".
  void Refuse(std::string_view key, const std::string& why);

  const absl::Status& status() const { return status_; }

  // The first error, or InvalidArgument with the name of a key that was neither read nor ignored.
  absl::Status Finish() const;

 private:
  const nlohmann::json* Find(std::string_view key);

  const nlohmann::json& object_;
  std::string source_;
  std::set<std::string, std::less<>> read_;
  absl::Status status_;
};

}  // namespace sluice
