#include "client/tls_options.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 20;

absl::StatusOr<std::string> ReadPem(const char* option, const std::string& path) {
  if (path.empty()) return "";
  absl::StatusOr<std::string> content = ReadWholeFile(path, kMaxFileBytes);
  if (!content.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(option, ": ", content.status().message()));
  }
  if (!absl::StrContains(*content, "-----BEGIN ")) {
    return absl::InvalidArgumentError(absl::StrCat(option, ": ", path, " holds no PEM"));
  }
  return content;
}

}  // namespace

void AddTlsOptions(TlsOptions* options, OptionTable* table) {
  table->Flag("tls", &options->enabled, "Speak TLS with the server. Default: plaintext.");
  table->Text("tls-ca", "FILE", &options->ca,
              "With --tls: authorities that are believed, in PEM. Default: the system's.");
  table->Text("tls-cert", "FILE", &options->cert,
              "With --tls: this client's certificate, in PEM, for a server that asks for one.");
  table->Text("tls-key", "FILE", &options->key, "With --tls-cert: its private key, in PEM.");
  table->Text("tls-server-name", "NAME", &options->server_name,
              "With --tls: the name that the server's certificate must have. Default: the host of "
              "the address.");
}

std::string CheckTlsOptions(const TlsOptions& options) {
  const bool any = !options.ca.empty() || !options.cert.empty() || !options.key.empty() ||
                   !options.server_name.empty();
  if (any && !options.enabled) {
    return "--tls-ca, --tls-cert, --tls-key and --tls-server-name need --tls";
  }
  return options.cert.empty() != options.key.empty() ? "--tls-cert and --tls-key need each other"
                                                     : "";
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsCredentials(
    const TlsOptions& options) {
  if (!options.enabled) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions pem;
  SLUICE_ASSIGN_OR_RETURN(pem.pem_root_certs, ReadPem("--tls-ca", options.ca));
  SLUICE_ASSIGN_OR_RETURN(pem.pem_cert_chain, ReadPem("--tls-cert", options.cert));
  SLUICE_ASSIGN_OR_RETURN(pem.pem_private_key, ReadPem("--tls-key", options.key));
  return grpc::SslCredentials(pem);
}

}  // namespace sluice
