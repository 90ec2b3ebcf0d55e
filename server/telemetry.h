// What the engine and the gate report, passed on to the metrics and to the log.
#pragma once

#include "server/metrics.h"
#include "server/refusal.h"
#include "server/refusal_log.h"
#include "server/request_log.h"

namespace sluice {

// Thread-safe. The metrics outlive it.
class Telemetry final : public EngineObserver, public RefusalObserver {
 public:
  explicit Telemetry(Metrics* metrics) : metrics_(metrics) {}

  void OnStep(const StepRecord& record) override { metrics_->OnStep(record); }
  void OnFirstToken(double seconds) override { metrics_->OnFirstToken(seconds); }
  void OnNextToken(double seconds) override { metrics_->OnNextToken(seconds); }
  void OnDone(const Outcome& outcome) override {
    metrics_->OnDone(outcome);
    LogRequest(outcome);
  }
  void OnRefusal(const Refusal& refusal) override {
    metrics_->OnRefusal(refusal.reason);
    refusal_log_.Write(refusal);
  }

 private:
  Metrics* metrics_;
  RefusalLog refusal_log_;
};

}  // namespace sluice
