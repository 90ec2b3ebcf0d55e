#include "server/certificate.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<&BIO_free>>;
using X509Pointer = std::unique_ptr<X509, Freed<&X509_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Freed<&EVP_PKEY_free>>;
using ContextPointer = std::unique_ptr<SSL_CTX, Freed<&SSL_CTX_free>>;

// A file by the flag that names it.
struct NamedFile {
  const char* flag;
  const std::string& path;
};

absl::Status Problem(const NamedFile& file, const std::string& what) {
  return absl::FailedPreconditionError(absl::StrCat(file.flag, "=", file.path, ": ", what));
}

absl::StatusOr<std::string> ReadAll(const NamedFile& file) {
  errno = 0;
  std::ifstream in(file.path, std::ios::binary);
  std::string content(kMaxFileBytes + 1, '\0');
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (!in.eof() && errno != 0) {
    return Problem(file, absl::StrCat("cannot be read: ", std::strerror(errno)));
  }
  content.resize(static_cast<size_t>(in.gcount()));
  if (content.size() <= kMaxFileBytes) return content;
  return Problem(file, absl::StrCat("is larger than ", kMaxFileBytes, " bytes"));
}

Bio NewBio(const std::string& content) {
  return Bio(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
}

std::vector<X509Pointer> ParseCertificates(const std::string& content) {
  std::vector<X509Pointer> certificates;
  const Bio bio = NewBio(content);
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate);
  }
  return certificates;
}

absl::Time ExpiryOf(const X509& certificate) {
  std::tm when{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &when) != 1) return absl::InfinitePast();
  return absl::FromTM(when, absl::UTCTimeZone());
}

// When the first of the chain expires.
absl::StatusOr<absl::Time> CheckExpiry(const NamedFile& file, const std::vector<X509Pointer>& chain,
                                       absl::Time now) {
  absl::Time first = absl::InfiniteFuture();
  for (const X509Pointer& certificate : chain) first = std::min(first, ExpiryOf(*certificate));
  if (first > now) return first;
  return Problem(file, absl::StrCat("expired at ", absl::FormatTime(first, absl::UTCTimeZone())));
}

// Tries them out as a server would.
absl::Status CheckPair(const NamedFile& cert, X509* certificate, const NamedFile& key,
                       const std::string& key_pem) {
  const Bio bio = NewBio(key_pem);
  // The empty password keeps OpenSSL from asking a terminal for one.
  char no_password[] = "";
  const KeyPointer parsed(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, no_password));
  if (parsed == nullptr) {
    return Problem(key, "holds no private key in PEM that can be read without a password");
  }
  const ContextPointer context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate(context.get(), certificate) != 1) {
    const char* reason = ERR_reason_error_string(ERR_peek_last_error());
    return Problem(cert,
                   absl::StrCat("not usable for TLS: ", reason == nullptr ? "unknown" : reason));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), parsed.get()) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return Problem(key, absl::StrCat("not the key of the certificate in ", cert.path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Certificate> ReadCertificate(const CertificateFiles& files, absl::Time now) {
  const absl::Cleanup forget_errors = [] { ERR_clear_error(); };
  const NamedFile cert = {"--tls-cert", files.cert};
  const NamedFile key = {"--tls-key", files.key};
  const NamedFile client_ca = {"--tls-client-ca", files.client_ca};
  Certificate result;
  SLUICE_ASSIGN_OR_RETURN(result.cert, ReadAll(cert));
  SLUICE_ASSIGN_OR_RETURN(result.key, ReadAll(key));
  const std::vector<X509Pointer> chain = ParseCertificates(result.cert);
  if (chain.empty()) return Problem(cert, "holds no certificate in PEM");
  SLUICE_ASSIGN_OR_RETURN(result.expires, CheckExpiry(cert, chain, now));
  SLUICE_RETURN_IF_ERROR(CheckPair(cert, chain.front().get(), key, result.key));
  if (files.client_ca.empty()) return result;
  SLUICE_ASSIGN_OR_RETURN(result.client_ca, ReadAll(client_ca));
  if (ParseCertificates(result.client_ca).empty()) {
    return Problem(client_ca, "holds no certificate in PEM");
  }
  return result;
}

}  // namespace sluice
