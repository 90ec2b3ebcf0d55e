// Who may call: keys by their hash, each with a tenant, allowed methods and limits, as an
// operator's JSON file has them. README.md has the format.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/request.h"
#include "server/call_method.h"

namespace sluice {

using KeyHash = std::array<uint8_t, 32>;  // SHA-256 of the key's bytes

struct ApiKey {
  KeyHash hash = {};
  std::string id;      // of this key among all, whatever the file it stands in: its hash in digits
  std::string name;    // for logs; may be empty
  std::string tenant;  // 1 to 64 of [a-zA-Z0-9._-]
  std::bitset<kCallMethodNames.size()> methods;  // by CallMethod
  double requests_per_second = 0;                // 0: the server's limit, shared by the tenant
  int64_t max_requests = 0;                      // at once; 0: likewise
  ClientLimits limits;
  absl::Time not_after = absl::InfiniteFuture();

  bool Allows(CallMethod method) const { return methods.test(static_cast<size_t>(method)); }
};

// Immutable.
class ApiKeys {
 public:
  static constexpr int64_t kMaxFileBytes = int64_t{4} << 20;
  static constexpr size_t kMaxKeys = 10'000;

  // InvalidArgument: what is wrong, by its place ("keys[3]") in `source`. Repeats no hash and no
  // value of an unknown field, which may be a key that was put there; nor more than the beginning
  // of a long name.
  static absl::StatusOr<ApiKeys> Parse(std::string_view text, const std::string& source);

  // The entry of `key`, or null. Takes the same time for every key of the same length.
  const ApiKey* Find(std::string_view key) const;

  size_t size() const { return keys_.size(); }

 private:
  using HashWords = std::array<uint64_t, 4>;

  static absl::StatusOr<ApiKeys> ParseUnmasked(std::string_view text, const std::string& source);

  std::vector<ApiKey> keys_;
  std::vector<HashWords> hashes_;  // of the same, side by side
};

KeyHash HashKey(std::string_view key);

}  // namespace sluice
