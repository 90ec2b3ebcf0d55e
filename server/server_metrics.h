// What the server itself has to tell beside its engine, as Prometheus metrics, read when they are
// scraped: connections, health, the certificate.
#pragma once

#include <functional>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "server/connection_acceptor.h"
#include "server/health.h"
#include "server/tls.h"

namespace sluice {

// Thread-safe.
class ServerMetrics final : public prometheus::Collectable {
 public:
  // What it reads outlives it. `tls` may be null.
  ServerMetrics(std::function<ConnectionCounts()> connections, const Health* health, const Tls* tls)
      : connections_(std::move(connections)), health_(health), tls_(tls) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::function<ConnectionCounts()> connections_;
  const Health* const health_;
  const Tls* const tls_;
};

}  // namespace sluice
