#include "server/server_metrics.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/time/clock.h"
#include "tests/server/fake_engine.h"
#include "tests/server/test_certificates.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

// Each sample by its family's name and its first label's value.
std::map<std::string, double> Samples(const ServerMetrics& metrics) {
  std::map<std::string, double> samples;
  for (const auto& family : metrics.Collect()) {
    for (const auto& metric : family.metric) {
      const bool counts = family.type == prometheus::MetricType::Counter;
      const std::string name =
          metric.label.empty() ? family.name : family.name + " " + metric.label[0].value;
      samples[name] = counts ? metric.counter.value : metric.gauge.value;
    }
  }
  return samples;
}

class ServerMetricsTest : public testing::Test {
 protected:
  FakeEngine engine_;
  TestServer server_;
  Health health_{server_.server->health()};
};

TEST_F(ServerMetricsTest, ReadsConnectionsAsTheyAre) {
  ConnectionCounts counts;
  const ServerMetrics metrics([&] { return counts; }, &health_, nullptr);
  EXPECT_EQ(Samples(metrics).at("sluice_connections"), 0);
  counts = {12, 3, 4};
  const auto samples = Samples(metrics);
  EXPECT_EQ(samples.at("sluice_connections"), 12);
  EXPECT_EQ(samples.at("sluice_connections_refused_total limit"), 3);
  EXPECT_EQ(samples.at("sluice_connections_refused_total descriptors"), 4);
}

TEST_F(ServerMetricsTest, SaysWhatHealthSays) {
  const ServerMetrics metrics([] { return ConnectionCounts(); }, &health_, nullptr);
  EXPECT_EQ(Samples(metrics).at("sluice_serving"), 0);
  health_.StartServing(&engine_, absl::Seconds(30));
  EXPECT_EQ(Samples(metrics).at("sluice_serving"), 1);
  health_.StartDraining();
  EXPECT_EQ(Samples(metrics).at("sluice_serving"), 0);
}

TEST_F(ServerMetricsTest, SaysWhenTheCertificateExpires) {
  const TestAuthority authority;
  const KeyPair pair = authority.Issue("server");
  const std::string path = testing::TempDir() + "server_metrics_test";
  ReplaceFile(path + ".cert", pair.cert);
  ReplaceFile(path + ".key", pair.key);
  const auto tls = *Tls::Open({path + ".cert", path + ".key", ""}, absl::Hours(1), nullptr);
  const ServerMetrics metrics([] { return ConnectionCounts(); }, &health_, tls.get());
  EXPECT_NEAR(Samples(metrics).at("sluice_tls_certificate_expiry_timestamp_seconds"),
              static_cast<double>(absl::ToUnixSeconds(absl::Now() + absl::Hours(1))), 600);
  const ServerMetrics without([] { return ConnectionCounts(); }, &health_, nullptr);
  EXPECT_EQ(Samples(without).count("sluice_tls_certificate_expiry_timestamp_seconds"), 0U);
}

}  // namespace
}  // namespace sluice
