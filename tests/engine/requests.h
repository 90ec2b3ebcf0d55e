// Requests of token ids, and what comes of them.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/recording_sink.h"

namespace sluice {

// Ids 0..255 without an order; others for another seed.
inline std::vector<int64_t> Tokens(int64_t count, int64_t seed) {
  std::vector<int64_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = (seed * 131 + i * 97 + i * i * 29) % 256;
  return tokens;
}

inline Request Score(std::vector<int64_t> tokens) {
  Request request;
  request.kind = RequestKind::kScore;
  request.token_ids = std::move(tokens);
  return request;
}

// Greedily, all of them, with their log-probabilities.
inline Request Generate(std::vector<int64_t> tokens, int64_t max_tokens) {
  Request request;
  request.token_ids = std::move(tokens);
  request.stopping.max_tokens = max_tokens;
  request.stopping.ignore_eos = true;
  request.sampling.temperature = 0.0F;
  request.logprobs = true;
  return request;
}

inline std::shared_ptr<RecordingSink> Start(Engine* engine, Request request) {
  auto sink = std::make_shared<RecordingSink>();
  const absl::Status status = engine->Submit(std::move(request), sink);
  EXPECT_TRUE(status.ok()) << status;
  return sink;
}

inline std::vector<OutputToken> Finish(Engine* engine, Request request) {
  auto sink = Start(engine, std::move(request));
  const Outcome outcome = sink->Wait();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  return sink->tokens();
}

}  // namespace sluice
