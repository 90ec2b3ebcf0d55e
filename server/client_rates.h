// How often each client calls: a token bucket a client, which holds the calls of one second.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <unordered_map>

#include "absl/time/time.h"

namespace sluice {

// Thread-safe. Remembers at most `max_clients`, and forgets those that have not called for longest:
// a bucket that has filled up again says nothing, and what is lost with another is less than a
// second's calls.
class ClientRates {
 public:
  static constexpr size_t kMaxClients = 100'000;

  explicit ClientRates(size_t max_clients = kMaxClients) : max_clients_(max_clients) {}

  // Takes one call of `rate` a second, more than 0; a burst may have the calls of one second, and
  // at least one. Returns zero, or how long until there is one to take.
  absl::Duration Take(const std::string& client, double rate, absl::Time now);

  size_t clients() const;

 private:
  struct Bucket {
    std::string client;
    double calls;
    double rate;
    absl::Time filled;  // when `calls` was right
  };

  void Fill(Bucket* bucket, double rate, absl::Time now);
  void Forget(absl::Time now);

  const size_t max_clients_;
  mutable std::mutex mutex_;
  std::list<Bucket> buckets_;  // guarded by mutex_; who called last is last
  std::unordered_map<std::string, std::list<Bucket>::iterator> found_;  // guarded by mutex_
};

}  // namespace sluice
