// A Generate request of any bytes, through parsing, mapping, engine and response stream, as
// server/generation_service.cc has them. The first byte says how the client behaves: see
// MannersOf. The request is refused with a code and a name and costs no step, or its stream ends
// as the proto says; either way its slot is free afterwards, and a request that runs beside it
// draws the tokens that it draws alone.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/engine.h"
#include "kernels/check.h"
#include "server/delivery_thread.h"
#include "server/request_mapping.h"
#include "server/response_stream.h"
#include "server/wire_format.h"
#include "tests/engine/recording_sink.h"
#include "tests/engine/tiny_model.h"
#include "tests/fuzz/call_checks.h"
#include "tests/fuzz/call_client.h"
#include "tests/fuzz/message_mutator.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace sluice {
namespace {

constexpr uint8_t kReadsAll = 15;
constexpr uint8_t kBreaksOff = 16;
constexpr uint8_t kTooLate = 32;

CallManners MannersOf(uint8_t byte) {
  const int32_t reads = byte & kReadsAll;
  return {.reads = reads == kReadsAll ? -1 : reads, .breaks_off = (byte & kBreaksOff) != 0};
}

grpc::ByteBuffer Buffer(std::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

class Observer final : public EngineObserver {
 public:
  void OnStep(const StepRecord& /*record*/) override { ++steps; }
  void OnFirstToken(double seconds) override { SLUICE_CHECK(seconds >= 0); }
  void OnNextToken(double seconds) override { SLUICE_CHECK(seconds >= 0); }
  void OnDone(const Outcome& outcome) override {
    SLUICE_CHECK(!outcome.request_id.empty());
    ++outcomes;
  }

  std::atomic<int64_t> steps{0};
  std::atomic<int64_t> outcomes{0};
};

class Server {
 public:
  Server() : engine_(Open(&observer_)), neighbour_(RunNeighbour(Neighbour())) {
    AwaitIdle(/*outcomes=*/1);
  }

  void Call(uint8_t manners, std::string_view bytes);

 private:
  static std::unique_ptr<Engine> Open(Observer* observer);
  std::shared_ptr<RecordingSink> Neighbour();
  static std::vector<int32_t> RunNeighbour(const std::shared_ptr<RecordingSink>& sink);
  void AwaitIdle(int64_t outcomes);

  Observer observer_;
  DeliveryThread delivery_;
  const std::unique_ptr<Engine> engine_;
  const std::vector<int32_t> neighbour_;
};

std::unique_ptr<Engine> Server::Open(Observer* observer) {
  const TinyModel model({.hidden_size = 32, .num_layers = 1, .num_heads = 1, .num_kv_heads = 1});
  EngineConfig config = TinyConfig(model.path());
  config.threads = 1;
  config.state_slots = 2;
  config.max_step_tokens = 66;
  config.max_prompt_tokens = 160;  // more than a step takes
  config.max_output_tokens = 24;
  config.max_text_bytes = 1024;
  auto engine = Engine::Create(config, observer, nullptr);
  SLUICE_CHECK(engine.ok());
  return *std::move(engine);
}

std::shared_ptr<RecordingSink> Server::Neighbour() {
  Request request;
  request.text = "beside";
  request.sampling.seed = 7;
  request.stopping.max_tokens = 4;
  request.stopping.ignore_eos = true;
  auto sink = std::make_shared<RecordingSink>();
  SLUICE_CHECK(engine_->Submit(std::move(request), sink).ok());
  return sink;
}

std::vector<int32_t> Server::RunNeighbour(const std::shared_ptr<RecordingSink>& sink) {
  SLUICE_CHECK(sink->Wait().status.ok());
  return sink->ids();
}

// On the engine's thread a slot and a place in the queue are given back just behind the outcome.
void Server::AwaitIdle(int64_t outcomes) {
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  const auto is_idle = [this] {
    const EngineGauges gauges = engine_->Gauges();
    return gauges.slots_used == 0 && gauges.running == 0 && gauges.waiting == 0;
  };
  while (!is_idle()) {
    SLUICE_CHECK(absl::Now() < limit);
    std::this_thread::yield();
  }
  SLUICE_CHECK(observer_.outcomes == outcomes);
}

void Server::Call(uint8_t manners, std::string_view bytes) {
  const int64_t steps = observer_.steps;
  const int64_t outcomes = observer_.outcomes;
  v1::GenerateRequest proto;
  CallClient client;
  absl::Status status = ParseMessage(Buffer(bytes), &proto);
  const bool is_submitted = status.ok();
  ResponseStream::Options options;
  options.logprobs = proto.output().logprobs();
  auto stream = std::make_shared<ResponseStream>(options, &client, &delivery_);
  if (status.ok()) {
    Request request = ToRequest(proto);
    if ((manners & kTooLate) != 0) request.deadline = absl::InfinitePast();
    stream->SetEngine(engine_.get());
    status = engine_->Submit(std::move(request), stream);
  }
  if (!status.ok()) {
    AwaitIdle(outcomes + (is_submitted ? 1 : 0));
    SLUICE_CHECK(observer_.steps == steps);
    stream->Refuse(status);
    CheckRefusal(client.Run(stream.get(), {.reads = -1}));
    SLUICE_CHECK(client.messages().empty());
    return;
  }
  CheckAccepted(proto, engine_->info());
  const auto neighbour = Neighbour();
  const grpc::Status end = client.Run(stream.get(), MannersOf(manners));
  if (client.left()) {
    SLUICE_CHECK(end.ok() || end.error_code() == grpc::StatusCode::CANCELLED);
  } else {
    SLUICE_CHECK(end.ok());
    CheckStream(proto, engine_->info(), client.messages());
  }
  SLUICE_CHECK(RunNeighbour(neighbour) == neighbour_);
  AwaitIdle(outcomes + 2);
}

std::string ChangedBytes(std::string text) {
  constexpr size_t kMaxGrowth = 64;
  const size_t size = text.size();
  text.resize(size + kMaxGrowth);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), size, text.size()));
  return text;
}

}  // namespace
}  // namespace sluice

// Seven of eight changes are to fields, one to bytes.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  sluice::v1::GenerateRequest request;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (size == 0 || seed % 8 == 0 ||
      !sluice::ParseMessage(sluice::Buffer(bytes.substr(1)), &request).ok()) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  sluice::MessageMutator mutator(
      seed, [](std::string* text) { *text = sluice::ChangedBytes(std::move(*text)); });
  mutator.Mutate(&request);
  if (request.ByteSizeLong() >= max_size) return LLVMFuzzerMutate(data, size, max_size);
  if (seed / 8 % 8 == 0) data[0] = static_cast<uint8_t>(seed >> 16);
  request.SerializeWithCachedSizesToArray(data + 1);
  return 1 + request.ByteSizeLong();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static sluice::Server server;
  if (size == 0) return 0;
  server.Call(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
