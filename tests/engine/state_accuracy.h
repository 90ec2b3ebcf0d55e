// What rounded states and weights cost: how far the distribution of the next token is from that of
// states that are stored in float32, written at every token, and weights as the checkpoint's.
//
// That model draws the tokens, at temperature 1, and the same model with states of every other
// format is given the same ones. All of them decode, one token a step, each sequence a step after
// the one before it, so that a step finds their rings filled to different lengths.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine_config.h"

namespace sluice {

struct StateOption {
  std::string type;                    // EngineConfig's state_type
  int32_t ring;                        // its state_ring
  std::string weights = "checkpoint";  // and its weight_type
};

struct AccuracyRun {
  EngineConfig config;     // of the model; what an option has is not read
  int32_t sequences = 16;  // 1..256
  int32_t tokens = 1000;   // that each draws, >= 1
  uint64_t seed = 1;       // of what is drawn
  std::vector<StateOption> options;
};

// KL divergences, in nats, of the distribution with float32 from that with the option.
struct StateAccuracy {
  double mean = 0;
  double p99 = 0;
  double max = 0;
  double first_tenth = 0;  // mean over the first tenth of every sequence's tokens
  double last_tenth = 0;
  double same_argmax = 0;        // share of tokens
  double perplexity_change = 0;  // of the drawn tokens, as a share of that with float32
};

struct AccuracyReport {
  std::string device;
  std::string weight_dtype;
  double perplexity = 0;               // of the drawn tokens, with float32
  StateAccuracy without;               // of a model without memory: what states are worth
  std::vector<StateAccuracy> options;  // as the run's
};

// Prompts are the beginnings of a few sentences, or random tokens if the model has no tokenizer.
// Errors as Engine::Create.
absl::StatusOr<AccuracyReport> MeasureStateAccuracy(const AccuracyRun& run);

}  // namespace sluice
