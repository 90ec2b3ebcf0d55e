#include "engine/delivery.h"

#include <algorithm>
#include <utility>

namespace sluice {
namespace {

double SecondsBetween(absl::Time from, absl::Time to) {
  if (from == absl::InfiniteFuture() || to == absl::InfiniteFuture()) return 0;
  return absl::ToDoubleSeconds(to - from);
}

// The prompt's tokens that become part of the output with positions [begin, end) processed.
void EchoPrompt(Sequence* sequence, int32_t begin, int32_t end, absl::Span<TokenResult> scored,
                Output* output) {
  if (begin == 0) {
    output->text += std::exchange(sequence->prompt_text, "");
    // Nothing predicts the first token.
    output->tokens.push_back({sequence->tokens[0], {}, {}});
  }
  if (sequence->scores_prompt()) {
    for (TokenResult& result : scored) output->tokens.push_back(std::move(result.token));
    return;
  }
  for (int32_t i = begin; i < std::min(end, sequence->prompt_length - 1); ++i) {
    output->tokens.push_back({sequence->tokens[i + 1], {}, {}});
  }
}

// What ends the sequence with the token just drawn, and the text that the token lets through.
std::optional<Finish> TakeToken(Sequence* sequence, int32_t token, std::string* text) {
  StopMatcher* stops = sequence->stops.get();
  const bool stop_token =
      std::binary_search(sequence->stop_tokens.begin(), sequence->stop_tokens.end(), token);
  const bool last = stop_token || sequence->output_length() == sequence->max_tokens;
  if (!stop_token) *text += stops->Push(sequence->decoder->Push(token));
  if (last) *text += stops->Push(sequence->decoder->Flush());
  if (stops->matched().has_value()) return Finish{FinishReason::kStop, stops->matched(), {}};
  if (!last) return std::nullopt;
  *text += stops->Flush();
  if (stop_token) return Finish{FinishReason::kStop, {}, token};
  return Finish{FinishReason::kLength, {}, {}};
}

}  // namespace

Delivery Advance(Sequence* sequence, int32_t processed, absl::Span<TokenResult> scored,
                 absl::Span<TokenResult> drawn) {
  Delivery delivery;
  const int32_t begin = sequence->processed;
  const bool was_prefilling = sequence->prefilling();
  sequence->processed += processed;
  if (was_prefilling && (sequence->echo || sequence->kind == RequestKind::kScore)) {
    EchoPrompt(sequence, begin, sequence->processed, scored, &delivery.output);
  }
  if (sequence->kind == RequestKind::kScore && !sequence->prefilling()) {
    delivery.finish = Finish{FinishReason::kLength, {}, {}};
    return delivery;
  }
  if (!drawn.empty()) {
    const int32_t token = drawn.front().token.token;
    sequence->tokens.push_back(token);
    delivery.output.tokens.push_back(std::move(drawn.front().token));
    delivery.finish = TakeToken(sequence, token, &delivery.output.text);
  }
  return delivery;
}

Outcome MakeOutcome(const Sequence& sequence, const Finish& finish, absl::Status status,
                    absl::Time now) {
  Outcome outcome;
  outcome.status = std::move(status);
  outcome.reason = finish.reason;
  outcome.stop_string = finish.stop_string;
  outcome.stop_token = finish.stop_token;
  outcome.request_id = sequence.id;
  outcome.origin = sequence.origin;
  outcome.kind = sequence.kind;
  outcome.seed = sequence.sampling.seed;
  outcome.prompt_tokens = sequence.prompt_length;
  outcome.output_tokens = sequence.output_length();
  const absl::Time planned = std::min(sequence.planned, now);
  const absl::Time first = std::min(sequence.first_token, now);
  outcome.queue_seconds = SecondsBetween(sequence.arrived, planned);
  outcome.prefill_seconds = SecondsBetween(planned, first);
  outcome.decode_seconds = SecondsBetween(sequence.first_token, sequence.last_token);
  outcome.first_token_seconds = SecondsBetween(sequence.arrived, sequence.first_token);
  return outcome;
}

}  // namespace sluice
