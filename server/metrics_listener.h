// Serves metrics over HTTP at /metrics.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"

namespace sluice {

class MetricsListener {
 public:
  // Listens on host:port. Unavailable: the address cannot be had.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(
      const std::string& address,
      std::vector<std::shared_ptr<prometheus::Collectable>> collectables);

  // Stops serving, at once.
  ~MetricsListener();
  MetricsListener(const MetricsListener&) = delete;
  MetricsListener& operator=(const MetricsListener&) = delete;

  // With the port that was got, if 0 was asked for.
  const std::string& url() const { return url_; }

 private:
  MetricsListener() = default;

  std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string url_;
};

}  // namespace sluice
