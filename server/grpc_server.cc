#include "server/grpc_server.h"

#include <grpc/compression.h>
#include <grpc/impl/codegen/grpc_types.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/log.h"

namespace sluice {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kIdBytes = 5;  // the longest varint of a uint32
constexpr int kMinClientPingMs = 5'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// What gRPC logged as an error on this thread while it bound its port.
thread_local std::string* bind_log = nullptr;

void OnGrpcLog(gpr_log_func_args* args) {
  if (bind_log != nullptr && args->severity == GPR_LOG_SEVERITY_ERROR) {
    absl::StrAppend(bind_log, args->message, "\n");
    return;
  }
  const LogLevel level =
      args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  Log(level, "grpc", LogFields().Add("message", args->message));
}

std::string BindFailure(const std::string& address, std::string_view log) {
  for (const char* reason : {"Address already in use", "Permission denied",
                             "Cannot assign requested address", "Name or service not known"}) {
    if (log.find(reason) != std::string_view::npos) {
      return absl::StrCat("--listen=", address, ": cannot listen there: ", reason);
    }
  }
  return absl::StrCat("--listen=", address, ": cannot listen there");
}

void SetLimits(const ServerConfig& config, grpc::ServerBuilder* builder) {
  const int64_t max_receive = MaxReceiveBytes(config.engine);
  builder->SetMaxReceiveMessageSize(static_cast<int>(max_receive));
  // A few bytes can inflate to any size before a limit is looked at, so nothing is inflated.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_streams);
  // Without this a second server takes the same port in silence, and half of the connections.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Clients may ping every 10 s, also without a call, as proxies and Python's defaults do.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinClientPingMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                              static_cast<int>(absl::ToInt64Milliseconds(config.keepalive)));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  grpc::ResourceQuota quota("sluice");
  quota.Resize(static_cast<size_t>(std::max(512 * kMiB, 4 * max_receive)));
  builder->SetResourceQuota(quota);
}

}  // namespace

int64_t MaxReceiveBytes(const EngineConfig& config) {
  const int64_t prompt = std::max(config.max_text_bytes, kIdBytes * config.max_prompt_tokens);
  return std::clamp(prompt + kMiB, 4 * kMiB, int64_t{2047} * kMiB);
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const ServerConfig& config,
                                                              const ServiceParts& parts) {
  gpr_set_log_function(&OnGrpcLog);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<GrpcServer> server(new GrpcServer(parts));
  grpc::ServerBuilder builder;
  SetLimits(config, &builder);
  builder.RegisterService(&server->generation_);
  builder.RegisterService(&server->model_);
  int port = 0;
  builder.AddListeningPort(config.listen, grpc::InsecureServerCredentials(), &port);
  std::string log;
  bind_log = &log;
  server->server_ = builder.BuildAndStart();
  bind_log = nullptr;
  if (server->server_ == nullptr) {
    return absl::UnavailableError(BindFailure(config.listen, log));
  }
  server->address_ =
      absl::StartsWith(config.listen, "unix:")
          ? config.listen
          : absl::StrCat(config.listen.substr(0, config.listen.rfind(':')), ":", port);
  return server;
}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

void GrpcServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr || shut_down_) return;
  shut_down_ = true;
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
}

}  // namespace sluice
