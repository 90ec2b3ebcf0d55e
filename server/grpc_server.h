// The gRPC server: its services, limits and its port.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/generation_service.h"
#include "server/grpc_port.h"
#include "server/model_service.h"
#include "server/server_config.h"

namespace sluice {

class GrpcServer {
 public:
  // Listens. Unavailable: the address, and why it cannot be had.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const ServerConfig& config, const ServiceParts& parts,
      const std::shared_ptr<grpc::ServerCredentials>& credentials =
          grpc::InsecureServerCredentials());

  // Shuts down with no grace, unless it was shut down.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // "127.0.0.1:50051": with the port that was got, if 0 was asked for.
  const std::string& address() const { return port_->address(); }
  // 0 of a socket file. Before Shutdown.
  int port() const { return port_->port(); }
  ConnectionCounts Connections() { return port_->Counts(); }
  grpc::HealthCheckServiceInterface* health() const { return server_->GetHealthCheckService(); }

  // Takes no more calls; ends what is active after `grace`. Blocks until all reactors are gone.
  // health() lives on.
  void Shutdown(absl::Duration grace);

 private:
  explicit GrpcServer(const ServiceParts& parts) : generation_(parts), model_(parts) {}

  GenerationService generation_;
  ModelService model_;
  std::unique_ptr<GrpcPort> port_;
  std::unique_ptr<grpc::Server> server_;
  bool shut_down_ = false;
};

// Bytes of the largest message that a request within the limits can be; not less than gRPC's own
// default of 4 MiB, so that most of what is over a limit is told which one.
int64_t MaxReceiveBytes(const EngineConfig& config);

}  // namespace sluice
