// A call that was not let in, and who is told of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/request.h"
#include "server/call_method.h"

namespace sluice {

enum class RefusalReason : uint8_t {
  kKey,          // no key, or none that is valid
  kMethod,       // the key does not allow the method
  kRate,         // the client calls too often
  kConcurrency,  // the client has too many calls under way
  kLimit,  // the request is larger than its key allows, found once it was read; or its metadata
};

inline constexpr std::array<std::string_view, 5> kRefusalReasonNames = {"key", "method", "rate",
                                                                        "concurrency", "limit"};

constexpr std::string_view RefusalReasonName(RefusalReason reason) {
  return kRefusalReasonNames.at(static_cast<size_t>(reason));
}

struct Refusal {
  RefusalReason reason = RefusalReason::kKey;
  CallMethod method = CallMethod::kGenerate;
  std::string request_id;
  Origin origin;
  absl::Status status;
};

class RefusalObserver {
 public:
  virtual ~RefusalObserver() = default;
  // Thread-safe; does not wait.
  virtual void OnRefusal(const Refusal& refusal) = 0;
};

}  // namespace sluice
