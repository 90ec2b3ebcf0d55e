#include "server/server_metrics.h"

#include <string>
#include <utility>

namespace sluice {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Gauge(const char* name, const char* help, double value) {
  ClientMetric metric;
  metric.gauge.value = value;
  return {name, help, MetricType::Gauge, {metric}};
}

ClientMetric Count(const char* reason, int64_t count) {
  ClientMetric metric;
  metric.label = {{"reason", reason}};
  metric.counter.value = static_cast<double>(count);
  return metric;
}

}  // namespace

std::vector<MetricFamily> ServerMetrics::Collect() const {
  const ConnectionCounts counts = connections_();
  std::vector<MetricFamily> families;
  families.push_back(Gauge("sluice_connections", "Open connections of clients.",
                           static_cast<double>(counts.open)));
  families.push_back({"sluice_connections_refused_total",
                      "Connections closed at once: over the limit, or no file descriptor left.",
                      MetricType::Counter,
                      {Count("limit", counts.refused_by_limit),
                       Count("descriptors", counts.refused_by_descriptors)}});
  ClientMetric cut;
  cut.counter.value = static_cast<double>(counts.cut);
  families.push_back({"sluice_connections_cut_total",
                      "Connections ended because they filled the memory or flooded.",
                      MetricType::Counter,
                      {cut}});
  families.push_back(
      Gauge("sluice_serving", "What health says: 1 SERVING, 0 NOT_SERVING.", health_->serving()));
  if (tls_ != nullptr) {
    families.push_back(Gauge("sluice_tls_certificate_expiry_timestamp_seconds",
                             "When the certificate in use expires, or the first of its chain.",
                             absl::ToDoubleSeconds(tls_->expires() - absl::UnixEpoch())));
  }
  return families;
}

}  // namespace sluice
