#include "server/gate.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "server/client_address.h"
#include "server/trace_context.h"

namespace sluice {
namespace {

constexpr int64_t kEntryBytes = 32;  // of each entry, beside its key and value (RFC 9113, 6.5.2)

// The key that a call brings; empty if it brings none, or leaves open which one.
std::string_view KeyOf(const CallMetadata& metadata) {
  constexpr std::string_view kScheme = "Bearer ";
  if (metadata.count("x-api-key") > 0) return OnlyValue(metadata, "x-api-key").value_or("");
  const std::string_view value = OnlyValue(metadata, "authorization").value_or("");
  // The scheme's name has no case (RFC 9110).
  if (!absl::StartsWithIgnoreCase({value.data(), value.size()}, {kScheme.data(), kScheme.size()})) {
    return "";
  }
  return value.substr(kScheme.size());
}

absl::Status NoValidKey() {
  return absl::UnauthenticatedError(
      "no valid API key; send it as metadata \"authorization: Bearer KEY\" or \"x-api-key: KEY\"");
}

Origin OriginOf(const CallMetadata& metadata, const std::string& peer) {
  Origin origin;
  origin.peer = peer;
  std::optional<TraceContext> trace = ReadTraceContext(metadata);
  if (!trace.has_value()) return origin;
  origin.trace_id = std::move(trace->trace_id);
  origin.parent_span_id = std::move(trace->parent_span_id);
  origin.span_id = NewSpanId();
  return origin;
}

}  // namespace

Pass Gate::Enter(CallMethod method, const CallMetadata& metadata, const std::string& peer) {
  Pass pass;
  pass.request_id = ResolveRequestId("", metadata);
  pass.origin = OriginOf(metadata, peer);
  RefusalReason reason = RefusalReason::kKey;
  Account account = {"", options_.client_rate, "", options_.max_client_requests};
  pass.status = CheckSize(metadata);
  if (!pass.status.ok()) {
    reason = RefusalReason::kLimit;
  } else if (keys_ == nullptr) {
    account.rate_client = ClientOfPeer(peer);
    account.count_client = account.rate_client;
  } else {
    pass.status = Authenticate(method, metadata, &pass, &account, &reason);
  }
  if (pass.status.ok()) pass.status = Admit(account, &pass, &reason);
  if (!pass.status.ok()) {
    observer_->OnRefusal({reason, method, pass.request_id.id, pass.origin, pass.status});
  }
  return pass;
}

absl::Status Gate::CheckSize(const CallMetadata& metadata) const {
  if (options_.max_metadata_bytes == 0) return absl::OkStatus();
  int64_t bytes = 0;
  for (const auto& [key, value] : metadata) {
    bytes += static_cast<int64_t>(key.size() + value.size()) + kEntryBytes;
  }
  if (bytes <= options_.max_metadata_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("metadata: ", bytes, " bytes; the limit is ", options_.max_metadata_bytes));
}

absl::Status Gate::Authenticate(CallMethod method, const CallMetadata& metadata, Pass* pass,
                                Account* account, RefusalReason* reason) const {
  *reason = RefusalReason::kKey;
  const std::string_view given = KeyOf(metadata);
  if (given.empty()) return NoValidKey();
  const std::shared_ptr<const ApiKeys> keys = keys_->Current();
  const ApiKey* key = keys->Find(given);
  // Whether a key was valid once is not told.
  if (key == nullptr || absl::Now() > key->not_after) return NoValidKey();
  pass->origin.tenant = key->tenant;
  pass->origin.key = key->name;
  pass->limits = key->limits;
  if (!key->Allows(method)) {
    *reason = RefusalReason::kMethod;
    return absl::PermissionDeniedError(absl::StrCat("this API key of tenant ", key->tenant,
                                                    " may not call ",
                                                    std::string(CallMethodName(method))));
  }
  account->rate_client = absl::StrCat("tenant:", key->tenant);
  account->count_client = account->rate_client;
  if (key->requests_per_second > 0) {
    account->rate_client = absl::StrCat("key:", key->id);
    account->rate = key->requests_per_second;
  }
  if (key->max_requests > 0) {
    account->count_client = absl::StrCat("key:", key->id);
    account->max_requests = key->max_requests;
  }
  return absl::OkStatus();
}

absl::Status Gate::Admit(const Account& account, Pass* pass, RefusalReason* reason) {
  std::optional<ClientCounts::Lease> lease =
      counts_.Enter(account.count_client, account.max_requests);
  if (!lease.has_value()) {
    *reason = RefusalReason::kConcurrency;
    return absl::ResourceExhaustedError(
        absl::StrCat("this client has ", account.max_requests,
                     " calls under way, which is its limit; try again when one has ended"));
  }
  if (account.rate > 0) {
    pass->retry_after = rates_.Take(account.rate_client, account.rate, absl::Now());
  }
  if (pass->retry_after > absl::ZeroDuration()) {
    *reason = RefusalReason::kRate;
    return absl::ResourceExhaustedError(absl::StrFormat(
        "this client calls more often than %g times a second, which is its limit; try again in "
        "%.3f s",
        account.rate, absl::ToDoubleSeconds(pass->retry_after)));
  }
  pass->lease = *std::move(lease);
  return absl::OkStatus();
}

}  // namespace sluice
