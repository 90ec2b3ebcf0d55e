#include "client/loadgen/request_plan.h"

namespace sluice {

absl::string_view LoadKindName(LoadKind kind) {
  switch (kind) {
    case LoadKind::kPlain:
      return "plain";
    case LoadKind::kCancel:
      return "cancel";
    case LoadKind::kSlow:
      return "slow";
    case LoadKind::kInvalid:
      return "invalid";
  }
  return "unknown";
}

}  // namespace sluice
