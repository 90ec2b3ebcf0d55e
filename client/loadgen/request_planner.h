// Decides what each request of a load is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/loadgen/length_distribution.h"
#include "client/loadgen/request_plan.h"
#include "client/loadgen/synthetic_prompts.h"
#include "sluice/v1/model.pb.h"

namespace sluice {

// What the requests of a load are like.
struct WorkloadOptions {
  uint64_t seed = 0;
  std::string prompt_file;  // empty: synthetic prompts
  SyntheticOptions synthetic;
  LengthDistribution prompt_tokens = *LengthDistribution::Parse("64");
  LengthDistribution output_tokens = *LengthDistribution::Parse("64");

  // Shares of all requests, together at most 1; the rest is plain.
  double cancel_share = 0;
  double slow_share = 0;
  double invalid_share = 0;
  LengthDistribution cancel_after = *LengthDistribution::Parse("uniform:0,32");

  std::optional<float> temperature;
  std::optional<int64_t> top_k;
  std::optional<float> top_p;
  bool ignore_eos = false;
};

// Thread-safe: a request depends on the seed and its index alone, not on when it is asked for.
class RequestPlanner {
 public:
  // `model` says what the server takes. InvalidArgument names the option that asks for more than
  // that, or the line of the prompt file; NotFound if there is no such file.
  static absl::StatusOr<RequestPlanner> Make(const WorkloadOptions& options,
                                             const v1::GetModelResponse& model);

  // Each request has its own sampling seed, and load-INDEX as its name in the server's logs.
  RequestPlan Plan(uint64_t index) const;

 private:
  RequestPlanner(const WorkloadOptions& options, const v1::GetModelResponse& model);

  Prompt DrawPrompt(uint64_t index, RandomStream* random) const;
  LoadKind DrawKind(RandomStream* random) const;

  WorkloadOptions options_;
  v1::Limits limits_;
  std::vector<Prompt> prompts_;
  SyntheticPrompts synthetic_;
};

}  // namespace sluice
