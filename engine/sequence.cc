#include "engine/sequence.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/random/random.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/status_macros.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr size_t kMaxStopTokens = 64;
constexpr size_t kMaxBiases = 1024;
// Of a Score response, which is one message that must fit in memory more than once.
constexpr int64_t kMaxScoreBytes = int64_t{256} << 20;
// What a token of it takes at most, and each of its most likely tokens.
constexpr int64_t kScoreTokenBytes = 14;
constexpr int64_t kScoreTopBytes = 13;
constexpr char kClientLimitPayload[] = "sluice/client_limit";

absl::Status Invalid(absl::string_view field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", what));
}

absl::Status CheckToken(absl::string_view field, int64_t token, int32_t vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return Invalid(field,
                 absl::StrCat("holds token id ", token, "; ids lie in [0, ", vocab_size, ")"));
}

// A closed range, or open at its lower end.
struct Range {
  double low;
  double high;
  bool low_open = false;
};

absl::Status CheckNumber(absl::string_view field, double value, const Range& range) {
  const bool above = range.low_open ? value > range.low : value >= range.low;
  if (above && value <= range.high) return absl::OkStatus();  // false for NaN
  return Invalid(field, absl::StrFormat("is %g; it must lie in %c%g, %g]", value,
                                        range.low_open ? '(' : '[', range.low, range.high));
}

absl::StatusOr<std::vector<int32_t>> PromptTokens(const Request& request,
                                                  const RequestLimits& limits,
                                                  const Tokenizer& tokenizer) {
  if (request.text.has_value() == request.token_ids.has_value()) {
    return Invalid("prompt", "must be set to either text or token_ids");
  }
  std::vector<int32_t> tokens;
  if (request.text.has_value()) {
    if (tokenizer.vocab_size() == 0) {
      return absl::FailedPreconditionError(
          "text: the model directory has no tokenizer; give token_ids");
    }
    const auto bytes = static_cast<int64_t>(request.text->size());
    if (bytes == 0) return Invalid("text", "is empty; a prompt needs at least one token");
    if (bytes > limits.max_text_bytes) {
      return Invalid("text",
                     absl::StrCat("has ", bytes, " bytes; the limit is ", limits.max_text_bytes));
    }
    absl::StatusOr<std::vector<int32_t>> encoded = tokenizer.Encode(*request.text, true);
    if (!encoded.ok()) {
      return absl::Status(encoded.status().code(),
                          absl::StrCat("text: ", encoded.status().message()));
    }
    tokens = *std::move(encoded);
  } else {
    // Before the ids are looked at: a client's mistake must not cost more than its size.
    if (static_cast<int64_t>(request.token_ids->size()) > limits.max_prompt_tokens) {
      return Invalid("token_ids", absl::StrCat("holds ", request.token_ids->size(),
                                               " tokens; the limit is ", limits.max_prompt_tokens));
    }
    for (const int64_t token : *request.token_ids) {
      SLUICE_RETURN_IF_ERROR(CheckToken("token_ids", token, limits.vocab_size));
      tokens.push_back(static_cast<int32_t>(token));
    }
  }
  if (tokens.empty()) return Invalid("prompt", "is empty; it needs at least one token");
  if (static_cast<int64_t>(tokens.size()) > limits.max_prompt_tokens) {
    return Invalid("prompt", absl::StrCat("has ", tokens.size(), " tokens; the limit is ",
                                          limits.max_prompt_tokens));
  }
  return tokens;
}

// The value, else the model's suggestion, else the neutral one.
template <typename T, typename U>
T Resolve(const std::optional<T>& asked, const std::optional<U>& suggested, T neutral) {
  if (asked.has_value()) return *asked;
  return suggested.has_value() ? static_cast<T>(*suggested) : neutral;
}

absl::Status ResolveSampling(const SamplingOptions& options, const RequestLimits& limits,
                             const GenerationDefaults& defaults, Sequence* sequence) {
  SampleParams& p = sequence->sampling;
  const std::optional<float> none;
  // A model whose author asks for greedy decoding gets it, unless the request says otherwise.
  const bool greedy = defaults.do_sample.has_value() && !*defaults.do_sample;
  p.temperature = Resolve(options.temperature,
                          greedy ? std::optional<float>(0.0F) : defaults.temperature, 1.0F);
  const int64_t top_k = Resolve<int64_t>(options.top_k, defaults.top_k, 0);
  p.top_p = Resolve(options.top_p, defaults.top_p, 1.0F);
  p.min_p = Resolve(options.min_p, defaults.min_p, 0.0F);
  p.repetition_penalty = Resolve(options.repetition_penalty, defaults.repetition_penalty, 1.0F);
  p.presence_penalty = Resolve(options.presence_penalty, none, 0.0F);
  p.frequency_penalty = Resolve(options.frequency_penalty, none, 0.0F);
  SLUICE_RETURN_IF_ERROR(CheckNumber("sampling.temperature", p.temperature, {0, 100}));
  SLUICE_RETURN_IF_ERROR(
      CheckNumber("sampling.top_k", static_cast<double>(top_k), {0, double(limits.vocab_size)}));
  SLUICE_RETURN_IF_ERROR(CheckNumber("sampling.top_p", p.top_p, {0, 1, true}));
  SLUICE_RETURN_IF_ERROR(CheckNumber("sampling.min_p", p.min_p, {0, 1}));
  SLUICE_RETURN_IF_ERROR(
      CheckNumber("sampling.repetition_penalty", p.repetition_penalty, {0, 10, true}));
  SLUICE_RETURN_IF_ERROR(CheckNumber("sampling.presence_penalty", p.presence_penalty, {-2, 2}));
  SLUICE_RETURN_IF_ERROR(CheckNumber("sampling.frequency_penalty", p.frequency_penalty, {-2, 2}));
  p.top_k = static_cast<int32_t>(top_k);
  p.seed = options.seed.has_value() ? *options.seed : absl::Uniform<uint64_t>(absl::BitGen());

  if (options.logit_bias.size() > kMaxBiases) {
    return Invalid("sampling.logit_bias", absl::StrCat("has ", options.logit_bias.size(),
                                                       " entries; the limit is ", kMaxBiases));
  }
  std::set<int64_t> biased;
  for (const auto& [token, bias] : options.logit_bias) {
    SLUICE_RETURN_IF_ERROR(CheckToken("sampling.logit_bias", token, limits.vocab_size));
    SLUICE_RETURN_IF_ERROR(CheckNumber("sampling.logit_bias", bias, {-100, 100}));
    if (!biased.insert(token).second) {
      return Invalid("sampling.logit_bias", absl::StrCat("names token id ", token, " twice"));
    }
    sequence->bias.push_back({static_cast<int32_t>(token), bias});
  }
  sequence->keeps_counts =
      p.repetition_penalty != 1.0F || p.presence_penalty != 0.0F || p.frequency_penalty != 0.0F;
  return absl::OkStatus();
}

absl::Status ResolveStopping(StoppingOptions options, const RequestLimits& limits,
                             const GenerationDefaults& defaults, Sequence* sequence) {
  const int64_t max_tokens = *options.max_tokens;
  if (max_tokens < 1 || max_tokens > limits.max_output_tokens) {
    return Invalid("stopping.max_tokens", absl::StrCat("is ", max_tokens, "; it must lie in [1, ",
                                                       limits.max_output_tokens, "]"));
  }
  sequence->max_tokens = static_cast<int32_t>(max_tokens);
  if (options.stop.size() > kMaxStops) {
    return Invalid("stopping.stop",
                   absl::StrCat("has ", options.stop.size(), " strings; the limit is ", kMaxStops));
  }
  for (const std::string& stop : options.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return Invalid("stopping.stop", absl::StrCat("holds a string of ", stop.size(),
                                                   " bytes; each must have 1 to ", kMaxStopBytes));
    }
    if (const auto at = FirstInvalidUtf8(stop); at.has_value()) {
      return Invalid("stopping.stop", absl::StrCat("is not valid UTF-8 at byte ", *at));
    }
  }
  sequence->stops = std::make_unique<StopMatcher>(std::move(options.stop));
  if (options.stop_token_ids.size() > kMaxStopTokens) {
    return Invalid("stopping.stop_token_ids", absl::StrCat("has ", options.stop_token_ids.size(),
                                                           " ids; the limit is ", kMaxStopTokens));
  }
  for (const int64_t token : options.stop_token_ids) {
    SLUICE_RETURN_IF_ERROR(CheckToken("stopping.stop_token_ids", token, limits.vocab_size));
    sequence->stop_tokens.push_back(static_cast<int32_t>(token));
  }
  if (!options.ignore_eos) {
    sequence->stop_tokens.insert(sequence->stop_tokens.end(), defaults.eos_token_ids.begin(),
                                 defaults.eos_token_ids.end());
  }
  std::sort(sequence->stop_tokens.begin(), sequence->stop_tokens.end());
  return absl::OkStatus();
}

const char* TopLogprobsField(RequestKind kind) {
  return kind == RequestKind::kScore ? "top_logprobs" : "output.top_logprobs";
}

absl::Status ResolveOutput(const Request& request, Sequence* sequence) {
  if (request.top_logprobs < 0 || request.top_logprobs > kMaxRequestTopLogprobs) {
    return Invalid(TopLogprobsField(request.kind),
                   absl::StrCat("is ", request.top_logprobs, "; it must lie in [0, ",
                                kMaxRequestTopLogprobs, "]"));
  }
  if (request.top_logprobs > 0 && !request.logprobs && request.kind == RequestKind::kGenerate) {
    return Invalid("output.top_logprobs", "needs output.logprobs");
  }
  sequence->logprobs = request.logprobs || request.kind == RequestKind::kScore;
  sequence->top_logprobs = static_cast<int32_t>(request.top_logprobs);
  sequence->echo = request.echo;
  return absl::OkStatus();
}

absl::Status CheckClientLimit(absl::string_view field, int64_t tokens, int32_t limit) {
  if (tokens <= limit) return absl::OkStatus();
  absl::Status status =
      Invalid(field, absl::StrCat("of ", tokens, " tokens is over this client's limit of ", limit));
  status.SetPayload(kClientLimitPayload, absl::Cord());
  return status;
}

absl::Status CheckScoreSize(const Sequence& sequence) {
  const auto tokens = static_cast<int64_t>(sequence.tokens.size());
  const int64_t bytes = tokens * (kScoreTokenBytes + kScoreTopBytes * sequence.top_logprobs);
  if (sequence.kind != RequestKind::kScore || bytes <= kMaxScoreBytes) return absl::OkStatus();
  return Invalid(
      "top_logprobs",
      absl::StrCat("is ", sequence.top_logprobs, ", with which a response for ", tokens,
                   " tokens has up to ", bytes, " bytes; the limit is ", kMaxScoreBytes));
}

absl::StatusOr<std::string> ResolveId(const std::string& id) {
  if (id.empty() || IsFitForLogs(id)) return IdForLogs(id);
  return Invalid("request_id", absl::StrCat("must be at most ", kMaxRequestIdBytes,
                                            " bytes of printable ASCII without spaces"));
}

}  // namespace

bool IsFitForLogs(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c <= '~'; });
}

std::string IdForLogs(const std::string& id) {
  if (IsFitForLogs(id)) return id;
  absl::BitGen random;
  return absl::StrFormat("r-%016x", absl::Uniform<uint64_t>(random));
}

bool IsOverClientLimit(const absl::Status& status) {
  return status.GetPayload(kClientLimitPayload).has_value();
}

absl::StatusOr<std::unique_ptr<Sequence>> MakeSequence(Request request, const RequestLimits& limits,
                                                       const GenerationDefaults& defaults,
                                                       const Tokenizer& tokenizer) {
  auto sequence = std::make_unique<Sequence>();
  sequence->kind = request.kind;
  sequence->origin = std::move(request.origin);
  sequence->deadline = request.deadline;
  SLUICE_ASSIGN_OR_RETURN(sequence->id, ResolveId(request.id));
  SLUICE_RETURN_IF_ERROR(ResolveOutput(request, sequence.get()));
  SLUICE_RETURN_IF_ERROR(ResolveSampling(request.sampling, limits, defaults, sequence.get()));
  const ClientLimits& own = request.client_limits;
  std::optional<int64_t>& max_tokens = request.stopping.max_tokens;
  if (!max_tokens.has_value()) {
    max_tokens = std::min({kDefaultMaxTokens, limits.max_output_tokens, own.max_output_tokens});
  }
  SLUICE_RETURN_IF_ERROR(
      ResolveStopping(std::move(request.stopping), limits, defaults, sequence.get()));
  SLUICE_RETURN_IF_ERROR(
      CheckClientLimit("stopping.max_tokens", sequence->max_tokens, own.max_output_tokens));
  // Last, since it is the one check that costs time.
  SLUICE_ASSIGN_OR_RETURN(sequence->tokens, PromptTokens(request, limits, tokenizer));
  SLUICE_RETURN_IF_ERROR(CheckClientLimit("prompt", static_cast<int64_t>(sequence->tokens.size()),
                                          own.max_prompt_tokens));
  SLUICE_RETURN_IF_ERROR(CheckScoreSize(*sequence));
  sequence->prompt_length = static_cast<int32_t>(sequence->tokens.size());
  // The decoder reads the prompt too: the text of a token can depend on whether it is the first.
  sequence->decoder = std::make_unique<StreamDecoder>(&tokenizer);
  for (const int32_t token : sequence->tokens) {
    const std::string text = sequence->decoder->Push(token);
    if (sequence->echo) sequence->prompt_text += text;
  }
  return sequence;
}

}  // namespace sluice
