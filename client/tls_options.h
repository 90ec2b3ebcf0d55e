// How a server is spoken to over TLS: the options, and the credentials that they make.
#pragma once

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/options.h"

namespace sluice {

struct TlsOptions {
  bool enabled = false;  // else plaintext, and nothing below may be set
  std::string ca;        // PEM file of the authorities that are believed; empty: the system's
  std::string cert;      // PEM files of this client's certificate and its key; empty: none
  std::string key;
  std::string server_name;  // that the server's certificate must have; empty: the address's
};

// Adds --tls, --tls-ca, --tls-cert, --tls-key and --tls-server-name. `options` outlives the table.
void AddTlsOptions(TlsOptions* options, OptionTable* table);

// Says what contradicts itself in the options; empty if nothing does.
std::string CheckTlsOptions(const TlsOptions& options);

// Reads the files. InvalidArgument: names the option and the file that cannot be read, or holds no
// PEM.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsCredentials(const TlsOptions& options);

}  // namespace sluice
