#include "server/metrics_listener.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(
    const std::string& address,
    std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  std::unique_ptr<MetricsListener> listener(new MetricsListener);
  listener->collectables_ = std::move(collectables);
  try {
    listener->exposer_ = std::make_unique<prometheus::Exposer>(address);
    for (const auto& collectable : listener->collectables_) {
      listener->exposer_->RegisterCollectable(collectable);
    }
    const int port = listener->exposer_->GetListeningPorts().at(0);
    listener->url_ =
        absl::StrCat("http://", address.substr(0, address.rfind(':')), ":", port, "/metrics");
  } catch (const std::exception&) {
    // civetweb says no more than that it failed.
    return absl::UnavailableError(
        absl::StrCat("--metrics-listen=", address,
                     ": cannot listen there; is the port in use, or the host no "
                     "numeric address of this machine?"));
  }
  return listener;
}

}  // namespace sluice
