// The client's end of one fuzzed Generate call: reads as it is told to, leaves when it is told to,
// and keeps what it was sent.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "server/response_stream.h"

namespace sluice {

struct CallManners {
  int32_t reads = 0;        // messages that are read before the client leaves; negative: all
  bool breaks_off = false;  // leaves by a write that fails, not by a cancellation
};

class CallClient final : public ResponseWriter {
 public:
  void Write(const grpc::ByteBuffer* message) override;
  void Finish(const grpc::Status& status) override;
  void Cancel(const grpc::Status& why) override;

  // Reads until the call is finished, and gives its status.
  grpc::Status Run(ResponseStream* stream, const CallManners& manners);

  // Once Run is over.
  const std::vector<v1::GenerateResponse>& messages() const { return messages_; }
  bool left() const { return left_; }

 private:
  // The next thing to answer: a write, or nothing once the call is finished.
  bool AwaitWrite();
  void Leave(ResponseStream* stream, bool is_writing, bool breaks_off);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool writing_ = false;                        // guarded by mutex_
  std::optional<grpc::Status> status_;          // guarded by mutex_
  std::vector<v1::GenerateResponse> messages_;  // one write at a time
  bool left_ = false;
};

}  // namespace sluice
