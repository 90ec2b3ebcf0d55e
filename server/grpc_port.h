// Where a gRPC server is reached: a listening socket with an acceptor of our own before gRPC.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/connection_acceptor.h"
#include "server/listen_socket.h"

namespace sluice {

struct GrpcPortOptions {
  std::string flag;     // whose value the address is
  std::string address;  // as ListenSocket::Open takes it
  int32_t max_connections;
  SocketAccess access = SocketAccess::kUmask;
};

class GrpcPort {
 public:
  // Listens, and adds the port to a server that is being built. Unavailable: as ListenSocket::Open.
  static absl::StatusOr<std::unique_ptr<GrpcPort>> Open(
      const GrpcPortOptions& options, const std::shared_ptr<grpc::ServerCredentials>& credentials,
      grpc::ServerBuilder* builder);

  // Once, after the server was started; until then connections wait.
  void StartAccepting();
  // Before the server is shut down. Blocks until no connection is being handed over.
  void Close();

  // With the port that was got, if 0 was asked for. Lives on after Close.
  const std::string& address() const { return address_; }
  // 0 of a socket file. Not after Close.
  int port() const { return socket_->port(); }
  // Zeros before StartAccepting.
  ConnectionCounts Counts();

 private:
  GrpcPort() = default;

  std::string address_;
  int32_t max_connections_ = 0;
  std::unique_ptr<ListenSocket> socket_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> grpc_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

}  // namespace sluice
