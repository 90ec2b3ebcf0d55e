#include "server/response_stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/wire_format.h"
#include "tests/server/fake_engine.h"

namespace sluice {
namespace {

// A client's end that reads when the test says so.
class FakeWriter final : public ResponseWriter {
 public:
  void Write(const grpc::ByteBuffer* message) override {
    v1::GenerateResponse response;
    ASSERT_TRUE(ParseMessage(*message, &response).ok());
    const std::lock_guard<std::mutex> lock(mutex_);
    writes_.push_back(response);
    changed_.notify_all();
  }
  void Finish(const grpc::Status& status) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    ASSERT_FALSE(finished_.has_value()) << "Finish was called twice";
    finished_ = status;
    changed_.notify_all();
  }
  void Cancel(const grpc::Status& why) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = why;
    changed_.notify_all();
  }

  v1::GenerateResponse WaitForWrite(size_t index) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return writes_.size() > index; });
    return writes_[index];
  }
  grpc::Status WaitForFinish() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return finished_.has_value(); });
    return *finished_;
  }
  // What the client hears.
  grpc::Status WaitForCancel() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return cancelled_.has_value(); });
    return *cancelled_;
  }
  size_t writes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return writes_.size();
  }
  bool finished() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return finished_.has_value();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::GenerateResponse> writes_;
  std::optional<grpc::Status> finished_;
  std::optional<grpc::Status> cancelled_;
};

class ResponseStreamTest : public testing::Test {
 protected:
  std::shared_ptr<ResponseStream> NewStream(absl::Duration read_limit = absl::Seconds(60)) {
    ResponseStream::Options options;
    options.read_limit = read_limit;
    auto stream = std::make_shared<ResponseStream>(options, &writer_, &delivery_);
    stream->SetEngine(&engine_);
    return stream;
  }

  FakeEngine engine_;
  FakeWriter writer_;
  DeliveryThread delivery_;
};

Output Text(const std::string& text, int32_t token) { return {text, {{token, {}, {}}}}; }

TEST_F(ResponseStreamTest, HasOneWriteInFlightAndMergesTheRest) {
  const auto stream = NewStream();
  stream->OnOutput(Text("a", 1));
  EXPECT_EQ(writer_.WaitForWrite(0).text(), "a");
  stream->OnOutput(Text("b", 2));
  stream->OnOutput(Text("c", 3));
  EXPECT_EQ(writer_.writes(), 1U);
  stream->OnWriteDone(true);
  const v1::GenerateResponse merged = writer_.WaitForWrite(1);
  EXPECT_EQ(merged.text(), "bc");
  EXPECT_EQ(merged.token_ids_size(), 2);
  stream->OnWriteDone(true);
  EXPECT_EQ(writer_.writes(), 2U);
}

TEST_F(ResponseStreamTest, FinishesOnceAllIsWritten) {
  const auto stream = NewStream();
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  Outcome outcome;
  outcome.output_tokens = 1;
  stream->OnDone(outcome);
  EXPECT_FALSE(writer_.finished());
  stream->OnWriteDone(true);
  EXPECT_TRUE(writer_.WaitForWrite(1).has_finished());
  EXPECT_FALSE(writer_.finished());
  stream->OnWriteDone(true);
  EXPECT_TRUE(writer_.WaitForFinish().ok());
}

TEST_F(ResponseStreamTest, AnErrorComesAfterWhatWasGenerated) {
  const auto stream = NewStream();
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  stream->OnOutput(Text("b", 2));
  Outcome outcome;
  outcome.status = absl::DeadlineExceededError("late");
  stream->OnDone(outcome);
  stream->OnWriteDone(true);
  EXPECT_EQ(writer_.WaitForWrite(1).text(), "b");
  EXPECT_FALSE(writer_.WaitForWrite(1).has_finished());
  stream->OnWriteDone(true);
  EXPECT_EQ(writer_.WaitForFinish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(ResponseStreamTest, IsBackloggedWhileTooMuchIsUnread) {
  const auto stream = NewStream();
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  int increments = 0;
  while (stream->State() == SinkState::kReady) {
    stream->OnOutput(Text(std::string(1000, 'x'), 2));
    ASSERT_LT(++increments, 100);
  }
  EXPECT_EQ(stream->State(), SinkState::kBacklogged);
  EXPECT_LE(stream->pending_bytes(), ResponseStream::kBacklogBytes + 2000);
  EXPECT_EQ(engine_.wakes(), 0);
  stream->OnWriteDone(true);
  EXPECT_EQ(stream->State(), SinkState::kReady);
  EXPECT_EQ(engine_.wakes(), 1);
}

TEST_F(ResponseStreamTest, WakesTheEngineWhenOneLargeOutputIsTakenAway) {
  const auto stream = NewStream();
  stream->OnOutput(Text(std::string(ResponseStream::kBacklogBytes + 100, 'x'), 1));
  writer_.WaitForWrite(0);
  EXPECT_TRUE(engine_.WaitForWakes(1));
  EXPECT_EQ(stream->State(), SinkState::kReady);
}

TEST_F(ResponseStreamTest, ACancelledClientEndsItWithoutTheEngine) {
  const auto stream = NewStream();
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  stream->OnCancel();
  EXPECT_EQ(stream->State(), SinkState::kCancelled);
  EXPECT_EQ(engine_.wakes(), 1);
  EXPECT_FALSE(writer_.finished()) << "a write is under way";
  stream->OnWriteDone(false);
  EXPECT_EQ(writer_.WaitForFinish().error_code(), grpc::StatusCode::CANCELLED);
  // What the engine says until it notices is dropped.
  stream->OnOutput(Text("b", 2));
  stream->OnDone({});
  EXPECT_EQ(stream->pending_bytes(), 0U);
  EXPECT_EQ(writer_.writes(), 1U);
}

TEST_F(ResponseStreamTest, AFailedWriteCountsAsACancel) {
  const auto stream = NewStream();
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  stream->OnOutput(Text("b", 2));
  stream->OnWriteDone(false);
  EXPECT_EQ(stream->State(), SinkState::kCancelled);
  EXPECT_EQ(engine_.wakes(), 1);
  EXPECT_EQ(writer_.WaitForFinish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ResponseStreamTest, EndsAClientThatDoesNotReadTheRest) {
  const auto stream = NewStream(absl::Milliseconds(50));
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  Outcome outcome;
  outcome.status = absl::ResourceExhaustedError("stream unread for too long");
  stream->OnDone(outcome);
  EXPECT_EQ(writer_.WaitForCancel().error_message(), "stream unread for too long");
  EXPECT_FALSE(writer_.finished()) << "a write is under way";
  stream->OnWriteDone(false);
  EXPECT_EQ(writer_.WaitForFinish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ResponseStreamTest, AClientThatDoesNotReadAGoodEndHearsWhy) {
  const auto stream = NewStream(absl::Milliseconds(50));
  stream->OnOutput(Text("a", 1));
  writer_.WaitForWrite(0);
  stream->OnDone(Outcome());
  const grpc::Status why = writer_.WaitForCancel();
  EXPECT_EQ(why.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(why.error_message(), "the client left the end of its stream unread for 50ms");
  stream->OnWriteDone(false);
  writer_.WaitForFinish();
}

TEST_F(ResponseStreamTest, ARefusalIsAllThatIsSent) {
  const auto stream = NewStream();
  stream->Refuse(absl::InvalidArgumentError("text: too long"));
  const grpc::Status status = writer_.WaitForFinish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "text: too long");
  EXPECT_EQ(writer_.writes(), 0U);
}

// A client's end that answers each write from a thread of its own, as gRPC does.
class AnsweringWriter final : public ResponseWriter {
 public:
  explicit AnsweringWriter(size_t cancel_after) : cancel_after_(cancel_after) {}
  ~AnsweringWriter() override { thread_.join(); }

  void Start(std::shared_ptr<ResponseStream> stream) {
    thread_ = std::thread([this, stream = std::move(stream)] { Run(*stream); });
  }
  void Write(const grpc::ByteBuffer* message) override {
    v1::GenerateResponse response;
    EXPECT_TRUE(ParseMessage(*message, &response).ok());
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(writing_ || finished_);
    writing_ = true;
    for (const uint32_t id : response.token_ids()) EXPECT_EQ(id, tokens_++);
    changed_.notify_all();
  }
  void Finish(const grpc::Status& status) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(writing_ || finished_);
    finished_ = true;
    ok_ = status.ok();
    changed_.notify_all();
  }
  void Cancel(const grpc::Status& /*why*/) override {}

  void WaitForFinish() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return finished_; });
  }
  bool ok() const { return ok_; }
  bool cancelled() const { return cancelled_; }
  uint32_t tokens() const { return tokens_; }

 private:
  void Run(ResponseStream& stream) {
    for (size_t writes = 0;; ++writes) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return writing_ || finished_; });
        if (finished_) return;
        writing_ = false;
      }
      if (writes == cancel_after_) {
        cancelled_ = true;
        stream.OnCancel();
      }
      stream.OnWriteDone(writes != cancel_after_);
    }
  }

  const size_t cancel_after_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  bool writing_ = false;
  bool finished_ = false;
  bool ok_ = false;
  uint32_t tokens_ = 0;
  std::thread thread_;
};

// What gRPC's threads, the delivery thread and the engine's do at once, without gRPC: this is where
// ThreadSanitizer sees all of it.
TEST_F(ResponseStreamTest, HoldsItsOrderUnderThreeThreads) {
  constexpr int32_t kTokens = 3000;
  for (const size_t cancel_after : {size_t{1} << 40, size_t{0}, size_t{3}, size_t{50}}) {
    AnsweringWriter writer(cancel_after);
    auto stream = std::make_shared<ResponseStream>(ResponseStream::Options(), &writer, &delivery_);
    stream->SetEngine(&engine_);
    writer.Start(stream);
    for (int32_t i = 0; i < kTokens && stream->State() != SinkState::kCancelled; ++i) {
      while (stream->State() == SinkState::kBacklogged) std::this_thread::yield();
      stream->OnOutput(Text(std::string(100, 'x'), i));
    }
    stream->OnDone({});
    writer.WaitForFinish();
    if (writer.cancelled()) continue;  // merging may leave fewer writes than that
    EXPECT_TRUE(writer.ok());
    EXPECT_EQ(writer.tokens(), uint32_t{kTokens});
  }
}

}  // namespace
}  // namespace sluice
