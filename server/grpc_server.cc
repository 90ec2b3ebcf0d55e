#include "server/grpc_server.h"

#include <grpc/compression.h>
#include <grpc/impl/codegen/grpc_types.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "kernels/check.h"
#include "server/log.h"
#include "server/log_limit.h"

namespace sluice {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kIdBytes = 5;  // the longest varint of a uint32
constexpr int kMinClientPingMs = 5'000;
constexpr int64_t kGrpcLinesPerSecond = 10;
// A ping that is not answered for this long, or for as long as the interval of pings if that is
// less, ends its connection.
constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(20);

void OnGrpcLog(gpr_log_func_args* args) {
  if (args->severity != GPR_LOG_SEVERITY_ERROR) {
    Log(LogLevel::kDebug, "grpc", LogFields().Add("message", args->message));
    return;
  }
  // Most of these are about what a stranger sent.
  static auto& limit = *new LogLimit(kGrpcLinesPerSecond);
  const std::optional<int64_t> left_out = limit.Take(absl::Now());
  if (!left_out.has_value()) return;
  LogFields fields;
  fields.Add("message", args->message);
  if (*left_out > 0) fields.Add("left_out", *left_out);
  Log(LogLevel::kWarning, "grpc", fields);
}

// An infinite duration is INT_MAX, which gRPC takes for none.
int Milliseconds(absl::Duration duration) {
  return static_cast<int>(
      std::min<int64_t>(absl::ToInt64Milliseconds(duration), std::numeric_limits<int>::max()));
}

// gRPC's reflection plugs itself into every server of a process that is linked with it.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [](const auto& plugin) {
                                    return plugin->name() == "proto_server_reflection";
                                  }),
                   plugins->end());
  }
};

void SetLimits(const ServerConfig& config, grpc::ServerBuilder* builder) {
  const int64_t max_receive =
      config.max_message_bytes > 0 ? config.max_message_bytes : MaxReceiveBytes(config.engine);
  builder->SetMaxReceiveMessageSize(static_cast<int>(max_receive));
  // A few bytes can inflate to any size before a limit is looked at, so nothing is inflated.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_streams);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, config.max_metadata_bytes);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                              Milliseconds(config.max_connection_idle));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                              Milliseconds(config.max_connection_age));
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                              Milliseconds(config.handshake_limit));
  // Clients may ping every 10 s, also without a call, as proxies and Python's defaults do.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinClientPingMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(config.keepalive));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                              Milliseconds(std::min(config.keepalive, kKeepaliveTimeout)));
  grpc::ResourceQuota quota("sluice");
  quota.Resize(static_cast<size_t>(std::max(512 * kMiB, 4 * max_receive)));
  builder->SetResourceQuota(quota);
}

}  // namespace

int64_t MaxReceiveBytes(const EngineConfig& config) {
  const int64_t prompt = std::max(config.max_text_bytes, kIdBytes * config.max_prompt_tokens);
  return std::clamp(prompt + kMiB, 4 * kMiB, int64_t{2047} * kMiB);
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const ServerConfig& config, const ServiceParts& parts,
    const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  gpr_set_log_function(&OnGrpcLog);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<GrpcServer> server(new GrpcServer(parts));
  grpc::ServerBuilder builder;
  SetLimits(config, &builder);
  if (!config.reflection) builder.SetOption(std::make_unique<NoReflection>());
  builder.RegisterService(&server->generation_);
  builder.RegisterService(&server->model_);
  SLUICE_ASSIGN_OR_RETURN(
      server->port_,
      GrpcPort::Open({"--listen", config.listen, config.max_connections}, credentials, &builder));
  server->server_ = builder.BuildAndStart();
  SLUICE_CHECK(server->server_ != nullptr);
  server->server_->GetHealthCheckService()->SetServingStatus(false);  // gRPC begins with true
  server->port_->StartAccepting();
  return server;
}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

void GrpcServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr || shut_down_) return;
  shut_down_ = true;
  port_->Close();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
}

}  // namespace sluice
