#include "server/api_keys.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr double kMaxRate = 1e6;
constexpr double kMinRate = 1e-3;
constexpr int64_t kMaxRequests = 1'000'000;
constexpr int64_t kMaxTokens = 16'777'216;  // as the server's own flags
constexpr int64_t kValuesOfKey = 20;
constexpr char kOtherTenants[] = "other";

const std::set<std::string, std::less<>>& KnownFields() {
  static const auto& fields = *new std::set<std::string, std::less<>>{"name",
                                                                      "tenant",
                                                                      "sha256",
                                                                      "methods",
                                                                      "requests_per_second",
                                                                      "max_requests",
                                                                      "max_prompt_tokens",
                                                                      "max_output_tokens",
                                                                      "not_after"};
  return fields;
}

// A longer run of letters and digits in a message may be a key, or a hash, that was put into the
// wrong place: as a field's name, say.
constexpr size_t kMaxPrintedRun = 24;

// `status`, whose message begins with `source`, with dots for the rest of such runs behind it.
absl::Status Masked(const absl::Status& status, const std::string& source) {
  std::string message = source;
  size_t run = 0;
  for (const char c : status.message().substr(source.size())) {
    const bool goes_on = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
    run = goes_on ? run + 1 : 0;
    if (run <= kMaxPrintedRun) message += c;
    if (run == kMaxPrintedRun + 1) message += "...";
  }
  return {status.code(), message};
}

// JsonReader would print the value, which may be a key that was put into the wrong place.
absl::Status CheckFields(const nlohmann::json& object, const std::string& source) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, " is not an object"));
  }
  for (const auto& [field, value] : object.items()) {
    if (KnownFields().contains(field)) continue;
    return absl::InvalidArgumentError(absl::StrCat(source, ": unknown field ", Quoted(field)));
  }
  return absl::OkStatus();
}

bool IsName(const std::string& text) {
  return text.size() <= kMaxNameBytes && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

void ReadNames(JsonReader* reader, ApiKey* key) {
  key->name = reader->String("name", "");
  if (!IsName(key->name)) reader->Refuse("name", "it must be at most 64 of [a-zA-Z0-9._-]");
  key->tenant = reader->String("tenant", "");
  if (key->tenant.empty() || !IsName(key->tenant)) {
    reader->Refuse("tenant", "it must be 1 to 64 of [a-zA-Z0-9._-]");
  }
  if (key->tenant == kOtherTenants) {
    reader->Refuse("tenant", "metrics call by this name those that are too many to be named");
  }
}

absl::Status ReadHash(const nlohmann::json& object, const std::string& source, ApiKey* key) {
  const auto found = object.find("sha256");
  const std::string digits =
      found != object.end() && found->is_string() ? found->get<std::string>() : "";
  const bool hex = digits.size() == 2 * key->hash.size() &&
                   std::all_of(digits.begin(), digits.end(),
                               [](unsigned char c) { return absl::ascii_isxdigit(c); });
  if (!hex) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ".sha256 must be the key's SHA-256, 64 hexadecimal digits"));
  }
  const std::string bytes = absl::HexStringToBytes(digits);
  std::copy(bytes.begin(), bytes.end(), key->hash.begin());
  key->id = absl::AsciiStrToLower(digits);
  if (key->hash != HashKey("")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ".sha256 is that of an empty key"));
}

void ReadMethods(JsonReader* reader, ApiKey* key) {
  if (!reader->Has("methods")) {
    if (reader->IsNull("methods")) reader->Refuse("methods", "it must be a list");
    key->methods.set();
    return;
  }
  const nlohmann::json& list = reader->Value("methods");
  if (!list.is_array() || list.empty()) {
    return reader->Refuse("methods", "it must be a list of at least one method");
  }
  for (const nlohmann::json& name : list) {
    const auto* const found =
        std::find(kCallMethodNames.begin(), kCallMethodNames.end(),
                  name.is_string() ? std::string_view(name.get_ref<const std::string&>()) : "");
    if (found == kCallMethodNames.end()) {
      return reader->Refuse("methods",
                            "it may hold Generate, Score, Tokenize, Detokenize and GetModel");
    }
    key->methods.set(static_cast<size_t>(found - kCallMethodNames.begin()));
  }
}

void ReadLimits(JsonReader* reader, ApiKey* key) {
  key->requests_per_second = reader->Number("requests_per_second", 0, kMinRate, kMaxRate);
  key->max_requests = reader->Int("max_requests", 0, 1, kMaxRequests);
  ClientLimits& limits = key->limits;
  limits.max_prompt_tokens = static_cast<int32_t>(
      reader->Int("max_prompt_tokens", limits.max_prompt_tokens, 1, kMaxTokens));
  limits.max_output_tokens = static_cast<int32_t>(
      reader->Int("max_output_tokens", limits.max_output_tokens, 1, kMaxTokens));
  const std::string end = reader->String("not_after", "infinite-future");
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, end, &key->not_after, &error)) {
    reader->Refuse("not_after", "it must be a time as in 2030-01-31T00:00:00Z");
  }
}

absl::StatusOr<ApiKey> ReadKey(const nlohmann::json& object, const std::string& source) {
  SLUICE_RETURN_IF_ERROR(CheckFields(object, source));
  ApiKey key;
  SLUICE_RETURN_IF_ERROR(ReadHash(object, source, &key));
  JsonReader reader(object, source);
  ReadNames(&reader, &key);
  ReadMethods(&reader, &key);
  ReadLimits(&reader, &key);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return key;
}

absl::StatusOr<nlohmann::json> ReadList(std::string_view text, const std::string& source) {
  JsonLimits limits;
  limits.depth = 4;
  limits.values = static_cast<int64_t>(ApiKeys::kMaxKeys) * kValuesOfKey;
  SLUICE_ASSIGN_OR_RETURN(nlohmann::json file, ParseJson(text, source, limits));
  const bool fits =
      file.is_object() && file.size() == 1 && file.contains("keys") && file["keys"].is_array();
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " is not {\"keys\": [...]} with nothing beside it"));
  }
  if (file["keys"].size() > ApiKeys::kMaxKeys) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": keys has ", file["keys"].size(),
                                                   " entries; the limit is ", ApiKeys::kMaxKeys));
  }
  return std::move(file["keys"]);
}

}  // namespace

KeyHash HashKey(std::string_view key) {
  KeyHash hash = {};
  unsigned int bytes = 0;
  SLUICE_CHECK(EVP_Digest(key.data(), key.size(), hash.data(), &bytes, EVP_sha256(), nullptr) == 1);
  SLUICE_CHECK(bytes == hash.size());
  return hash;
}

absl::StatusOr<ApiKeys> ApiKeys::Parse(std::string_view text, const std::string& source) {
  absl::StatusOr<ApiKeys> keys = ParseUnmasked(text, source);
  if (!keys.ok()) return Masked(keys.status(), source);
  return keys;
}

absl::StatusOr<ApiKeys> ApiKeys::ParseUnmasked(std::string_view text, const std::string& source) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json list, ReadList(text, source));
  ApiKeys keys;
  std::set<KeyHash> seen;
  for (const nlohmann::json& object : list) {
    const std::string place = absl::StrCat(source, ": keys[", keys.size(), "]");
    SLUICE_ASSIGN_OR_RETURN(ApiKey key, ReadKey(object, place));
    if (!seen.insert(key.hash).second) {
      return absl::InvalidArgumentError(absl::StrCat(place, ".sha256 is there twice"));
    }
    keys.hashes_.push_back(std::bit_cast<HashWords>(key.hash));
    keys.keys_.push_back(std::move(key));
  }
  return keys;
}

// Looks at all, without a branch and without an end before the last. By words, since a call of
// CRYPTO_memcmp for each of ten thousand keys would take most of a millisecond.
const ApiKey* ApiKeys::Find(std::string_view key) const {
  const auto hash = std::bit_cast<HashWords>(HashKey(key));
  size_t found = keys_.size();
  for (size_t i = 0; i < hashes_.size(); ++i) {
    uint64_t difference = 0;
    for (size_t word = 0; word < hash.size(); ++word) difference |= hashes_[i][word] ^ hash[word];
    const size_t same = ((difference | (~difference + 1)) >> 63) ^ 1;
    found ^= (found ^ i) & (~same + 1);
  }
  return found == keys_.size() ? nullptr : &keys_[found];
}

}  // namespace sluice
