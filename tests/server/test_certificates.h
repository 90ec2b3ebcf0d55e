// Certificates for tests, made when they are needed.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>

#include "absl/time/time.h"

namespace sluice {

// In PEM.
struct KeyPair {
  std::string cert;
  std::string key;
};

// Signs certificates. Every key is on P-256, unless it is said to be weak.
class TestAuthority {
 public:
  TestAuthority();
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  const std::string& pem() const { return pem_; }

  // For `name`, localhost and 127.0.0.1; expires after `valid`, which may be negative.
  KeyPair Issue(const std::string& name, absl::Duration valid = absl::Hours(1)) const;
  // With an RSA key of 512 bits.
  KeyPair IssueWeak(const std::string& name) const;

 private:
  KeyPair IssueFor(EVP_PKEY* key, const std::string& name, absl::Duration valid) const;

  EVP_PKEY* key_;
  X509* certificate_;
  std::string pem_;
};

// Writes a file anew in one step, as careful programs do.
void ReplaceFile(const std::string& path, const std::string& content);

// What a TLS client sees that connects to `address`.
struct Handshake {
  bool ok = false;
  std::string version;  // "TLSv1.3"
  std::string name;     // of the server's certificate
};

struct HandshakeOptions {
  int max_version = 0;              // of OpenSSL; 0: the newest
  const KeyPair* client = nullptr;  // shown to the server
};

Handshake ShakeHands(const std::string& address, const HandshakeOptions& options = {});

}  // namespace sluice
