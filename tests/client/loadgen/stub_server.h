// A server that answers from a schedule instead of a model, so that what a load generator reports
// can be compared with what it was sent.
#pragma once

#include <grpcpp/server.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/loadgen/latency_histogram.h"
#include "client/loadgen/timer_thread.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"

namespace sluice {

struct StubOptions {
  std::string listen = "127.0.0.1:0";
  // PEM: the server's, which clients must have too. Empty: plaintext.
  std::string certificate;
  std::string key;
  // Token k is sent this long after the request came plus k intervals, a message each; with an
  // interval of zero as fast as they are taken. As many as max_tokens says.
  absl::Duration first_token = absl::ZeroDuration();
  absl::Duration interval = absl::ZeroDuration();
  int64_t text_bytes = 6;  // of each message
  int loading = 0;  // so many calls of GetModel are answered by UNAVAILABLE, as while a model loads
  // Instead of an answer.
  grpc::Status refuse_all;
  bool hang = false;             // until the call is cancelled
  bool forget_finished = false;  // the last message is left out
  bool cut_short = false;        // ends at once with FINISH_REASON_CANCELLED
  bool accept_invalid = false;
};

// What the server saw. Guarded by the server's mutex where it is not a copy.
struct StubCounts {
  int64_t requests = 0;
  int64_t refused = 0;    // invalid
  int64_t cancelled = 0;  // before they were answered
  int64_t answered = 0;
  int64_t messages = 0;
  std::vector<int64_t> cancelled_after;  // messages sent until then
  std::vector<double> seconds;           // of those answered, from the request to the last write
  std::vector<std::string> ids;          // request_id of all
  std::vector<std::string> api_keys;     // the header `authorization` of all that had one
  LatencyHistogram late;                 // of tokens: sent so much after their time
};

// Names the field of a request that is out of its range; empty if none is.
std::string FindFault(const v1::GenerateRequest& request, uint32_t vocab_size);

// Runs until destroyed; every call has ended by then.
class StubServer {
 public:
  explicit StubServer(const StubOptions& options);
  ~StubServer();
  StubServer(const StubServer&) = delete;
  StubServer& operator=(const StubServer&) = delete;

  const std::string& address() const { return address_; }
  StubCounts counts() const;

 private:
  class Generation;
  class Model;
  class Stream;

  const StubOptions options_;
  TimerThread timers_;
  mutable std::mutex mutex_;
  StubCounts counts_;  // guarded by mutex_
  std::unique_ptr<Generation> generation_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace sluice
