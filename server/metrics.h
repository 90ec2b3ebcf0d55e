// What the engine does, as Prometheus metrics: base units, sizes in tokens, times in seconds.
//
// Histograms of whole requests are of those that ended well; those of tokens and steps are of all.
// Gauges are read from the engine when they are scraped.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "engine/engine.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sluice {

// Thread-safe; none of the engine's calls waits.
class Metrics final : public EngineObserver {
 public:
  Metrics();

  void OnStep(const StepRecord& record) override;
  void OnFirstToken(double seconds_since_arrival) override;
  void OnNextToken(double seconds_since_previous) override;
  void OnDone(const Outcome& outcome) override;

  // Whose gauges to read; null while there is none. The engine lives until it is set to null.
  void SetEngine(const Engine* engine);

  // What an exposer serves.
  std::vector<std::shared_ptr<prometheus::Collectable>> Collectables() const;

 private:
  class EngineGaugeReader;

  std::shared_ptr<prometheus::Registry> registry_;
  std::shared_ptr<EngineGaugeReader> gauges_;

  prometheus::Histogram& first_token_seconds_;
  prometheus::Histogram& next_token_seconds_;
  prometheus::Histogram& request_seconds_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Histogram& prefill_seconds_;
  prometheus::Histogram& decode_seconds_;
  prometheus::Histogram& request_prompt_tokens_;
  prometheus::Histogram& request_output_tokens_;
  prometheus::Histogram& step_seconds_;
  prometheus::Histogram& batch_size_;
  prometheus::Histogram& step_prefill_tokens_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& output_tokens_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& errors_;
};

}  // namespace sluice
