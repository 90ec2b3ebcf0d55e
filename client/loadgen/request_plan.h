// One request of a load, before it is sent.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "sluice/v1/generation.pb.h"

namespace sluice {

// What becomes of a request on purpose.
enum class LoadKind : uint8_t {
  kPlain,    // read to its end
  kCancel,   // cancelled once so many tokens have come
  kSlow,     // read with pauses
  kInvalid,  // to be refused with INVALID_ARGUMENT
};

struct RequestPlan {
  uint64_t index = 0;  // names it: a seed and an index make the same request again
  LoadKind kind = LoadKind::kPlain;
  v1::GenerateRequest message;
  int64_t prompt_tokens = 0;        // 0: a text, whose tokens the server counts
  int64_t cancel_after_tokens = 0;  // kCancel
  std::string fault;                // kInvalid: the field that is out of its range
};

absl::string_view LoadKindName(LoadKind kind);

}  // namespace sluice
