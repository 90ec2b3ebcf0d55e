// How many calls of each client are under way.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace sluice {

// Thread-safe. Holds as many clients as there are calls under way. Outlives its leases.
class ClientCounts {
 public:
  // One call under way, until it is destroyed. Movable; not thread-safe.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept { *this = std::move(other); }
    Lease& operator=(Lease&& other) noexcept {
      std::swap(counts_, other.counts_);
      std::swap(client_, other.client_);
      return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
      if (counts_ != nullptr) counts_->Leave(client_);
    }

   private:
    friend class ClientCounts;
    Lease(ClientCounts* counts, std::string client) : counts_(counts), client_(std::move(client)) {}

    ClientCounts* counts_ = nullptr;
    std::string client_;
  };

  // Nothing if `limit` calls of the client are under way; 0: no limit.
  std::optional<Lease> Enter(const std::string& client, int64_t limit);

  int64_t count(const std::string& client) const;
  size_t clients() const;

 private:
  void Leave(const std::string& client);

  mutable std::mutex mutex_;
  std::unordered_map<std::string, int64_t> counts_;  // guarded by mutex_
};

}  // namespace sluice
