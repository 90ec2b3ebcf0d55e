// The admin service's own gRPC server and port. It answers grpc.health.v1, too, as the main one
// does: for probes that cannot speak TLS.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/admin_service.h"
#include "server/grpc_port.h"

namespace sluice {

class AdminServer {
 public:
  // Listens on `address`, host:port or unix:path; a socket file is its owner's alone. Unavailable:
  // the address, and why it cannot be had.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(
      const std::string& address, AdminParts parts,
      const std::shared_ptr<grpc::ServerCredentials>& credentials);

  // Ends what is active, which never takes long.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // With the port that was got, if 0 was asked for.
  const std::string& address() const { return port_->address(); }

 private:
  explicit AdminServer(AdminParts parts) : health_(parts.health), service_(std::move(parts)) {}

  Health* const health_;
  AdminService service_;
  std::unique_ptr<GrpcPort> port_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sluice
