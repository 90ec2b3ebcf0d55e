// The certificate that a server shows, its key, and whose clients it takes: read and checked.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice {

// Paths, by the flags that give them.
struct CertificateFiles {
  std::string cert;       // --tls-cert
  std::string key;        // --tls-key
  std::string client_ca;  // --tls-client-ca; empty: clients need no certificate
};

// What they hold, in PEM.
struct Certificate {
  std::string cert;  // with its chain
  std::string key;
  std::string client_ca;
  absl::Time expires;  // the first of the chain to expire
};

// Reads the files. Not OK if one cannot be read or holds nothing of its kind, if the key is not the
// certificate's or too weak for TLS, or if one of the chain has expired as of `now`: the message
// names the flag and the file.
absl::StatusOr<Certificate> ReadCertificate(const CertificateFiles& files, absl::Time now);

}  // namespace sluice
