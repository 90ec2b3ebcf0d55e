// What a client asks for, and what it gets back: plain data, free of any protocol.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/sample.h"

namespace sluice {

// How tokens are drawn; kernels/sample.h has the formula. Unset: the model's generation_config.json
// decides, else the neutral value. Ranges are stated in proto/sluice/v1/generation.proto.
struct SamplingOptions {
  std::optional<float> temperature;
  std::optional<int64_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::vector<std::pair<int64_t, float>> logit_bias;  // token id, bias
  std::optional<uint64_t> seed;
};

struct StoppingOptions {
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
};

enum class RequestKind : uint8_t {
  kGenerate,  // draw tokens after the prompt
  kScore,     // log-probabilities of the prompt's tokens, nothing drawn
};

// Where a request came from, for logs and metrics. Passed from the Request on to its Outcome; the
// engine never reads it.
struct Origin {
  std::string peer;            // the connection's far end
  std::string tenant;          // whose API key it brought; empty: no keys are asked for
  std::string key;             // the API key's name; may be empty
  std::string trace_id;        // W3C trace context; empty: none was given
  std::string parent_span_id;  // the caller's span
  std::string span_id;         // this request's
};

// What one client may ask for, beside the limits that hold for all.
struct ClientLimits {
  int32_t max_prompt_tokens = std::numeric_limits<int32_t>::max();
  int32_t max_output_tokens = std::numeric_limits<int32_t>::max();
};

struct Request {
  RequestKind kind = RequestKind::kGenerate;
  std::string id;  // for logs; empty: the engine makes one
  Origin origin;
  ClientLimits client_limits;
  std::optional<std::string> text;  // exactly one of text and token_ids
  std::optional<std::vector<int64_t>> token_ids;
  SamplingOptions sampling;
  StoppingOptions stopping;
  bool logprobs = false;     // of each output token (kScore: always)
  int64_t top_logprobs = 0;  // and of this many most likely ones
  bool echo = false;         // return the prompt first
  absl::Time deadline = absl::InfiniteFuture();
};

struct TopToken {
  int32_t token;
  float logprob;
};

struct OutputToken {
  int32_t token;
  std::optional<float> logprob;  // unset if not asked for, or nothing predicts it
  std::vector<TopToken> top;
};

// One increment of a request's output.
struct Output {
  std::string text;  // valid UTF-8; what became certain
  std::vector<OutputToken> tokens;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled };

// The end of a request, and the record that logs and metrics are made from.
struct Outcome {
  absl::Status status;  // not OK: reason is without meaning
  FinishReason reason = FinishReason::kLength;
  std::optional<std::string> stop_string;  // what stopped it, if reason is kStop
  std::optional<int32_t> stop_token;
  std::string request_id;
  Origin origin;
  RequestKind kind = RequestKind::kGenerate;
  uint64_t seed = 0;
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;
  double queue_seconds = 0;        // arrival until planned into a step
  double prefill_seconds = 0;      // until the first token
  double decode_seconds = 0;       // first token until the last
  double first_token_seconds = 0;  // arrival until the first token; 0 if there was none
};

enum class SinkState : uint8_t {
  kReady,
  kBacklogged,  // give it nothing more for now; the sequence keeps its state and waits
  kCancelled,   // nobody listens any more
};

// Receives one request's output. Methods are called on the engine thread, which they must not hold
// up: no waiting, no I/O. OnOutput is called any number of times, then OnDone once, and nothing
// after it.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void OnOutput(Output output) = 0;
  virtual void OnDone(Outcome outcome) = 0;
  // Looked at before each step. After a change towards kReady or kCancelled call Engine::Wake.
  virtual SinkState State() const = 0;
};

}  // namespace sluice
