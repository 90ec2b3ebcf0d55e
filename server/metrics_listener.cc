#include "server/metrics_listener.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

// A connection holds a thread until its request has come, so that many more silent ones than
// threads hold a scrape up for some seconds and not for good.
constexpr char kThreads[] = "16";
constexpr char kRequestLimitMs[] = "1000";

// Connects to a port of this machine and hangs up.
void Ring(int port) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  (void)connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  close(descriptor);
}

}  // namespace

MetricsListener::~MetricsListener() {
  if (exposer_ == nullptr) return;
  // civetweb looks every two seconds whether it is to stop, or when somebody calls. Where nobody
  // can, on an address that loopback does not reach, that is how long it takes.
  const int port = exposer_->GetListeningPorts().at(0);
  std::atomic<bool> stopped = false;
  std::thread caller([&stopped, port] {
    while (!stopped) {
      Ring(port);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  exposer_ = nullptr;
  stopped = true;
  caller.join();
}

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(
    const std::string& address,
    std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  std::unique_ptr<MetricsListener> listener(new MetricsListener);
  listener->collectables_ = std::move(collectables);
  try {
    listener->exposer_ = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", kThreads,
                                 "request_timeout_ms", kRequestLimitMs});
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
