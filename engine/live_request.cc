#include "engine/live_request.h"

#include <algorithm>
#include <utility>

namespace sluice {

std::shared_ptr<LiveRequest> LiveRequestSet::Add(LiveRequestState state) {
  auto request = std::make_shared<LiveRequest>(std::move(state));
  const std::lock_guard<std::mutex> lock(mutex_);
  requests_.insert(request);
  return request;
}

void LiveRequestSet::Remove(const std::shared_ptr<LiveRequest>& request) {
  const std::lock_guard<std::mutex> lock(mutex_);
  requests_.erase(request);
}

int32_t LiveRequestSet::Cancel(const std::string& id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  int32_t count = 0;
  for (const auto& request : requests_) {
    if (request->id() != id) continue;
    request->Cancel();
    ++count;
  }
  return count;
}

std::vector<LiveRequestState> LiveRequestSet::States() const {
  std::vector<std::shared_ptr<LiveRequest>> requests;
  {
    // The engine thread waits for this lock: no strings are copied under it.
    const std::lock_guard<std::mutex> lock(mutex_);
    requests.assign(requests_.begin(), requests_.end());
  }
  std::vector<LiveRequestState> states;
  states.reserve(requests.size());
  for (const auto& request : requests) states.push_back(request->State());
  std::sort(states.begin(), states.end(), [](const auto& a, const auto& b) {
    return a.arrived != b.arrived ? a.arrived < b.arrived : a.id < b.id;
  });
  return states;
}

}  // namespace sluice
