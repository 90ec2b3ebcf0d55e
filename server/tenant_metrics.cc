#include "server/tenant_metrics.h"

#include "server/outcome_name.h"

namespace sluice {
namespace {

constexpr char kOthers[] = "other";

prometheus::Family<prometheus::Counter>& AddFamily(prometheus::Registry* registry, const char* name,
                                                   const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry);
}

}  // namespace

TenantMetrics::TenantMetrics(prometheus::Registry* registry)
    : requests_(AddFamily(registry, "sluice_tenant_requests_total",
                          "Requests of a tenant that ended, by how they ended.")),
      prompt_tokens_(AddFamily(registry, "sluice_tenant_prompt_tokens_total",
                               "Prompt tokens of a tenant's requests that ended.")),
      output_tokens_(AddFamily(registry, "sluice_tenant_output_tokens_total",
                               "Tokens generated for a tenant's requests that ended.")) {}

void TenantMetrics::OnDone(const Outcome& outcome) {
  if (outcome.origin.tenant.empty()) return;
  const std::string tenant = Label(outcome.origin.tenant);
  requests_.Add({{"tenant", tenant}, {"outcome", OutcomeName(outcome)}}).Increment();
  prompt_tokens_.Add({{"tenant", tenant}}).Increment(outcome.prompt_tokens);
  output_tokens_.Add({{"tenant", tenant}}).Increment(outcome.output_tokens);
}

std::string TenantMetrics::Label(const std::string& tenant) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (named_.contains(tenant)) return tenant;
  if (named_.size() >= kMaxTenants) return kOthers;
  named_.insert(tenant);
  // As with all counters: what is there from the start can be subtracted from.
  for (const char* outcome : {"stop", "length", "complete", "cancelled", "error"}) {
    requests_.Add({{"tenant", tenant}, {"outcome", outcome}});
  }
  return tenant;
}

}  // namespace sluice
