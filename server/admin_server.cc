#include "server/admin_server.h"

#include <grpc/impl/codegen/grpc_types.h>
#include <grpcpp/server_builder.h>

#include <utility>

#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

// For people and scripts, of which there are few.
constexpr int kMaxConnections = 64;
constexpr int kMaxStreams = 16;
constexpr int kMaxMessageBytes = 16 << 10;
constexpr int kHandshakeMs = 10'000;
constexpr int kIdleMs = 600'000;
constexpr absl::Duration kGrace = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(
    const std::string& address, AdminParts parts,
    const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  std::unique_ptr<AdminServer> server(new AdminServer(std::move(parts)));
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  builder.RegisterService(&server->service_);
  GrpcPortOptions options = {"--admin-listen", address, kMaxConnections};
  options.access = SocketAccess::kOwner;
  SLUICE_ASSIGN_OR_RETURN(server->port_, GrpcPort::Open(options, credentials, &builder));
  server->server_ = builder.BuildAndStart();
  SLUICE_CHECK(server->server_ != nullptr);
  // Before the first question: of itself gRPC says SERVING.
  server->health_->Add(server->server_->GetHealthCheckService());
  server->port_->StartAccepting();
  return server;
}

AdminServer::~AdminServer() {
  if (server_ == nullptr) return;
  health_->Remove(server_->GetHealthCheckService());
  port_->Close();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + kGrace));
  server_->Wait();
}

}  // namespace sluice
