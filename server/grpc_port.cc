#include "server/grpc_port.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<GrpcPort>> GrpcPort::Open(
    const GrpcPortOptions& options, const std::shared_ptr<grpc::ServerCredentials>& credentials,
    grpc::ServerBuilder* builder) {
  std::unique_ptr<GrpcPort> port(new GrpcPort);
  SLUICE_ASSIGN_OR_RETURN(port->socket_,
                          ListenSocket::Open(options.flag, options.address, options.access));
  port->address_ = port->socket_->address();
  port->max_connections_ = options.max_connections;
  port->grpc_ = builder->experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  return port;
}

void GrpcPort::StartAccepting() {
  acceptor_ = std::make_unique<ConnectionAcceptor>(
      socket_->descriptors(), max_connections_, [this](int listener, int descriptor) {
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
        connection.listener_fd = listener;
        connection.fd = descriptor;
        grpc_->HandleNewConnection(&connection);
      });
}

void GrpcPort::Close() {
  if (acceptor_ != nullptr) acceptor_->Stop();
  socket_ = nullptr;
}

ConnectionCounts GrpcPort::Counts() {
  return acceptor_ == nullptr ? ConnectionCounts{} : acceptor_->Counts();
}

}  // namespace sluice
