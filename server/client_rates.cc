#include "server/client_rates.h"

#include <algorithm>

#include "kernels/check.h"

namespace sluice {
namespace {

double Capacity(double rate) { return std::max(rate, 1.0); }

}  // namespace

absl::Duration ClientRates::Take(const std::string& client, double rate, absl::Time now) {
  SLUICE_CHECK(rate > 0);
  const std::lock_guard<std::mutex> lock(mutex_);
  auto found = found_.find(client);
  if (found == found_.end()) {
    Forget(now);
    buckets_.push_back({client, Capacity(rate), rate, now});
    found = found_.emplace(client, std::prev(buckets_.end())).first;
  } else {
    buckets_.splice(buckets_.end(), buckets_, found->second);
  }
  Bucket& bucket = *found->second;
  Fill(&bucket, rate, now);
  if (bucket.calls < 1) return absl::Seconds((1 - bucket.calls) / rate);
  bucket.calls -= 1;
  return absl::ZeroDuration();
}

size_t ClientRates::clients() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return found_.size();
}

// A clock that was set back adds nothing.
void ClientRates::Fill(Bucket* bucket, double rate, absl::Time now) {
  const double seconds = std::max(absl::ToDoubleSeconds(now - bucket->filled), 0.0);
  bucket->calls = std::min(bucket->calls + seconds * rate, Capacity(rate));
  bucket->rate = rate;
  bucket->filled = now;
}

// Makes room for one more; looks at so few that a call stays quick, and at more than one, so that
// the full ones become fewer.
void ClientRates::Forget(absl::Time now) {
  for (int i = 0; i < 2 && !buckets_.empty(); ++i) {
    Bucket& oldest = buckets_.front();
    Fill(&oldest, oldest.rate, now);
    if (found_.size() < max_clients_ && oldest.calls < Capacity(oldest.rate)) return;
    found_.erase(oldest.client);
    buckets_.pop_front();
  }
}

}  // namespace sluice
