// One request being run: plain data that the engine thread owns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/live_request.h"
#include "engine/model_config.h"
#include "engine/request.h"
#include "engine/stop_matcher.h"
#include "engine/tokenizer.h"
#include "kernels/sample.h"

namespace sluice {

struct Sequence {
  // What was asked for, resolved: every option has its value.
  RequestKind kind = RequestKind::kGenerate;
  std::string id;
  Origin origin;
  SampleParams
      sampling;  // seed and parameters; position, slot and bias range are set for each step
  std::vector<TokenBias> bias;
  bool keeps_counts = false;         // a penalty needs to know which tokens there were
  int32_t max_tokens = 0;            // to generate
  std::vector<int32_t> stop_tokens;  // sorted; end-of-sequence ones too, unless they are ignored
  bool logprobs = false;
  int32_t top_logprobs = 0;
  bool echo = false;
  absl::Time deadline;
  std::shared_ptr<Sink> sink;
  std::shared_ptr<LiveRequest> live;  // what operators see of it; may be null

  // Where it stands.
  std::vector<int32_t> tokens;  // prompt, then output
  int32_t prompt_length = 0;
  int32_t processed = 0;                   // tokens that the state holds
  int32_t slot = -1;                       // -1 while it waits
  int64_t waiting_tokens = 0;              // counted against EngineConfig::max_waiting_tokens
  std::unique_ptr<StreamDecoder> decoder;  // has read the prompt
  std::string prompt_text;                 // for echo
  std::unique_ptr<StopMatcher> stops;

  absl::Time arrived;
  absl::Time planned = absl::InfiniteFuture();  // first time in a step
  absl::Time first_token = absl::InfiniteFuture();
  absl::Time last_token = absl::InfiniteFuture();
  absl::Time backlogged = absl::InfiniteFuture();  // since when its sink takes nothing

  int32_t output_length() const { return static_cast<int32_t>(tokens.size()) - prompt_length; }
  bool prefilling() const { return processed < prompt_length; }
  // Whether the log-probabilities of the prompt's own tokens are wanted.
  bool scores_prompt() const { return kind == RequestKind::kScore || (echo && logprobs); }
};

// What a request is checked against.
struct RequestLimits {
  int32_t vocab_size = 0;
  int32_t max_prompt_tokens = 0;
  int32_t max_output_tokens = 0;
  int64_t max_text_bytes = 0;
};

constexpr int32_t kDefaultMaxTokens = 16;
constexpr int32_t kMaxRequestTopLogprobs = 20;
constexpr size_t kMaxRequestIdBytes = 128;

// Whether a request can be named so: 1 to kMaxRequestIdBytes of printable ASCII without spaces.
bool IsFitForLogs(absl::string_view id);

// What to name a request by in logs: its client's `id` if that is fit for them, else one made up.
// Thread-safe.
std::string IdForLogs(const std::string& id);

// Whether a request was refused for its client's own limits.
bool IsOverClientLimit(const absl::Status& status);

// Checks every field and resolves defaults. InvalidArgument names the field as in the request's
// proto, and the limit. `tokenizer` outlives the sequence. Thread-safe.
absl::StatusOr<std::unique_ptr<Sequence>> MakeSequence(Request request, const RequestLimits& limits,
                                                       const GenerationDefaults& defaults,
                                                       const Tokenizer& tokenizer);

}  // namespace sluice
