// What every call passes before anything is done for it: who calls, and whether it may.
//
// A client is the tenant of its API key, or without keys the address it calls from. A key that
// states a limit of its own is counted by itself for that limit; all others of a tenant together.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/request.h"
#include "server/api_key_file.h"
#include "server/call_metadata.h"
#include "server/call_method.h"
#include "server/client_counts.h"
#include "server/client_rates.h"
#include "server/refusal.h"
#include "server/request_id.h"

namespace sluice {

// What the gate says of one call. While it lives, the call counts as one of its client's.
struct Pass {
  absl::Status status;                                // not OK: why the call goes no further
  absl::Duration retry_after = absl::ZeroDuration();  // if it was refused for its rate
  RequestId request_id;                               // from the metadata
  Origin origin;
  ClientLimits limits;
  ClientCounts::Lease lease;
};

struct GateOptions {
  double client_rate = 0;           // calls of a client in a second; 0: no limit
  int64_t max_client_requests = 0;  // calls of a client at once; 0: no limit
  // Bytes of a call's metadata, as HTTP/2 counts them; 0: no limit. gRPC 1.51 limits each frame
  // alone.
  int64_t max_metadata_bytes = 0;
};

// Thread-safe. Outlives its passes.
class Gate {
 public:
  // `keys`: null if none are asked for. Both outlive the gate.
  Gate(const GateOptions& options, const ApiKeyFile* keys, RefusalObserver* observer)
      : options_(options), keys_(keys), observer_(observer) {}

  // Unauthenticated, PermissionDenied or ResourceExhausted in the pass; the observer has been told.
  Pass Enter(CallMethod method, const CallMetadata& metadata, const std::string& peer);

  int64_t calls_of(const std::string& client) const { return counts_.count(client); }

 private:
  // Whom a call is counted for, and up to what.
  struct Account {
    std::string rate_client;
    double rate = 0;
    std::string count_client;
    int64_t max_requests = 0;
  };

  absl::Status CheckSize(const CallMetadata& metadata) const;
  absl::Status Authenticate(CallMethod method, const CallMetadata& metadata, Pass* pass,
                            Account* account, RefusalReason* reason) const;
  absl::Status Admit(const Account& account, Pass* pass, RefusalReason* reason);

  const GateOptions options_;
  const ApiKeyFile* const keys_;
  RefusalObserver* const observer_;
  ClientCounts counts_;
  ClientRates rates_;
};

}  // namespace sluice
