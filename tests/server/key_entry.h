// Key files for tests.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/api_keys.h"

namespace sluice {

inline std::string HashDigits(const std::string& key) {
  const KeyHash hash = HashKey(key);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

// The entry of a key; `more` is what follows: ",\"max_requests\":1".
inline std::string KeyEntry(const std::string& tenant, const std::string& key,
                            const std::string& more = "") {
  return absl::StrCat(R"({"tenant":")", tenant, R"(","sha256":")", HashDigits(key), "\"", more,
                      "}");
}

inline std::string KeyFile(const std::vector<std::string>& entries) {
  return absl::StrCat("{\"keys\":[", absl::StrJoin(entries, ","), "]}");
}

}  // namespace sluice
