// The metadata that a call brings, as gRPC hands it over: keys in lower case.
#pragma once

#include <grpcpp/support/string_ref.h>

#include <map>
#include <optional>
#include <string_view>

namespace sluice {

using CallMetadata = std::multimap<grpc::string_ref, grpc::string_ref>;

// The value of `key` if it is there once; nothing if it is absent or there twice.
inline std::optional<std::string_view> OnlyValue(const CallMetadata& metadata, const char* key) {
  const auto [first, last] = metadata.equal_range(key);
  if (first == last || std::next(first) != last) return std::nullopt;
  return std::string_view(first->second.data(), first->second.size());
}

}  // namespace sluice
