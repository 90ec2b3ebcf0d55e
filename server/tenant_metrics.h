// What is done for each tenant, with a bounded number of label values.
#pragma once

#include <mutex>
#include <set>
#include <string>

#include "engine/request.h"
#include "prometheus/counter.h"
#include "prometheus/registry.h"

namespace sluice {

// Thread-safe. The registry outlives it.
class TenantMetrics {
 public:
  static constexpr size_t kMaxTenants = 100;

  explicit TenantMetrics(prometheus::Registry* registry);

  // Counts a request of a tenant, if it has one. The first kMaxTenants that are seen are named, all
  // others are "other".
  void OnDone(const Outcome& outcome);

 private:
  std::string Label(const std::string& tenant);

  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& prompt_tokens_;
  prometheus::Family<prometheus::Counter>& output_tokens_;
  std::mutex mutex_;
  std::set<std::string> named_;  // guarded by mutex_
};

}  // namespace sluice
