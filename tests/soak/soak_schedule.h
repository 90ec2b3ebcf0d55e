// What a load of the soak sends, read from files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/loadgen/request_plan.h"

namespace sluice {

// One request of the soak. Several may have the same message: `plan` says which.
struct SoakRequest {
  uint64_t index = 0;  // names it, and draws the fault of an invalid one
  uint64_t plan = 0;
  LoadKind kind = LoadKind::kPlain;
  int64_t cancel_after_tokens = 0;  // kCancel
};

struct SoakSchedule {
  std::vector<v1::GenerateRequest> plans;
  std::vector<SoakRequest> requests;  // in the order in which they are sent

  // `attempt` is counted from 0: it tells requests that are sent again apart in the server's log.
  RequestPlan Plan(const SoakRequest& request, int attempt) const;
};

// `plans_path`: a GenerateRequest a line, as protobuf's JSON. `requests_path`: a request a line,
// "INDEX PLAN KIND CANCEL_AFTER". InvalidArgument names the file and the line.
absl::StatusOr<SoakSchedule> ReadSoakSchedule(const std::string& plans_path,
                                              const std::string& requests_path);

}  // namespace sluice
