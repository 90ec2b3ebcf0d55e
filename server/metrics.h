// What the engine does, as Prometheus metrics: base units, sizes in tokens, times in seconds.
//
// Histograms of whole requests are of those that ended well; those of tokens and steps are of all.
// Gauges are read from the engine when they are scraped.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "server/refusal.h"
#include "server/tenant_metrics.h"

namespace sluice {

// Thread-safe; none of the engine's calls waits.
class Metrics final : public EngineObserver {
 public:
  Metrics();

  void OnStep(const StepRecord& record) override;
  void OnFirstToken(double seconds_since_arrival) override;
  void OnNextToken(double seconds_since_previous) override;
  void OnDone(const Outcome& outcome) override;

  void OnRefusal(RefusalReason reason);
  void SetApiKeys(size_t keys);
  // Of a file that is read anew when it changes, by what it is for: "api_keys". The first call for
  // it is to show that nothing has happened yet, by `times` 0.
  void OnFileReload(const std::string& file, bool ok, int times = 1);

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
  prometheus::Family<prometheus::Counter>& refusals_;
  prometheus::Family<prometheus::Counter>& file_reloads_;
  prometheus::Gauge& api_keys_;
  TenantMetrics tenants_;
};

}  // namespace sluice
