#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "prometheus/text_serializer.h"
#include "server/metrics_listener.h"
#include "tests/server/fake_engine.h"
#include "tests/server/http_get.h"

namespace sluice {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

std::string Text(const Metrics& metrics) {
  std::vector<prometheus::MetricFamily> families;
  for (const auto& collectable : metrics.Collectables()) {
    for (prometheus::MetricFamily& family : collectable->Collect()) {
      families.push_back(std::move(family));
    }
  }
  return prometheus::TextSerializer().Serialize(families);
}

Outcome Generated(FinishReason reason) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.prompt_tokens = 10;
  outcome.output_tokens = 20;
  outcome.queue_seconds = 0.5;
  outcome.prefill_seconds = 0.25;
  outcome.decode_seconds = 1.0;
  return outcome;
}

TEST(Metrics, CountsStepsTokensAndLatencies) {
  Metrics metrics;
  metrics.OnStep({0.0025, 3, 128, 4});
  metrics.OnStep({0.0015, 4, 0, 4});
  metrics.OnFirstToken(0.0042);
  metrics.OnNextToken(0.0021);
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_prompt_tokens_total 128\n"));
  EXPECT_THAT(text, HasSubstr("sluice_output_tokens_total 8\n"));
  EXPECT_THAT(text, HasSubstr("sluice_step_duration_seconds_count 2\n"));
  EXPECT_THAT(text, HasSubstr("sluice_batch_size_sum 7\n"));
  EXPECT_THAT(text, HasSubstr("sluice_step_prefill_tokens_sum 128\n"));
  // 1 ms is resolved.
  EXPECT_THAT(text, HasSubstr("sluice_time_to_first_token_seconds_bucket{le=\"0.004\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("sluice_time_to_first_token_seconds_bucket{le=\"0.005\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_inter_token_latency_seconds_bucket{le=\"0.002\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("sluice_inter_token_latency_seconds_bucket{le=\"0.003\"} 1\n"));
}

TEST(Metrics, CountsRequestsByOutcomeAndErrorsByCode) {
  Metrics metrics;
  metrics.OnDone(Generated(FinishReason::kStop));
  metrics.OnDone(Generated(FinishReason::kLength));
  metrics.OnDone(Generated(FinishReason::kLength));
  Outcome failed = Generated(FinishReason::kLength);
  failed.status = absl::ResourceExhaustedError("full");
  metrics.OnDone(failed);
  failed.status = absl::CancelledError("left");
  metrics.OnDone(failed);
  Outcome score = Generated(FinishReason::kLength);
  score.kind = RequestKind::kScore;
  metrics.OnDone(score);
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_requests_total{kind=\"generate\",outcome=\"stop\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_total{kind=\"generate\",outcome=\"length\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_total{kind=\"generate\",outcome=\"error\"} 1\n"));
  EXPECT_THAT(text,
              HasSubstr("sluice_requests_total{kind=\"generate\",outcome=\"cancelled\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_total{kind=\"score\",outcome=\"complete\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_errors_total{code=\"RESOURCE_EXHAUSTED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_errors_total{code=\"CANCELLED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_errors_total{code=\"UNAVAILABLE\"} 0\n"));
  // Times are of what ended well.
  EXPECT_THAT(text, HasSubstr("sluice_request_duration_seconds_count 4\n"));
  EXPECT_THAT(text, HasSubstr("sluice_request_duration_seconds_sum 7\n"));
  EXPECT_THAT(text, HasSubstr("sluice_request_queue_seconds_sum 2\n"));
  EXPECT_THAT(text, HasSubstr("sluice_request_prefill_seconds_sum 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_request_decode_seconds_sum 3\n"));
  EXPECT_THAT(text, HasSubstr("sluice_request_prompt_tokens_sum 40\n"));
  EXPECT_THAT(text, HasSubstr("sluice_request_output_tokens_sum 60\n"));
}

TEST(Metrics, CountsRefusalsByReason) {
  Metrics metrics;
  EXPECT_THAT(Text(metrics), HasSubstr("sluice_requests_refused_total{reason=\"limit\"} 0\n"));
  metrics.OnRefusal(RefusalReason::kKey);
  metrics.OnRefusal(RefusalReason::kRate);
  metrics.OnRefusal(RefusalReason::kRate);
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_requests_refused_total{reason=\"key\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_refused_total{reason=\"rate\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_refused_total{reason=\"concurrency\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_refused_total{reason=\"method\"} 0\n"));
}

TEST(Metrics, CountsTenantsByNameUpToALimit) {
  Metrics metrics;
  metrics.OnDone(Generated(FinishReason::kStop));
  EXPECT_THAT(Text(metrics), Not(HasSubstr("sluice_tenant_"))) << "a request without a tenant";
  Outcome outcome = Generated(FinishReason::kStop);
  for (size_t i = 0; i < TenantMetrics::kMaxTenants + 50; ++i) {
    outcome.origin.tenant = "tenant" + std::to_string(i);
    metrics.OnDone(outcome);
  }
  outcome.origin.tenant = "tenant0";
  outcome.status = absl::CancelledError("left");
  metrics.OnDone(outcome);
  const std::string text = Text(metrics);
  EXPECT_THAT(text,
              HasSubstr("sluice_tenant_requests_total{outcome=\"stop\",tenant=\"tenant0\"} 1\n"));
  EXPECT_THAT(
      text, HasSubstr("sluice_tenant_requests_total{outcome=\"cancelled\",tenant=\"tenant0\"} 1"));
  EXPECT_THAT(text,
              HasSubstr("sluice_tenant_requests_total{outcome=\"error\",tenant=\"tenant0\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("sluice_tenant_prompt_tokens_total{tenant=\"tenant0\"} 20\n"));
  EXPECT_THAT(text, HasSubstr("sluice_tenant_output_tokens_total{tenant=\"tenant99\"} 20\n"));
  EXPECT_THAT(text, Not(HasSubstr("tenant=\"tenant100\"")));
  EXPECT_THAT(text,
              HasSubstr("sluice_tenant_requests_total{outcome=\"stop\",tenant=\"other\"} 50\n"));
  EXPECT_THAT(text, HasSubstr("sluice_tenant_output_tokens_total{tenant=\"other\"} 1000\n"));
}

TEST(Metrics, CountsReloadsByFileAndResult) {
  Metrics metrics;
  EXPECT_THAT(Text(metrics), Not(HasSubstr("sluice_file_reloads_total")));
  EXPECT_THAT(Text(metrics), HasSubstr("sluice_api_keys 0\n"));
  metrics.SetApiKeys(3);
  metrics.OnFileReload("api_keys", true, 0);
  std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_api_keys 3\n"));
  EXPECT_THAT(text, HasSubstr("sluice_file_reloads_total{file=\"api_keys\",result=\"ok\"} 0\n"));
  metrics.OnFileReload("api_keys", false);
  metrics.OnFileReload("api_keys", true);
  metrics.OnFileReload("api_keys", true);
  text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_file_reloads_total{file=\"api_keys\",result=\"ok\"} 2\n"));
  EXPECT_THAT(text,
              HasSubstr("sluice_file_reloads_total{file=\"api_keys\",result=\"failed\"} 1\n"));
}

TEST(Metrics, ReadsGaugesWhenScraped) {
  Metrics metrics;
  EXPECT_THAT(Text(metrics), Not(HasSubstr("sluice_requests_running")));
  FakeEngine engine;
  metrics.SetEngine(&engine);
  EngineGauges gauges;
  gauges.running = 3;
  gauges.waiting = 2;
  gauges.slots_used = 3;
  gauges.slots_total = 4;
  engine.SetGauges(gauges);
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr("sluice_requests_running 3\n"));
  EXPECT_THAT(text, HasSubstr("sluice_requests_waiting 2\n"));
  EXPECT_THAT(text, HasSubstr("sluice_state_slots{state=\"used\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("sluice_state_slots{state=\"free\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("sluice_state_bytes 4096\n"));
  EXPECT_THAT(text, HasSubstr("sluice_device_memory_bytes{part=\"weights\"} 100\n"));
  EXPECT_THAT(text, HasSubstr("sluice_device_memory_bytes{part=\"states\"} 20480\n"));
  EXPECT_THAT(text, HasSubstr("sluice_device_memory_bytes{part=\"buffers\"} 30\n"));
  EXPECT_THAT(text, ContainsRegex("sluice_build_info\\{version=\"[^\"]+\",commit=\"[^\"]+\","
                                  "device=\"pretended\",model=\"fake\",dtype=\"float32\"\\} 1\n"));
  metrics.SetEngine(nullptr);
  EXPECT_THAT(Text(metrics), Not(HasSubstr("sluice_requests_running")));
}

TEST(Metrics, EveryFamilyHasHelp) {
  FakeEngine engine;
  Metrics metrics;
  metrics.SetEngine(&engine);
  size_t families = 0;
  for (const auto& collectable : metrics.Collectables()) {
    for (const prometheus::MetricFamily& family : collectable->Collect()) {
      EXPECT_FALSE(family.help.empty()) << family.name;
      ++families;
    }
  }
  EXPECT_GE(families, 20U);
}

TEST(Metrics, ReportsTheProcess) {
  const Metrics metrics;
  const std::string text = Text(metrics);
  EXPECT_THAT(text, ContainsRegex("process_resident_memory_bytes [1-9]"));
  EXPECT_THAT(text, ContainsRegex("process_start_time_seconds [1-9]"));
  EXPECT_THAT(text, ContainsRegex("process_open_fds [1-9]"));
  EXPECT_THAT(text, HasSubstr("# TYPE process_cpu_seconds_total counter\n"));
}

TEST(MetricsListener, ServesOverHttp) {
  Metrics metrics;
  metrics.OnStep({0.001, 1, 0, 1});
  const auto listener = MetricsListener::Start("127.0.0.1:0", metrics.Collectables());
  ASSERT_TRUE(listener.ok()) << listener.status();
  const std::string body = HttpGet((*listener)->url());
  EXPECT_THAT(body, HasSubstr("200 OK"));
  EXPECT_THAT(body, HasSubstr("sluice_output_tokens_total 1\n"));
}

TEST(MetricsListener, StopsAtOnce) {
  const Metrics metrics;
  auto listener = MetricsListener::Start("127.0.0.1:0", metrics.Collectables());
  ASSERT_TRUE(listener.ok()) << listener.status();
  const absl::Time begin = absl::Now();
  *listener = nullptr;
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1)) << "civetweb's own takes two";
}

TEST(MetricsListener, NamesAnAddressThatItCannotHave) {
  const Metrics metrics;
  const auto first = MetricsListener::Start("127.0.0.1:0", metrics.Collectables());
  ASSERT_TRUE(first.ok());
  const std::string url = (*first)->url();
  const std::string address = url.substr(7, url.find("/metrics") - 7);
  const auto second = MetricsListener::Start(address, metrics.Collectables());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--metrics-listen=" + address));
}

}  // namespace
}  // namespace sluice
