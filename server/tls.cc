#include "server/tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {

// gRPC's C++ side can reload files, but takes whatever they hold; its C side asks for what to show.
class Tls::Credentials final : public grpc::ServerCredentials {
 public:
  Credentials(Port* port, bool asks_for_certificates)
      : credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                asks_for_certificates ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                &Fetch, port))) {
    SLUICE_CHECK(credentials_ != nullptr);
  }
  ~Credentials() override { grpc_server_credentials_release(credentials_); }
  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {
    SLUICE_CHECK(false);  // nobody asks for it
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // Asked at the start and before each handshake, by one thread at a time.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* user_data, grpc_ssl_server_certificate_config** config) {
    auto* port = static_cast<Port*>(user_data);
    std::shared_ptr<const Certificate> current = port->tls->Current();
    if (current == port->shown) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {current->key.c_str(), current->cert.c_str()};
    // gRPC insists on authorities, also where no client is asked for a certificate: those that are
    // then named stand for nothing.
    const std::string& roots = current->client_ca.empty() ? current->cert : current->client_ca;
    *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    port->shown = std::move(current);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  grpc_server_credentials* const credentials_;
};

absl::StatusOr<std::unique_ptr<Tls>> Tls::Open(
    const CertificateFiles& files, absl::Duration reload_interval,
    std::function<void(const absl::StatusOr<absl::Time>&)> on_reload) {
  std::unique_ptr<Tls> tls(new Tls(files));
  tls->on_reload_ = std::move(on_reload);
  std::vector<std::string> paths = {files.cert, files.key};
  if (!files.client_ca.empty()) paths.push_back(files.client_ca);
  // Before they are read, so that no change is missed in between.
  const std::unique_lock<std::mutex> lock(tls->mutex_);
  tls->watch_ =
      std::make_unique<FileWatch>(paths, reload_interval, [tls = tls.get()] { tls->Reload(); });
  SLUICE_ASSIGN_OR_RETURN(Certificate certificate, ReadCertificate(files, absl::Now()));
  tls->current_ = std::make_shared<const Certificate>(std::move(certificate));
  return tls;
}

std::shared_ptr<grpc::ServerCredentials> Tls::NewCredentials() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ports_.push_back({this, nullptr});
  return std::make_shared<Credentials>(&ports_.back(), !files_.client_ca.empty());
}

std::shared_ptr<const Certificate> Tls::Current() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return current_;
}

void Tls::Reload() {
  absl::StatusOr<Certificate> read = ReadCertificate(files_, absl::Now());
  if (!read.ok()) return on_reload_(read.status());
  const absl::Time expires = read->expires;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_ = std::make_shared<const Certificate>(*std::move(read));
  }
  on_reload_(expires);
}

}  // namespace sluice
