#include "server/client_counts.h"

#include "kernels/check.h"

namespace sluice {

std::optional<ClientCounts::Lease> ClientCounts::Enter(const std::string& client, int64_t limit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = counts_.find(client);
  const int64_t before = found == counts_.end() ? 0 : found->second;
  if (limit > 0 && before >= limit) return std::nullopt;
  counts_[client] = before + 1;
  return Lease(this, client);
}

void ClientCounts::Leave(const std::string& client) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = counts_.find(client);
  SLUICE_CHECK(found != counts_.end());
  if (--found->second == 0) counts_.erase(found);
}

int64_t ClientCounts::count(const std::string& client) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = counts_.find(client);
  return found == counts_.end() ? 0 : found->second;
}

size_t ClientCounts::clients() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_.size();
}

}  // namespace sluice
