// The connections that a load goes over.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/tls_options.h"

namespace sluice {

struct ServerOptions {
  std::string address = "127.0.0.1:50051";
  TlsOptions tls;
  std::string api_key_file;  // empty: no key is sent
  int64_t connections = 4;
  bool slow_readers = false;                        // opens a connection for them, besides
  absl::Duration connect_limit = absl::Seconds(5);  // until the server has its model
};

struct LoadChannels {
  std::vector<std::shared_ptr<grpc::Channel>> usual;
  // Here the server may send only a kilobyte ahead of what has been read, not the megabytes that
  // gRPC otherwise takes, so that a slow reader is felt. May be empty.
  std::vector<std::shared_ptr<grpc::Channel>> slow;
};

// Connected, each with a connection of its own, without gRPC's retries and proxies. Unavailable if
// the server is not there within the limit; NotFound or InvalidArgument name a file.
absl::StatusOr<LoadChannels> ConnectAll(const ServerOptions& options);

}  // namespace sluice
