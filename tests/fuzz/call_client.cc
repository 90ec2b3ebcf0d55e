#include "tests/fuzz/call_client.h"

#include "kernels/check.h"
#include "server/wire_format.h"

namespace sluice {

void CallClient::Write(const grpc::ByteBuffer* message) {
  v1::GenerateResponse response;
  SLUICE_CHECK(ParseMessage(*message, &response).ok());  // so its text is valid UTF-8
  const std::lock_guard<std::mutex> lock(mutex_);
  SLUICE_CHECK(!writing_ && !status_.has_value());
  messages_.push_back(std::move(response));
  writing_ = true;
  changed_.notify_all();
}

void CallClient::Finish(const grpc::Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SLUICE_CHECK(!writing_ && !status_.has_value());
  status_ = status;
  changed_.notify_all();
}

// Meant for clients that do not read, which these do.
void CallClient::Cancel(const grpc::Status& /*why*/) { SLUICE_CHECK(false); }

bool CallClient::AwaitWrite() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return writing_ || status_.has_value(); });
  const bool was_writing = writing_;
  writing_ = false;
  return was_writing;
}

void CallClient::Leave(ResponseStream* stream, bool is_writing, bool breaks_off) {
  left_ = true;
  if (!breaks_off || !is_writing) stream->OnCancel();
  if (is_writing) stream->OnWriteDone(false);
}

grpc::Status CallClient::Run(ResponseStream* stream, const CallManners& manners) {
  if (manners.reads == 0) Leave(stream, /*is_writing=*/false, manners.breaks_off);
  for (int32_t reads = 1; AwaitWrite(); ++reads) {
    if (left_ || reads == manners.reads) {
      Leave(stream, /*is_writing=*/true, manners.breaks_off);
    } else {
      stream->OnWriteDone(true);
    }
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  return *status_;
}

}  // namespace sluice
