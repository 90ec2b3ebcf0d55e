#include "engine/json.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kMaxQuotedBytes = 120;

// Looks at a text before a tree is built from it.
class JsonGuard : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonGuard(std::string_view text, const std::string& source, const JsonLimits& limits)
      : text_(text), source_(source), limits_(limits) {}

  const absl::Status& status() const { return status_; }

  bool null() override { return CountValue(); }
  bool boolean(bool /*value*/) override { return CountValue(); }
  bool number_integer(number_integer_t /*value*/) override { return CountValue(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return CountValue(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return CountValue();
  }
  bool string(string_t& /*value*/) override { return CountValue(); }
  bool binary(binary_t& /*value*/) override { return CountValue(); }
  bool start_object(size_t /*elements*/) override { return Enter(); }
  bool start_array(size_t /*elements*/) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    last_key_ = name;
    if (keys_.back().insert(name).second) return true;
    return Fail(absl::StrCat("has the key ", Quoted(name), " twice in one object"));
  }

  bool parse_error(size_t position, const std::string& /*last_token*/,
                   const nlohmann::json::exception& /*error*/) override {
    return Fail(absl::StrCat("is not valid JSON at byte ", position, WhatIsThere(position)));
  }

 private:
  // Of words that Python writes as numbers, though JSON has none of them; `position` is behind the
  // first letter.
  std::string WhatIsThere(size_t position) const {
    if (position < 1 || position > text_.size()) return "";
    for (const std::string_view word : {"NaN", "Infinity"}) {
      if (text_.substr(position - 1, word.size()) != word) continue;
      const bool negative = position > 1 && text_[position - 2] == '-';
      return absl::StrCat(
          ": JSON has no ", negative ? "-" : "", std::string(word),
          last_key_.empty() ? "" : absl::StrCat(", the value of ", Quoted(last_key_)));
    }
    return "";
  }

  bool Fail(const std::string& what) {
    status_ = absl::InvalidArgumentError(absl::StrCat(source_, " ", what));
    return false;
  }

  bool CountValue() {
    if (++values_ <= limits_.values) return true;
    return Fail(absl::StrCat("has more than ", limits_.values, " JSON values"));
  }

  bool Enter() {
    keys_.emplace_back();
    if (static_cast<int64_t>(keys_.size()) > limits_.depth) {
      return Fail(absl::StrCat("is nested deeper than ", limits_.depth, " levels"));
    }
    return CountValue();
  }

  bool Leave() {
    keys_.pop_back();
    return true;
  }

  const std::string_view text_;
  const std::string& source_;
  JsonLimits limits_;
  int64_t values_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;  // one set a level, arrays included
  std::string last_key_;
  absl::Status status_;
};

std::string Printed(const nlohmann::json& value) {
  // As it was before TagInfinities.
  if (value.is_object() && value.size() == 1 && value.contains("__float__")) {
    return Printed(value["__float__"]);
  }
  std::string text =
      value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
  if (text.size() <= kMaxQuotedBytes) return text;
  return absl::StrCat(text.substr(0, kMaxQuotedBytes), "...");
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& source,
                                         const JsonLimits& limits) {
  JsonGuard guard(text, source, limits);
  if (!nlohmann::json::sax_parse(text, &guard)) return guard.status();
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string TagInfinities(std::string_view text) {
  constexpr std::string_view kWord = "Infinity";
  std::string tagged;
  bool quoted = false;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    if (quoted && text[i] == '\\') {
      length = 2;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && text.substr(i, kWord.size()) == kWord && (i == 0 || text[i - 1] != '-')) {
      tagged += R"({"__float__":"Infinity"})";
      i += kWord.size();
      continue;
    }
    tagged += text.substr(i, length);
    i += length;
  }
  return tagged;
}

absl::StatusOr<std::string> ReadWholeFile(const std::filesystem::path& path, int64_t max_bytes) {
  std::error_code error;
  const std::filesystem::file_status type = std::filesystem::status(path, error);
  if (type.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrCat("there is no file ", path.string()));
  }
  if (!std::filesystem::is_regular_file(type)) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " is not a regular file"));
  }
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error || bytes > static_cast<uintmax_t>(max_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " has ", error ? 0 : bytes,
                                                   " bytes; the limit is ", max_bytes));
  }
  std::string text(bytes, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(bytes))) {
    return absl::PermissionDeniedError(absl::StrCat("cannot read ", path.string()));
  }
  return text;
}

std::string Quoted(std::string_view text) {
  const std::string_view cut = text.substr(0, kMaxQuotedBytes);
  return absl::StrCat("\"", absl::CHexEscape({cut.data(), cut.size()}),
                      cut.size() < text.size() ? "...\"" : "\"");
}

JsonReader::JsonReader(const nlohmann::json& object, std::string source)
    : object_(object), source_(std::move(source)) {
  if (!object_.is_object()) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat(source_, " holds ", Printed(object_), " where an object is expected"));
  }
}

const nlohmann::json* JsonReader::Find(std::string_view key) {
  if (!status_.ok()) return nullptr;
  read_.emplace(key);
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &*found;
}

bool JsonReader::Has(std::string_view key) {
  const nlohmann::json* value = Find(key);
  return value != nullptr && !value->is_null();
}

bool JsonReader::IsNull(std::string_view key) {
  const nlohmann::json* value = Find(key);
  return value != nullptr && value->is_null();
}

int64_t JsonReader::Int(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  // An unsigned value above the signed range would turn negative, so it is compared first.
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX};
  const int64_t number = value->is_number_integer() && !huge ? value->get<int64_t>() : fallback;
  if (!value->is_number_integer() || huge || number < min || number > max) {
    Refuse(key, absl::StrCat("it must be a whole number from ", min, " to ", max));
    return fallback;
  }
  return number;
}

double JsonReader::Number(std::string_view key, double fallback, double min, double max) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= min && number <= max)) {
    Refuse(key, absl::StrCat("it must be a number from ", min, " to ", max));
    return fallback;
  }
  return number;
}

bool JsonReader::Bool(std::string_view key, bool fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Refuse(key, "it must be true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonReader::String(std::string_view key, std::string_view fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) {
    Refuse(key, "it must be a string");
    return std::string(fallback);
  }
  return value->get<std::string>();
}

const nlohmann::json& JsonReader::Value(std::string_view key) {
  const nlohmann::json* value = Find(key);
  return value == nullptr ? object_ : *value;
}

void JsonReader::Ignore(absl::Span<const std::string_view> keys) {
  for (std::string_view key : keys) read_.emplace(key);
}

void JsonReader::Refuse(std::string_view key, const std::string& why) {
  if (!status_.ok()) return;
  const auto found = object_.find(key);
  const std::string value = found == object_.end() ? "absent" : Printed(*found);
  status_ = absl::InvalidArgumentError(
      absl::StrCat(source_, ": ", std::string(key), " is ", value, "; ", why));
}

absl::Status JsonReader::Finish() const {
  SLUICE_RETURN_IF_ERROR(status_);
  for (const auto& [key, value] : object_.items()) {
    if (read_.contains(key)) continue;
    return absl::InvalidArgumentError(absl::StrCat(source_, ": unknown key ", Quoted(key),
                                                   " with value ", Printed(value),
                                                   "; it may change what the model computes"));
  }
  return absl::OkStatus();
}

}  // namespace sluice
