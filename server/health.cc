#include "server/health.h"

#include <algorithm>

#include "server/log.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"

namespace sluice {

Health::Health(grpc::HealthCheckServiceInterface* service) : service_(service) { Set(false); }

Health::~Health() { StartDraining(); }

void Health::Set(bool serving) {
  service_->SetServingStatus("", serving);
  service_->SetServingStatus(v1::GenerationService::service_full_name(), serving);
  service_->SetServingStatus(v1::ModelService::service_full_name(), serving);
}

void Health::StartServing(const Engine* engine, absl::Duration stuck_after) {
  Set(true);
  watcher_ = std::thread([this, engine, stuck_after] { Watch(engine, stuck_after); });
}

void Health::StartDraining() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (watcher_.joinable()) watcher_.join();
  Set(false);
}

void Health::Watch(const Engine* engine, absl::Duration stuck_after) {
  const auto period = absl::ToChronoMilliseconds(
      std::clamp(stuck_after / 4, absl::Milliseconds(10), absl::Seconds(1)));
  bool stuck = false;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopped_.wait_for(lock, period, [this] { return stopping_; })) {
    const absl::Duration age = engine->StepAge();
    if ((age > stuck_after) == stuck) continue;
    stuck = !stuck;
    Set(!stuck);
    Log(stuck ? LogLevel::kError : LogLevel::kInfo, stuck ? "stuck" : "recovered",
        LogFields().AddSeconds("step_seconds", absl::ToDoubleSeconds(age)));
  }
}

}  // namespace sluice
