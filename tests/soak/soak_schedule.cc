#include "tests/soak/soak_schedule.h"

#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/loadgen/invalid_request.h"
#include "client/loadgen/random_stream.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr uint64_t kFaultSeed = 4;

absl::StatusOr<std::vector<std::string>> ReadLines(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

absl::Status BadLine(const std::string& path, size_t line, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(path, ", line ", line + 1, ": ", problem));
}

std::optional<LoadKind> ParseKind(absl::string_view name) {
  for (const LoadKind kind :
       {LoadKind::kPlain, LoadKind::kCancel, LoadKind::kSlow, LoadKind::kInvalid}) {
    if (LoadKindName(kind) == name) return kind;
  }
  return std::nullopt;
}

std::optional<SoakRequest> ParseRequest(const std::string& line, size_t plans) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  SoakRequest request;
  if (words.size() != 4 || !absl::SimpleAtoi(words[0], &request.index) ||
      !absl::SimpleAtoi(words[1], &request.plan) ||
      !absl::SimpleAtoi(words[3], &request.cancel_after_tokens)) {
    return std::nullopt;
  }
  const std::optional<LoadKind> kind = ParseKind(words[2]);
  if (!kind.has_value() || request.plan >= plans) return std::nullopt;
  request.kind = *kind;
  return request;
}

}  // namespace

RequestPlan SoakSchedule::Plan(const SoakRequest& request, int attempt) const {
  RequestPlan plan;
  plan.index = request.index;
  plan.kind = request.kind;
  plan.cancel_after_tokens = request.cancel_after_tokens;
  plan.message = plans[request.plan];
  plan.message.set_request_id(absl::StrCat("soak-", request.index, "-", attempt));
  if (request.kind == LoadKind::kInvalid) {
    RandomStream random(kFaultSeed, request.index);
    plan.fault = MakeInvalid(&random, &plan.message);
  }
  return plan;
}

absl::StatusOr<SoakSchedule> ReadSoakSchedule(const std::string& plans_path,
                                              const std::string& requests_path) {
  SoakSchedule schedule;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> plans, ReadLines(plans_path));
  for (size_t i = 0; i < plans.size(); ++i) {
    const auto read =
        google::protobuf::util::JsonStringToMessage(plans[i], &schedule.plans.emplace_back());
    if (!read.ok()) return BadLine(plans_path, i, read.ToString());
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> requests, ReadLines(requests_path));
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::optional<SoakRequest> request = ParseRequest(requests[i], plans.size());
    if (!request.has_value()) return BadLine(requests_path, i, "is not INDEX PLAN KIND AFTER");
    schedule.requests.push_back(*request);
  }
  return schedule;
}

}  // namespace sluice
