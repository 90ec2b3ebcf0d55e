#include "server/health.h"

#include <algorithm>

#include "server/log.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"

namespace sluice {
namespace {

void Tell(grpc::HealthCheckServiceInterface* service, bool serving) {
  service->SetServingStatus("", serving);
  service->SetServingStatus(v1::GenerationService::service_full_name(), serving);
  service->SetServingStatus(v1::ModelService::service_full_name(), serving);
}

}  // namespace

Health::Health(grpc::HealthCheckServiceInterface* service) { Add(service); }

Health::~Health() { StartDraining(); }

void Health::Add(grpc::HealthCheckServiceInterface* service) {
  const std::lock_guard<std::mutex> lock(services_mutex_);
  services_.push_back(service);
  Tell(service, serving());
}

void Health::Remove(grpc::HealthCheckServiceInterface* service) {
  const std::lock_guard<std::mutex> lock(services_mutex_);
  services_.erase(std::remove(services_.begin(), services_.end(), service), services_.end());
}

void Health::Set(HealthState state) {
  const std::lock_guard<std::mutex> lock(services_mutex_);
  state_ = state;
  for (grpc::HealthCheckServiceInterface* service : services_) Tell(service, serving());
}

void Health::StartServing(const Engine* engine, absl::Duration stuck_after) {
  Set(HealthState::kServing);
  watcher_ = std::thread([this, engine, stuck_after] { Watch(engine, stuck_after); });
}

void Health::StartDraining() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (watcher_.joinable()) watcher_.join();
  Set(HealthState::kDraining);
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
    Set(stuck ? HealthState::kStuck : HealthState::kServing);
    Log(stuck ? LogLevel::kError : LogLevel::kInfo, stuck ? "stuck" : "recovered",
        LogFields().AddSeconds("step_seconds", absl::ToDoubleSeconds(age)));
  }
}

}  // namespace sluice
