#include "client/loadgen/server_channels.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int kReconnectBackoffMs = 100;
constexpr int kMaxReconnectBackoffMs = 1000;
constexpr int kSlowWindowBytes = 1024;

grpc::ChannelArguments Arguments(const ServerOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  arguments.SetMaxReceiveMessageSize(-1);
  if (!options.tls.server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls.server_name);
  }
  return arguments;
}

absl::Status AwaitConnection(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                             const ServerOptions& options) {
  const absl::Time deadline = absl::Now() + options.connect_limit;
  for (const auto& channel : channels) channel->GetState(/*try_to_connect=*/true);
  for (const auto& channel : channels) {
    if (channel->WaitForConnected(absl::ToChronoTime(deadline))) continue;
    return absl::UnavailableError(
        absl::StrCat("no connection to ", options.address, " within ",
                     absl::FormatDuration(options.connect_limit),
                     ": is a server there, and is it (or is it not) to be spoken to with TLS?"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadChannels> ConnectAll(const ServerOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(const auto credentials, TlsCredentials(options.tls));
  grpc::ChannelArguments arguments = Arguments(options);
  LoadChannels channels;
  for (int64_t i = 0; i < options.connections; ++i) {
    channels.usual.push_back(grpc::CreateCustomChannel(options.address, credentials, arguments));
  }
  SLUICE_RETURN_IF_ERROR(AwaitConnection(channels.usual, options));
  if (!options.slow_readers) return channels;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kSlowWindowBytes);
  channels.slow.push_back(grpc::CreateCustomChannel(options.address, credentials, arguments));
  SLUICE_RETURN_IF_ERROR(AwaitConnection(channels.slow, options));
  return channels;
}

}  // namespace sluice
