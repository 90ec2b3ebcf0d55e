// TLS for servers, with files that are read again when they change: new connections get the new
// certificate, those that are open go on. TLS 1.2 and 1.3.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/certificate.h"
#include "server/file_watch.h"

namespace sluice {

// Thread-safe.
class Tls {
 public:
  // Reads the files, and looks at them every `reload_interval`. `on_reload` is told of every change
  // that was read, and of every one that could not be used: the last that could stays in use. Not
  // OK: as ReadCertificate.
  static absl::StatusOr<std::unique_ptr<Tls>> Open(
      const CertificateFiles& files, absl::Duration reload_interval,
      std::function<void(const absl::StatusOr<absl::Time>& expires)> on_reload);

  // For one port of a server, which this outlives. The port's connections must all be accepted by
  // one thread: gRPC exchanges the certificate as it accepts one, without a lock.
  std::shared_ptr<grpc::ServerCredentials> NewCredentials();

  // Of the certificate in use.
  absl::Time expires() const { return Current()->expires; }

 private:
  // What one port shows by now.
  struct Port {
    Tls* tls;
    std::shared_ptr<const Certificate> shown;
  };
  class Credentials;

  explicit Tls(CertificateFiles files) : files_(std::move(files)) {}

  std::shared_ptr<const Certificate> Current() const;
  void Reload();

  const CertificateFiles files_;
  std::function<void(const absl::StatusOr<absl::Time>&)> on_reload_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Certificate> current_;  // guarded by mutex_
  std::list<Port> ports_;                       // guarded by mutex_; each its port's own
  std::unique_ptr<FileWatch> watch_;            // last: it uses the rest
};

}  // namespace sluice
