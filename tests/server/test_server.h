// The real gRPC server on a port of its own, over whatever engine a test gives it.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/grpc_server.h"
#include "server/health.h"
#include "tests/server/connected_channel.h"

namespace sluice {

// Keeps the outcomes it is told. Thread-safe.
class RecordingObserver final : public EngineObserver {
 public:
  void OnStep(const StepRecord& /*record*/) override {}
  void OnFirstToken(double /*seconds*/) override {}
  void OnNextToken(double /*seconds*/) override {}
  void OnDone(const Outcome& outcome) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    outcomes_.push_back(outcome);
  }
  std::vector<Outcome> outcomes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return outcomes_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Outcome> outcomes_;
};

inline ServerConfig LoopbackConfig() {
  ServerConfig config;
  config.listen = "127.0.0.1:0";
  return config;
}

// Keeps the refusals it is told. Thread-safe.
class RecordingRefusals final : public RefusalObserver {
 public:
  void OnRefusal(const Refusal& refusal) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    refusals_.push_back(refusal);
  }
  std::vector<Refusal> refusals() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return refusals_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Refusal> refusals_;
};

class TestServer {
 public:
  explicit TestServer(absl::Duration read_limit = absl::Seconds(60),
                      EngineObserver* observer = nullptr, const GateOptions& limits = {},
                      const ApiKeyFile* keys = nullptr)
      : TestServer(LoopbackConfig(), grpc::InsecureServerCredentials(), read_limit, observer,
                   limits, keys) {}
  explicit TestServer(const ServerConfig& config,
                      const std::shared_ptr<grpc::ServerCredentials>& credentials =
                          grpc::InsecureServerCredentials(),
                      absl::Duration read_limit = absl::Seconds(60),
                      EngineObserver* observer = nullptr, const GateOptions& limits = {},
                      const ApiKeyFile* keys = nullptr)
      : gate(limits, keys, &refusals) {
    const ServiceParts parts = {
        &handle, observer != nullptr ? observer : &recorder, &delivery, &calls, read_limit, &gate};
    server = *GrpcServer::Start(config, parts, credentials);
  }
  ~TestServer() { server->Shutdown(absl::ZeroDuration()); }
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  std::shared_ptr<grpc::Channel> NewChannel(const grpc::ChannelArguments& arguments = {}) const {
    return ConnectedChannel(server->address(), arguments);
  }

  RecordingObserver recorder;
  RecordingRefusals refusals;
  Gate gate;
  DeliveryThread delivery;
  ActiveCalls calls;
  EngineHandle handle;
  std::unique_ptr<GrpcServer> server;
};

inline grpc::ByteBuffer ToByteBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Calls a method with any bytes for a request.
inline grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const char* method,
                            const std::string& request, std::string* response) {
  grpc::ClientContext context;
  const grpc::internal::RpcMethod rpc(method, grpc::internal::RpcMethod::NORMAL_RPC);
  grpc::ByteBuffer answer;
  grpc::Status status = grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
      channel.get(), rpc, &context, ToByteBuffer(request), &answer);
  std::vector<grpc::Slice> slices;
  if (status.ok()) answer.Dump(&slices);
  response->clear();
  for (const grpc::Slice& slice : slices) {
    response->append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return status;
}

// What grpc.health.v1.Health/Check says of `service`: "SERVING", "NOT_SERVING" or the error's name.
// Its messages are a string in field 1, and an enum in field 1.
inline std::string CheckHealth(const std::shared_ptr<grpc::Channel>& channel,
                               const std::string& service) {
  std::string request;
  if (!service.empty()) request = std::string("\x0A") + static_cast<char>(service.size()) + service;
  std::string response;
  const grpc::Status status = CallRaw(channel, "/grpc.health.v1.Health/Check", request, &response);
  if (!status.ok()) {
    return absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
  }
  return response == "\x08\x01" ? "SERVING" : "NOT_SERVING";
}

}  // namespace sluice
