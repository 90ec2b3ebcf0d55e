#include "client/loadgen/request_planner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/loadgen/invalid_request.h"
#include "client/loadgen/prompt_file.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckAtMost(absl::string_view what, int64_t asked, absl::string_view limit_name,
                         int64_t limit) {
  if (asked <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": asks for ", asked, "; the server's ", limit_name, " is ", limit));
}

absl::Status CheckPrompt(const Prompt& prompt, const std::string& what,
                         const v1::GetModelResponse& model) {
  const v1::Limits& limits = model.limits();
  if (prompt.text.has_value()) {
    SLUICE_RETURN_IF_ERROR(CheckAtMost(what, static_cast<int64_t>(prompt.text->size()),
                                       "max_text_bytes",
                                       static_cast<int64_t>(limits.max_text_bytes())));
  }
  SLUICE_RETURN_IF_ERROR(CheckAtMost(what, static_cast<int64_t>(prompt.token_ids.size()),
                                     "max_prompt_tokens", limits.max_prompt_tokens()));
  for (const uint32_t id : prompt.token_ids) {
    if (id < model.vocab_size()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": token id ", id, " is not in the vocabulary of ", model.vocab_size()));
  }
  return CheckAtMost(what, prompt.max_tokens.value_or(1), "max_output_tokens",
                     limits.max_output_tokens());
}

absl::Status CheckLengths(const WorkloadOptions& options, const v1::GetModelResponse& model) {
  const v1::Limits& limits = model.limits();
  const SyntheticOptions& synthetic = options.synthetic;
  const int64_t prefix = synthetic.shared_share > 0 ? synthetic.prefix_tokens : 0;
  SLUICE_RETURN_IF_ERROR(CheckAtMost("--output-tokens", options.output_tokens.largest().value_or(1),
                                     "max_output_tokens", limits.max_output_tokens()));
  if (!options.prompt_file.empty()) return absl::OkStatus();
  if (prefix > 0) {
    SLUICE_RETURN_IF_ERROR(CheckAtMost("--prompt-tokens with --shared-prefix-tokens",
                                       prefix + options.prompt_tokens.largest().value_or(1),
                                       "max_prompt_tokens", limits.max_prompt_tokens()));
  }
  return CheckAtMost("--prompt-tokens", options.prompt_tokens.largest().value_or(1),
                     "max_prompt_tokens", limits.max_prompt_tokens());
}

}  // namespace

RequestPlanner::RequestPlanner(const WorkloadOptions& options, const v1::GetModelResponse& model)
    : options_(options),
      limits_(model.limits()),
      synthetic_(options.synthetic, options.prompt_tokens, options.seed, model.vocab_size(),
                 {model.eos_token_ids().begin(), model.eos_token_ids().end()}) {}

absl::StatusOr<RequestPlanner> RequestPlanner::Make(const WorkloadOptions& options,
                                                    const v1::GetModelResponse& model) {
  const auto ends = static_cast<uint32_t>(model.eos_token_ids_size());
  if (model.vocab_size() <= ends) {
    return absl::InvalidArgumentError(
        absl::StrCat("the server says vocab_size ", model.vocab_size(), " with ", ends,
                     " tokens that end a sequence: no prompts can be made from that"));
  }
  SLUICE_RETURN_IF_ERROR(CheckLengths(options, model));
  RequestPlanner planner(options, model);
  if (options.prompt_file.empty()) return planner;
  SLUICE_ASSIGN_OR_RETURN(planner.prompts_, ReadPromptFile(options.prompt_file));
  for (size_t i = 0; i < planner.prompts_.size(); ++i) {
    const std::string what = absl::StrCat(options.prompt_file, ", prompt ", i + 1);
    SLUICE_RETURN_IF_ERROR(CheckPrompt(planner.prompts_[i], what, model));
  }
  return planner;
}

Prompt RequestPlanner::DrawPrompt(uint64_t index, RandomStream* random) const {
  if (!prompts_.empty()) return prompts_[index % prompts_.size()];
  return synthetic_.Draw(random, limits_.max_prompt_tokens());
}

LoadKind RequestPlanner::DrawKind(RandomStream* random) const {
  double at = random->Uniform();
  if (at < options_.cancel_share) return LoadKind::kCancel;
  at -= options_.cancel_share;
  if (at < options_.slow_share) return LoadKind::kSlow;
  at -= options_.slow_share;
  return at < options_.invalid_share ? LoadKind::kInvalid : LoadKind::kPlain;
}

RequestPlan RequestPlanner::Plan(uint64_t index) const {
  RandomStream random(options_.seed, index);
  RequestPlan plan;
  plan.index = index;
  plan.kind = DrawKind(&random);
  v1::GenerateRequest& message = plan.message;
  message.set_request_id(absl::StrCat("load-", index));
  message.mutable_sampling()->set_seed(random.Next());
  if (options_.temperature.has_value()) {
    message.mutable_sampling()->set_temperature(*options_.temperature);
  }
  if (options_.top_k.has_value()) {
    message.mutable_sampling()->set_top_k(static_cast<uint32_t>(*options_.top_k));
  }
  if (options_.top_p.has_value()) message.mutable_sampling()->set_top_p(*options_.top_p);
  message.mutable_stopping()->set_ignore_eos(options_.ignore_eos);
  const int64_t most = limits_.max_output_tokens();
  const int64_t drawn = options_.output_tokens.Draw(&random, 1, most);
  plan.cancel_after_tokens = options_.cancel_after.Draw(&random, 0, most);

  const Prompt prompt = DrawPrompt(index, &random);
  message.mutable_stopping()->set_max_tokens(
      static_cast<uint32_t>(prompt.max_tokens.value_or(drawn)));
  if (prompt.text.has_value()) {
    message.set_text(*prompt.text);
  } else {
    plan.prompt_tokens = static_cast<int64_t>(prompt.token_ids.size());
    message.mutable_token_ids()->mutable_ids()->Add(prompt.token_ids.begin(),
                                                    prompt.token_ids.end());
  }
  if (plan.kind == LoadKind::kInvalid) plan.fault = MakeInvalid(&random, &message);
  return plan;
}

}  // namespace sluice
