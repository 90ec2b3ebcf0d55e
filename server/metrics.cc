#include "server/metrics.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "engine/sequence.h"
#include "server/log.h"
#include "server/outcome_name.h"
#include "server/process_metrics.h"
#include "server/version.h"

namespace sluice {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// Resolves 1 ms up to 5 ms, where a small model's steps are, and then about a third of an octave.
Buckets TokenSeconds() {
  return {0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
          0.05,   0.075, 0.1,   0.15,  0.2,   0.3,   0.5,    0.75, 1,     2,    5};
}

Buckets RequestSeconds() {
  return {0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
          0.075, 0.1,   0.15,  0.2,   0.3,   0.5,    0.75, 1,     1.5,  2,    3,
          5,     7.5,   10,    20,    30,    60,     120,  300,   600,  1800};
}

Buckets TokenCounts() {
  return {1,    2,    4,    8,    16,    32,    64,    128,    256,    512,
          1024, 2048, 4096, 8192, 16384, 32768, 65536, 262144, 1048576};
}

Buckets RowCounts() { return {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}; }

Buckets PrefillCounts() {
  return {0, 1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
}

prometheus::Histogram& AddHistogram(prometheus::Registry& registry, const char* name,
                                    const char* help, const Buckets& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

prometheus::Counter& AddCounter(prometheus::Registry& registry, const char* name,
                                const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

MetricFamily GaugeFamily(const char* name, const char* help) {
  return {name, help, MetricType::Gauge, {}};
}

void AddGauge(MetricFamily* family, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  family->metric.push_back(std::move(metric));
}

// What the log has lost.
class LostLines final : public prometheus::Collectable {
 public:
  std::vector<MetricFamily> Collect() const override {
    ClientMetric metric;
    metric.counter.value = static_cast<double>(LostLogLines());
    return {{"sluice_log_lines_lost_total",
             "Log lines that standard error did not take.",
             MetricType::Counter,
             {metric}}};
  }
};

MetricFamily BuildInfo(const EngineInfo& info) {
  MetricFamily family = GaugeFamily("sluice_build_info", "1; what is running is in the labels.");
  AddGauge(&family, 1,
           {{"version", std::string(ServerVersion())},
            {"commit", std::string(ServerCommit())},
            {"device", info.device},
            {"model", info.model_name},
            {"dtype", info.weight_dtype}});
  return family;
}

std::vector<MetricFamily> EngineFamilies(const Engine& engine) {
  const EngineGauges gauges = engine.Gauges();
  MetricFamily running = GaugeFamily("sluice_requests_running", "Requests that hold a state slot.");
  AddGauge(&running, gauges.running);
  MetricFamily waiting =
      GaugeFamily("sluice_requests_waiting", "Requests that wait for a state slot.");
  AddGauge(&waiting, gauges.waiting);
  MetricFamily tokens = GaugeFamily("sluice_waiting_tokens",
                                    "Prompt tokens of the requests that wait for a state slot.");
  AddGauge(&tokens, static_cast<double>(gauges.waiting_tokens));
  MetricFamily slots = GaugeFamily("sluice_state_slots", "Slots of the state pool.");
  AddGauge(&slots, gauges.slots_used, {{"state", "used"}});
  AddGauge(&slots, gauges.slots_total - gauges.slots_used, {{"state", "free"}});
  MetricFamily bytes =
      GaugeFamily("sluice_state_bytes", "Bytes of one state slot, the same at any length.");
  AddGauge(&bytes, static_cast<double>(engine.info().state_bytes));
  MetricFamily memory = GaugeFamily("sluice_device_memory_bytes",
                                    "The device's memory, taken at start: of weights, of all "
                                    "state slots, and of the buffers of steps.");
  AddGauge(&memory, static_cast<double>(engine.info().weight_bytes), {{"part", "weights"}});
  AddGauge(&memory, static_cast<double>(engine.info().pool_bytes), {{"part", "states"}});
  AddGauge(&memory, static_cast<double>(engine.info().buffer_bytes), {{"part", "buffers"}});
  return {std::move(running), std::move(waiting), std::move(tokens),       std::move(slots),
          std::move(bytes),   std::move(memory),  BuildInfo(engine.info())};
}

}  // namespace

class Metrics::EngineGaugeReader final : public prometheus::Collectable {
 public:
  void Set(const Engine* engine) {
    const std::lock_guard<std::mutex> lock(mutex_);
    engine_ = engine;
  }

  std::vector<MetricFamily> Collect() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return engine_ == nullptr ? std::vector<MetricFamily>{} : EngineFamilies(*engine_);
  }

 private:
  mutable std::mutex mutex_;
  const Engine* engine_ = nullptr;  // guarded by mutex_
};

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      gauges_(std::make_shared<EngineGaugeReader>()),
      first_token_seconds_(AddHistogram(*registry_, "sluice_time_to_first_token_seconds",
                                        "From a request's arrival until its first token.",
                                        RequestSeconds())),
      next_token_seconds_(AddHistogram(*registry_, "sluice_inter_token_latency_seconds",
                                       "Between two tokens of one request.", TokenSeconds())),
      request_seconds_(AddHistogram(*registry_, "sluice_request_duration_seconds",
                                    "From a request's arrival until its last token.",
                                    RequestSeconds())),
      queue_seconds_(AddHistogram(*registry_, "sluice_request_queue_seconds",
                                  "From a request's arrival until it was planned into a step.",
                                  RequestSeconds())),
      prefill_seconds_(AddHistogram(*registry_, "sluice_request_prefill_seconds",
                                    "From there until the request's first token.",
                                    RequestSeconds())),
      decode_seconds_(AddHistogram(*registry_, "sluice_request_decode_seconds",
                                   "From a request's first token until its last.",
                                   RequestSeconds())),
      request_prompt_tokens_(AddHistogram(*registry_, "sluice_request_prompt_tokens",
                                          "Tokens of a request's prompt.", TokenCounts())),
      request_output_tokens_(AddHistogram(*registry_, "sluice_request_output_tokens",
                                          "Tokens generated for a request.", TokenCounts())),
      step_seconds_(AddHistogram(*registry_, "sluice_step_duration_seconds",
                                 "One forward pass over the batch, with planning and delivery.",
                                 TokenSeconds())),
      batch_size_(AddHistogram(*registry_, "sluice_batch_size",
                               "Requests that decoded a token in a step.", RowCounts())),
      step_prefill_tokens_(AddHistogram(*registry_, "sluice_step_prefill_tokens",
                                        "Prompt tokens read in a step.", PrefillCounts())),
      prompt_tokens_(AddCounter(*registry_, "sluice_prompt_tokens_total", "Prompt tokens read.")),
      output_tokens_(AddCounter(*registry_, "sluice_output_tokens_total", "Tokens generated.")),
      requests_(prometheus::BuildCounter()
                    .Name("sluice_requests_total")
                    .Help("Requests that ended, by how they ended.")
                    .Register(*registry_)),
      errors_(prometheus::BuildCounter()
                  .Name("sluice_errors_total")
                  .Help("Requests that ended with an error, by gRPC status code.")
                  .Register(*registry_)),
      refusals_(prometheus::BuildCounter()
                    .Name("sluice_requests_refused_total")
                    .Help("Calls refused for who made them, by reason.")
                    .Register(*registry_)),
      file_reloads_(prometheus::BuildCounter()
                        .Name("sluice_file_reloads_total")
                        .Help("Changed files that were read anew, by what they are for.")
                        .Register(*registry_)),
      api_keys_(prometheus::BuildGauge()
                    .Name("sluice_api_keys")
                    .Help("API keys in force; 0 if none are asked for.")
                    .Register(*registry_)
                    .Add({})),
      tenants_(registry_.get()) {
  // Series that exist from the start can be subtracted from, so the first event shows in a rate.
  for (const char* outcome : {"stop", "length", "cancelled", "error"}) {
    requests_.Add({{"kind", "generate"}, {"outcome", outcome}});
  }
  for (const char* outcome : {"complete", "cancelled", "error"}) {
    requests_.Add({{"kind", "score"}, {"outcome", outcome}});
  }
  for (int code = 1; code <= 16; ++code) {
    errors_.Add({{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
  for (const std::string_view reason : kRefusalReasonNames) {
    refusals_.Add({{"reason", std::string(reason)}});
  }
}

void Metrics::OnStep(const StepRecord& record) {
  step_seconds_.Observe(record.seconds);
  batch_size_.Observe(record.decode_rows);
  step_prefill_tokens_.Observe(record.prefill_rows);
  prompt_tokens_.Increment(record.prefill_rows);
  output_tokens_.Increment(record.output_tokens);
}

void Metrics::OnFirstToken(double seconds_since_arrival) {
  first_token_seconds_.Observe(seconds_since_arrival);
}

void Metrics::OnNextToken(double seconds_since_previous) {
  next_token_seconds_.Observe(seconds_since_previous);
}

void Metrics::OnDone(const Outcome& outcome) {
  requests_.Add({{"kind", KindName(outcome.kind)}, {"outcome", OutcomeName(outcome)}}).Increment();
  tenants_.OnDone(outcome);
  if (IsOverClientLimit(outcome.status)) OnRefusal(RefusalReason::kLimit);
  if (!outcome.status.ok()) {
    errors_.Add({{"code", absl::StatusCodeToString(outcome.status.code())}}).Increment();
    return;
  }
  queue_seconds_.Observe(outcome.queue_seconds);
  prefill_seconds_.Observe(outcome.prefill_seconds);
  request_seconds_.Observe(outcome.queue_seconds + outcome.prefill_seconds +
                           outcome.decode_seconds);
  request_prompt_tokens_.Observe(outcome.prompt_tokens);
  if (outcome.kind == RequestKind::kScore) return;
  decode_seconds_.Observe(outcome.decode_seconds);
  request_output_tokens_.Observe(outcome.output_tokens);
}

void Metrics::OnRefusal(RefusalReason reason) {
  refusals_.Add({{"reason", std::string(RefusalReasonName(reason))}}).Increment();
}

void Metrics::SetApiKeys(size_t keys) { api_keys_.Set(static_cast<double>(keys)); }

void Metrics::OnFileReload(const std::string& file, bool ok, int times) {
  for (const char* result : {"ok", "failed"}) {
    prometheus::Counter& counter = file_reloads_.Add({{"file", file}, {"result", result}});
    if (ok == (std::string_view(result) == "ok")) counter.Increment(times);
  }
}

void Metrics::SetEngine(const Engine* engine) { gauges_->Set(engine); }

std::vector<std::shared_ptr<prometheus::Collectable>> Metrics::Collectables() const {
  return {registry_, gauges_, std::make_shared<ProcessMetrics>(), std::make_shared<LostLines>()};
}

}  // namespace sluice
